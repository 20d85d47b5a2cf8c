"""What an assignment leaves: a table, the features and a page, each written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..features.saved import save_features
from ..files import csv_text, replacing, visible, writing
from ..labels import Labeler
from .assignment import OUTLIER, Identities, compare_with_centroids
from .crops import Crops
from .page import write_page
from .tracks import write_tracks

__all__ = ["COLUMNS", "write_csv", "write_identities", "write_unreadable"]

COLUMNS = ("path", "camera", "identity", "similarity", "runner_up", "runner_up_similarity")


def write_csv(path: str | Path, paths: Sequence[str], cameras: Sequence[str], identities: Identities) -> None:
    """Writes one line per image in the order given: ``path, camera, identity, similarity, runner_up, ...``.

    The identity is a number or ``outlier``. What does not exist (an outlier's similarity, the runner-up where there is
    a single identity) is empty. Odd names are written as :func:`~hhcl_torchreid.files.csv_text` says.

    Args:
        path: the CSV file, UTF-8.
        paths: of the images.
        cameras: name of each image's camera.
        identities: of the same images.

    Raises:
        InputError: it cannot be written.
    """
    rows = []
    for image, camera, identity, similarity, runner_up, runner_up_similarity in zip(
        paths,
        cameras,
        identities.identity.tolist(),
        identities.similarity.tolist(),
        identities.runner_up.tolist(),
        identities.runner_up_similarity.tolist(),
        strict=True,
    ):
        row = (PurePosixPath(image), camera, "outlier" if identity == OUTLIER else identity, _number(similarity))
        rows.append((*row, "" if runner_up == OUTLIER else runner_up, _number(runner_up_similarity)))
    with replacing(path, option="the folder of the results") as file:
        file.write(csv_text(COLUMNS, rows))


def _number(value: float) -> str:
    return "" if value != value else f"{value:.4f}"


def write_unreadable(folder: str | Path, paths: Sequence[str]) -> None:
    """Writes ``unreadable.txt``, one path a line; without any path, removes that of an earlier assignment.

    What cannot be printed, a line break among them, is written with backslash escapes.

    Args:
        folder: of the results.
        paths: of image files that could not be read.

    Raises:
        InputError: it cannot be written.
    """
    path = Path(folder, "unreadable.txt")
    if paths:
        with replacing(path, option="the folder of the results") as file:
            file.write("".join(f"{visible(name)}\n" for name in paths))
    else:
        with writing(path, option="the folder of the results"):
            path.unlink(missing_ok=True)


def write_identities(folder: str | Path, crops: Crops, labeler: Labeler) -> Identities:
    """Clusters crops; writes ``identities.csv``, ``features.npz``, a page, and where tracks are known ``tracks.csv``.

    Args:
        folder: where the results go; it is there (:func:`~hhcl_torchreid.files.check_folder`).
        crops: the images and their features.
        labeler: with the settings of the clustering.

    Returns:
        The identities.

    Raises:
        InputError: the features are not finite unit rows, or the folder cannot be written.
    """
    save_features(Path(folder, "features.npz"), crops.features, crops.paths, dict(labeler.settings))
    identities = compare_with_centroids(crops.features, labeler(crops.features, crops.images))
    write_csv(Path(folder, "identities.csv"), crops.paths, crops.cameras, identities)
    write_tracks(Path(folder, "tracks.csv"), crops, identities)
    shown = {name: _shown(value) for name, value in labeler.settings.items()}
    write_page(folder, crops.root, crops.paths, crops.sightings, identities, shown)
    return identities


def _shown(value: Any) -> Any:
    return " ".join(f"{number:g}" for number in value) if isinstance(value, (list, tuple)) else value
