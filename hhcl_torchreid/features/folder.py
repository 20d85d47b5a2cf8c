"""The features of a folder of images, kept on disk and brought up to date when files or the model change."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..clustering.neighbors import check_features
from ..data.folder import find_images, find_others
from ..errors import InputError
from ..files import expanded, replacing
from .extractor import FeatureExtractor
from .saved import open_arrays

__all__ = ["BY_CAMERA", "FolderFeatures", "beside", "by_camera_in_folder", "features_of_folder"]

logger = logging.getLogger(__name__)


BY_CAMERA = "features-by-camera"
"""The kind of features that :func:`by_camera_in_folder` keeps."""


class FolderFeatures(NamedTuple):
    """A folder's images and their features."""

    paths: list[Path]
    """Of the N images that can be read, sorted."""
    features: Tensor
    """(N, D) float32 unit rows on the extractor's device."""
    unreadable: list[Path]
    """Files that are named like images and are none, and images of a kind that is not read."""
    num_extracted: int
    """Images whose features had to be computed; the others' were on disk."""
    kept_in: Path | None
    """The file that keeps the features; None where no place for it can be written."""
    model: str = ""
    """What made them, in words: the network's name and the beginning of what tells its weights from others'."""


class _Kept(NamedTuple):
    """What the file holds; the first four arrays have a row per image file, readable or not."""

    names: np.ndarray
    """(F,) text, paths relative to the folder."""
    states: np.ndarray
    """(F, 2) int64, size in bytes and time of the last change in nanoseconds."""
    readable: np.ndarray
    """(F,) bool."""
    features: np.ndarray
    """(F, D) float32; zeros where a file cannot be read."""
    model: np.ndarray
    """The fingerprint of what made them, text."""


def features_of_folder(
    folder: str | os.PathLike[str], extractor: FeatureExtractor, description: str = "extract features"
) -> FolderFeatures:
    """Gives the features of all images in a folder, at any depth; extracts only what is not on disk yet.

    The features are kept in ``FOLDER.features.npz`` beside the folder, or where that cannot be written, in the user's
    cache folder (``$XDG_CACHE_HOME/hhcl_torchreid``). A file whose size and time of change are the same counts as
    unchanged; another model, or other settings of it, makes all features anew.

    Args:
        folder: of the images.
        extractor: makes the features.
        description: what the progress bar says.

    Returns:
        Images and features.

    Raises:
        InputError: no such folder, no image in it that can be read, or a model whose features are no numbers.
    """
    root = expanded(folder)
    paths = find_images(root)
    names = np.array([path.relative_to(root).as_posix() for path in paths], dtype=np.str_)
    states = np.array([_state(path) for path in paths], dtype=np.int64).reshape(-1, 2)
    fingerprint, places = _digest(extractor), _places(root)
    kept_in, known = _read_first(places, fingerprint, extractor.model.feature_dim)

    source = _unchanged(known, names, states)
    is_known, changed = source >= 0, np.flatnonzero(source < 0)
    features = np.zeros((len(paths), extractor.model.feature_dim), np.float32)
    readable = np.zeros(len(paths), bool)
    features[is_known], readable[is_known] = known.features[source[is_known]], known.readable[source[is_known]]
    known_from = kept_in or "nowhere"
    logger.debug(f"{root}: features of {is_known.sum()} of {len(paths)} images are known, from {known_from}")
    if len(changed):
        extracted, good = extractor.extract_readable([paths[row] for row in changed], description)
        if len(extracted):
            check_features(extracted)
        features[changed[good.numpy()]], readable[changed] = extracted.cpu().numpy(), good.numpy()
    if len(changed) or len(paths) != len(known.names):
        kept_in = _write_first(places, _Kept(names, states, readable, features, np.array(fingerprint))._asdict())
    if not readable.any():
        raise InputError(f"none of the {len(paths)} image files in {root} can be read: give a folder of whole images")
    return FolderFeatures(
        paths=[path for path, good in zip(paths, readable, strict=True) if good],
        features=torch.from_numpy(features[readable]).to(extractor.device),
        unreadable=[path for path, good in zip(paths, readable, strict=True) if not good] + find_others(root),
        num_extracted=len(changed),
        kept_in=kept_in,
        model=f"{extractor.model.name} {_digest(extractor, with_precision=False)[:8]}",
    )


