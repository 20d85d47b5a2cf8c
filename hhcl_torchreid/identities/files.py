"""What is kept of an assignment for other programs: ``identities.csv`` and ``features.npz``."""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files import csv_text, visible, writing
from .assignment import OUTLIER, Identities

__all__ = [
    "COLUMNS",
    "SavedFeatures",
    "load_features",
    "load_settings",
    "save_features",
    "write_csv",
    "write_unreadable",
]

COLUMNS = ("path", "camera", "identity", "similarity", "runner_up", "runner_up_similarity")


class SavedFeatures(NamedTuple):
    """What ``features.npz`` holds."""

    features: Tensor
    """(N, D) float32 unit rows."""
    paths: list[str]
    """Relative to the folder of the images, with ``/`` between folders."""


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
    with writing(path, option="the folder of the results"):
        Path(path).write_text(csv_text(COLUMNS, rows), encoding="utf-8", newline="")


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
    with writing(path, option="the folder of the results"):
        if paths:
            text = "".join(f"{visible(name)}\n" for name in paths)
            path.write_text(text, encoding="utf-8", newline="")
        else:
            path.unlink(missing_ok=True)


def save_features(
    path: str | Path, features: Tensor, paths: Sequence[str], settings: Mapping[str, Any] | None = None
) -> None:
    """Writes features and the paths they belong to; :func:`numpy.load` reads them without pickle.

    Args:
        path: the ``.npz`` file.
        features: ``(N, D)`` float32.
        paths: of the images, relative to their folder.
        settings: of their clustering, numbers by name.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps(dict(settings or {}))
    with writing(path, option="the folder of the results"), open(path, "wb") as file:
        np.savez(
            file,
            features=features.float().cpu().numpy(),
            paths=np.array(paths, dtype=np.str_),
            settings=np.array(text),
        )


def load_features(path: str | os.PathLike[str]) -> SavedFeatures:
    """Reads what :func:`save_features` wrote, or any ``.npz`` file with the arrays ``features`` and ``paths``.

    Args:
        path: the file.

    Returns:
        The features and their paths.

    Raises:
        InputError: no such file, another kind of file, or arrays that do not fit together.
    """
    with _opened(path) as arrays:
        features, paths = arrays["features"], arrays["paths"]
    if features.ndim != 2 or features.dtype.kind != "f" or paths.dtype.kind != "U" or paths.shape != (len(features),):
        raise InputError(
            f"{path} holds features {features.dtype} {features.shape} and paths {paths.dtype} {paths.shape}: there "
            "must be one row of floating-point numbers for each path"
        )
    return SavedFeatures(torch.from_numpy(features.astype(np.float32)), paths.tolist())


def load_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads how saved features were clustered last, and nothing else of the file.

    Args:
        path: as for :func:`load_features`.

    Returns:
        The settings by name; empty where the file does not say.

    Raises:
        InputError: no such file, or another kind of file.
    """
    with _opened(path) as arrays:
        settings = json.loads(str(arrays["settings"])) if "settings" in arrays else {}
    return settings if isinstance(settings, dict) else {}


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an ``.npz`` file, which are read when they are asked for."""
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist: give the features.npz of an earlier assignment")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    # numpy.load returns an array for a .npy file, which is no context manager, and refuses pickles with ValueError.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as features ({type(error).__name__}): give a .npz file with the arrays 'features' "
            "(images x dimensions) and 'paths' (text)"
        ) from error
