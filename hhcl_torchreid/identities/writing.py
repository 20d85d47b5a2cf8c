"""What an assignment leaves: a table, the features and a page, each written whole or not at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.corrections import Correction
from ..features.saved import save_features
from ..files import csv_text, replacing, visible, writing
from ..labels import CorrectedLabeler, Labeler
from ..log import answer
from .assignment import OUTLIER, Identities, compare_with_centroids
from .crops import Crops
from .joining import JoiningLabeler
from .numbers import find_changes, keep_numbers, load_earlier, table_of_changes, write_changes
from .page import write_page
from .questions import find_questions
from .tracks import write_tracks

__all__ = ["COLUMNS", "write_csv", "write_identities", "write_names", "write_tables_and_page", "write_unreadable"]

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


def write_identities(
    folder: str | Path, crops: Crops, labeler: Labeler, joining: JoiningLabeler | None = None
) -> Identities:
    """Clusters crops; writes ``identities.csv``, ``features.npz``, a page, and where tracks are known ``tracks.csv``.

    Identities that the folder, or what new images join, knows already keep their numbers; what has become of them is
    printed and goes to ``changes.csv``. Names that people have given go to ``names.csv``.

    Args:
        folder: where the results go; it is there (:func:`~hhcl_torchreid.files.check_folder`).
        crops: the images and their features.
        labeler: with the settings of the clustering, and corrections.
        joining: the part of the labeler by which new images join old ones, if they do.

    Returns:
        The identities.

    Raises:
        InputError: the features are not finite unit rows, or the folder cannot be written.
    """
    earlier = joining.earlier if joining else load_earlier(folder)
    is_first = earlier is None or not (joining or earlier.knows_any(crops.paths))
    settings = dict(labeler.settings)
    labels = labeler(crops.features, crops.images).cpu()
    numbers, next_identity, changes = labels, int(labels.max()) + 1, []
    if earlier and not is_first:
        before = joining.identities if joining else earlier.of(crops.paths)
        numbers, next_identity = keep_numbers(labels, before, earlier.next_identity)
        # New images may come without the old ones, which have not vanished for that.
        sizes_before = Counter(before.tolist() if joining else earlier.identity.values())
        changes = find_changes(numbers.numpy(), before, sizes_before)
    save_features(Path(folder, "features.npz"), crops.features, crops.paths, settings, crops.model, next_identity)
    identities = compare_with_centroids(crops.features, numbers)
    write_changes(Path(folder, "changes.csv"), changes, is_first)
    answers = labeler.answers if isinstance(labeler, CorrectedLabeler) else None
    names = answers.names_of(crops.paths, numbers.tolist()) if answers else {}
    write_tables_and_page(folder, crops, identities, names, labeler.settings, answers.rows if answers else ())
    if changes:
        answer(f"=> Since the earlier assignment\n{table_of_changes(changes)}")
    return identities


def write_tables_and_page(
    folder: str | Path,
    crops: Crops,
    identities: Identities,
    names: Mapping[int, str],
    settings: Mapping[str, Any],
    answers: Sequence[Correction] = (),
) -> None:
    """Writes ``identities.csv``, ``tracks.csv``, ``names.csv`` and the page.

    Args:
        folder: of the results.
        crops: the images.
        identities: of the same images.
        names: of identities that have one.
        settings: of the clustering, which the page shows.
        answers: of people, that the identities respect; none replaces another.

    Raises:
        InputError: the folder cannot be written.
    """
    write_csv(Path(folder, "identities.csv"), crops.paths, crops.cameras, identities)
    write_tracks(Path(folder, "tracks.csv"), crops, identities)
    write_names(Path(folder, "names.csv"), names)
    shown = {name: _shown(value) for name, value in settings.items()}
    given = [answer[:4] for answer in answers]
    questions = find_questions(crops.features, identities, crops.images)
    write_page(folder, crops.root, crops.paths, crops.sightings, identities, shown, given, questions)


def write_names(path: str | Path, names: Mapping[int, str]) -> None:
    """Writes what people call identities, ``identity, name``; without any name, no file.

    Args:
        path: the CSV file.
        names: of identities.

    Raises:
        InputError: it cannot be written.
    """
    if not names:
        with writing(path, option="the folder of the results"):
            Path(path).unlink(missing_ok=True)
        return
    with replacing(path, option="the folder of the results") as file:
        file.write(csv_text(("identity", "name"), sorted(names.items())))


def _shown(value: Any) -> Any:
    return " ".join(f"{number:g}" for number in value) if isinstance(value, (list, tuple)) else value