def by_camera_in_folder(
    folder: str | os.PathLike[str],
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    features: Tensor,
    cameras: Sequence[str],
    num_batches: int,
) -> Tensor:
    """Gives features of a folder's images by their cameras' own batch-norm statistics, which depend on all of them.

    They are kept beside those of :func:`features_of_folder`, in ``FOLDER.features-by-camera.npz``, and made anew
    whenever an image comes, goes or changes.

    Args:
        folder: of the images.
        extractor: made the features.
        paths: of N images.
        features: (N, D) float32 unit rows, from :func:`features_of_folder`.
        cameras: the name of each image's.
        num_batches: see :meth:`FeatureExtractor.by_camera`; with 0, ``features`` stay.

    Returns:
        (N, D) float32 unit rows.

    Raises:
        InputError: as :meth:`FeatureExtractor.by_camera`.
    """
    if not num_batches:
        return features
    number_of = {name: number for number, name in enumerate(sorted(set(cameras)))}
    if len(number_of) < 2:
        logger.warning("=> All images are of one camera, or of unknown ones: camera_bn has no effect")
    of_files = [(os.fspath(path), *_state(path), camera) for path, camera in zip(paths, cameras, strict=True)]
    fingerprint = hashlib.sha256(os.fsencode(repr((_digest(extractor), num_batches, of_files)))).hexdigest()
    places = _places(expanded(folder), BY_CAMERA)
    for place in places:
        with contextlib.suppress(InputError), open_arrays(place) as arrays:
            kept = torch.from_numpy(np.asarray(arrays["features"]))
            if str(arrays["made_of"]) == fingerprint and kept.shape == features.shape:
                return check_features(kept).to(features.device)
    numbers = torch.tensor([number_of[camera] for camera in cameras])
    found = extractor.by_camera(paths, features, numbers, num_batches)
    if found is not features:
        _write_first(places, {"features": check_features(found).cpu().numpy(), "made_of": np.array(fingerprint)})
    return found


def beside(folder: str | os.PathLike[str], kind: str = "features") -> Path:
    """The file beside a folder that keeps its features."""
    resolved = expanded(folder).resolve()
    return resolved.parent / f"{resolved.name}.{kind}.npz"


def _places(folder: Path, kind: str = "features") -> list[Path]:
    """Where features of a kind may be kept, the best place first."""
    caches = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    in_cache = [caches / "hhcl_torchreid" / f"{digest}.{kind}.npz"] if caches.is_absolute() else []
    return [beside(folder, kind), *in_cache]


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a link that leads nowhere: unreadable for as long as it stays one
        return -1, -1
    return status.st_size, status.st_mtime_ns % 2**63  # some disks know of years beyond 2262


def _digest(extractor: FeatureExtractor, with_precision: bool = True) -> str:
    """Text that is another one whenever the features would be: of layers, weights, image settings and arithmetic."""
    settings: tuple[Any, ...] = (extractor.image_size, extractor.pixel_mean, extractor.pixel_std)
    settings += (extractor.embedder.precision,) * with_precision
    digest = hashlib.sha256(repr((extractor.model, settings)).encode("utf-8"))
    for name, value in extractor.model.state_dict().items():
        digest.update(name.encode("utf-8"))
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _unchanged(known: _Kept, names: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The row in ``known`` of each file that is as it was; -1 for the others."""
    rows = {name: row for row, name in enumerate(known.names.tolist())}
    source = np.array([rows.get(name, -1) for name in names.tolist()])
    is_there = np.flatnonzero(source >= 0)
    is_other = (known.states[source[is_there]] != states[is_there]).any(axis=1)
    source[is_there[is_other]] = -1
    return source


def _read_first(places: list[Path], fingerprint: str, feature_dim: int) -> tuple[Path | None, _Kept]:
    """The first file with features of this model; an empty one where there is none."""
    for place in places:
        try:
            with open_arrays(place) as arrays:
                kept = _Kept(*(np.asarray(arrays[field]) for field in _Kept._fields))
            if str(kept.model) == fingerprint and _is_sound(kept, feature_dim):
                return place, kept
        except InputError:  # no file, another kind of file, half of one, or features that are none
            continue
    nothing = np.empty(0)
    return None, _Kept(
        nothing.astype(np.str_),
        np.empty((0, 2), np.int64),
        nothing.astype(bool),
        np.empty((0, feature_dim), np.float32),
        np.array(""),
    )


def _is_sound(kept: _Kept, feature_dim: int) -> bool:
    """Whether the arrays fit together, and the features are unit rows."""
    num_files = kept.names.size
    forms = [
        (kept.names, (num_files,), np.str_),
        (kept.states, (num_files, 2), np.int64),
        (kept.readable, (num_files,), np.bool_),
        (kept.features, (num_files, feature_dim), np.float32),
    ]
    if not all(array.shape == shape and np.issubdtype(array.dtype, kind) for array, shape, kind in forms):
        return False
    if kept.readable.any():
        check_features(torch.from_numpy(kept.features[kept.readable]))
    return True


def _write_first(places: list[Path], arrays: Mapping[str, Any]) -> Path | None:
    """Writes to the first place that can be written, whole or not at all."""
    for place in places:
        try:
            with replacing(place, "wb") as file:
                np.savez(file, **arrays)
        except InputError:
            continue
        return place
    return None
