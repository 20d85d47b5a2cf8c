"""Features in a file of their own, ``features.npz``, for other programs and the next assignment."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import TOO_LARGE, InputError, is_out_of_memory
from ..files import replacing

__all__ = ["SavedFeatures", "load_features", "load_settings", "open_arrays", "save_features"]


class SavedFeatures(NamedTuple):
    """What ``features.npz`` holds."""

    features: Tensor
    """(N, D) float32 unit rows."""
    paths: list[str]
    """Relative to the folder of the images, with ``/`` between folders."""
    model: str = ""
    """What made them, in words; empty where it is not known."""
    next_identity: int = 0
    """The lowest number that no identity of them has ever had."""


def save_features(
    path: str | Path,
    features: Tensor,
    paths: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    model: str = "",
    next_identity: int = 0,
) -> None:
    """Writes features and the paths they belong to; :func:`numpy.load` reads them without pickle.

    Args:
        path: the ``.npz`` file.
        features: ``(N, D)`` float32.
        paths: of the images, relative to their folder.
        settings: of their clustering, numbers by name.
        model: what made the features, in words.
        next_identity: the lowest number that no identity of them has ever had.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps(dict(settings or {}))
    with replacing(path, "wb", option="the folder of the results") as file:
        np.savez(
            file,
            features=features.float().cpu().numpy(),
            paths=np.array(paths, dtype=np.str_),
            settings=np.array(text),
            model=np.array(model),
            next_identity=np.array(next_identity),
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
    with open_arrays(path) as arrays:
        features, paths = (np.asarray(arrays[name]) for name in ("features", "paths"))  # bytes are no array
        _check_letters(paths)
        model = str(arrays["model"]) if "model" in arrays else ""
        next_identity = int(arrays["next_identity"]) if "next_identity" in arrays else 0
    if features.ndim != 2 or features.dtype.kind != "f" or paths.dtype.kind != "U" or paths.shape != (len(features),):
        raise InputError(
            f"{path} holds features {features.dtype} {features.shape} and paths {paths.dtype} {paths.shape}: there "
            "must be one row of floating-point numbers for each path"
        )
    return SavedFeatures(torch.from_numpy(features.astype(np.float32)), paths.tolist(), model, next_identity)


def _check_letters(names: np.ndarray) -> None:
    """Stops at numbers that are no letters: Python makes text of them that it then fails over."""
    if names.dtype.kind == "U" and names.nbytes:
        numbers = np.ascontiguousarray(names).view(np.dtype(np.uint32).newbyteorder(names.dtype.byteorder))
        if numbers.max() > sys.maxunicode:
            raise ValueError("numbers that are no letters")


def load_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads how saved features were clustered last, and nothing else of the file.

    Args:
        path: as for :func:`load_features`.

    Returns:
        The settings by name; empty where the file does not say.

    Raises:
        InputError: no such file, or another kind of file.
    """
    with open_arrays(path) as arrays:
        settings = json.loads(str(arrays["settings"])) if "settings" in arrays else {}
    return settings if isinstance(settings, dict) else {}


@contextmanager
def open_arrays(path: str | os.PathLike[str]) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an ``.npz`` file, whose arrays are read when they are asked for, and never run code.

    Args:
        path: the file.

    Raises:
        InputError: no such file, another kind of file, or an array that is not there.
    """
    if not os.path.isfile(path):
        what = "is no ordinary file" if os.path.lexists(path) else "does not exist"
        raise InputError(f"{path} {what}: give the features.npz of an earlier assignment")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    # An archive that is broken, or none, fails in any way its bytes suggest.
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(f"{path} cannot be read: {TOO_LARGE}") from error
        raise InputError(
            f"{path} cannot be read as features ({type(error).__name__}): give a .npz file with the arrays 'features' "
            "(images x dimensions) and 'paths' (text)"
        ) from error
