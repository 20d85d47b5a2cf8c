"""A whole assignment: features of a folder's images in; a table, the features and a page out."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import writing
from ..labels.clusters import PseudoLabeler
from .assignment import Identities, compare_with_centroids
from .files import save_features, write_csv
from .page import write_page

__all__ = ["check_folder", "write_identities"]


def check_folder(folder: str | Path, root: str | Path, option: str = "--out") -> None:
    """Makes the folder of the results, before any work is done for nothing.

    Args:
        folder: where the results will go.
        root: the folder of the images.
        option: the setting that chose the folder.

    Raises:
        InputError: it cannot be written, or lies where its thumbnails would be taken for images the next time.
    """
    if Path(folder).resolve().is_relative_to(Path(root).resolve()):
        raise InputError(
            f"{option} {folder} lies in the folder of the images, {root}, where its thumbnails would be taken for "
            "images the next time: choose a folder elsewhere"
        )
    with writing(folder, option=option):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write_identities(
    folder: str | Path,
    root: str | Path,
    paths: Sequence[str],
    cameras: Sequence[str],
    features: Tensor,
    labeler: PseudoLabeler,
) -> Identities:
    """Clusters features and writes ``identities.csv``, ``features.npz`` and a page, ``index.html`` with ``page/``.

    Args:
        folder: where the results go; it is there (:func:`check_folder`).
        root: the folder of the images.
        paths: of the images relative to ``root``, with ``/`` between folders.
        cameras: name of each image's camera.
        features: ``(N, D)`` float32 unit rows of the same images.
        labeler: with the settings of the clustering.

    Returns:
        The identities.

    Raises:
        InputError: the features are not finite unit rows, or the folder cannot be written.
    """
    settings = dict(labeler.settings)
    save_features(Path(folder, "features.npz"), features, paths, settings)
    identities = compare_with_centroids(features, labeler(features))
    write_csv(Path(folder, "identities.csv"), paths, cameras, identities)
    shown = {**settings, "eps": " ".join(f"{eps:g}" for eps in labeler.eps)}
    write_page(folder, root, paths, cameras, identities, shown)
    return identities
