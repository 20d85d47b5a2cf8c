"""The features of a folder of images, kept on disk and brought up to date when files or the model change."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..clustering.neighbors import check_features
from ..data.folder import find_images
from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..files import writing

__all__ = ["Gallery", "beside", "load_gallery"]


class Gallery(NamedTuple):
    """A folder's images and their features."""

    paths: list[Path]
    """Of the N images that can be read."""
    features: np.ndarray
    """(N, D) float32 unit rows."""
    unreadable: list[Path]
    """Files that are named like images and are none."""
    num_extracted: int
    """Images whose features had to be computed; the others' were on disk."""
    cache: Path | None
    """The file that keeps the features; None where no place for it can be written."""


class _Cached(NamedTuple):
    """What a cache file holds; the first three arrays have a row per file, readable or not."""

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


def load_gallery(folder: str | os.PathLike[str], extractor: FeatureExtractor) -> Gallery:
    """Gives the features of all images in a folder, at any depth; extracts only what is not on disk yet.

    The features are kept in ``FOLDER.features.npz`` beside the folder, or where that cannot be written, in the user's
    cache folder (``$XDG_CACHE_HOME/hhcl_torchreid``). A file whose size and time of change are the same counts as
    unchanged; another model, or other settings of it, makes all features anew.

    Args:
        folder: the gallery.
        extractor: makes the features.

    Returns:
        The gallery.

    Raises:
        InputError: no such folder, no image in it that can be read, or a model whose features are no numbers.
    """
    root = Path(folder).expanduser()
    paths = find_images(root)
    names = np.array([path.relative_to(root).as_posix() for path in paths], dtype=np.str_)
    states = np.array([_state(path) for path in paths], dtype=np.int64).reshape(-1, 2)
    fingerprint = _fingerprint(extractor)
    places = _places(root)
    cache, known = _read_first(places, fingerprint, extractor.model.feature_dim)

    rows = {name: row for row, name in enumerate(known.names.tolist())}
    source = np.array([rows.get(name, -1) for name in names.tolist()])
    is_known = source >= 0
    is_known[is_known] = (known.states[source[is_known]] == states[is_known]).all(axis=1)
    features = np.zeros((len(paths), extractor.model.feature_dim), np.float32)
    readable = np.zeros(len(paths), bool)
    features[is_known], readable[is_known] = known.features[source[is_known]], known.readable[source[is_known]]

    changed = np.flatnonzero(~is_known)
    if len(changed):
        extracted, good = extractor.extract_readable([paths[row] for row in changed], "extract gallery features")
        if len(extracted):
            check_features(extracted)
        features[changed[good.numpy()]], readable[changed] = extracted.cpu().numpy(), good.numpy()
    if len(changed) or len(paths) != len(known.names):
        cache = _write_first(places, _Cached(names, states, readable, features, np.array(fingerprint)))
    if not readable.any():
        raise InputError(f"no image in {root} can be read: give a folder of images")
    return Gallery(
        paths=[path for path, good in zip(paths, readable, strict=True) if good],
        features=features[readable],
        unreadable=[path for path, good in zip(paths, readable, strict=True) if not good],
        num_extracted=len(changed),
        cache=cache,
    )


def beside(folder: str | os.PathLike[str]) -> Path:
    """The file beside a folder that keeps its features."""
    resolved = Path(folder).expanduser().resolve()
    return resolved.parent / f"{resolved.name}.features.npz"


def _places(folder: Path) -> list[Path]:
    """Where the features may be kept, the best place first."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return [beside(folder), caches / "hhcl_torchreid" / f"{digest}.features.npz"]


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a link that leads nowhere: unreadable for as long as it stays one
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _fingerprint(extractor: FeatureExtractor) -> str:
    """Text that is another one whenever the features would be: of the layers, the weights and the image settings."""
    digest = hashlib.sha256()
    digest.update(
        repr((extractor.model, extractor.image_size, extractor.pixel_mean, extractor.pixel_std)).encode("utf-8")
    )
    for name, value in extractor.model.state_dict().items():
        digest.update(name.encode("utf-8"))
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_first(places: list[Path], fingerprint: str, feature_dim: int) -> tuple[Path | None, _Cached]:
    """The first file with features of this model; an empty one where there is none."""
    for place in places:
        try:
            with np.load(place, allow_pickle=False) as arrays:
                cached = _Cached(*(arrays[field] for field in _Cached._fields))
        # What a file of another kind, or half of one, makes numpy.load raise.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
            continue
        if str(cached.model) == fingerprint and _fits_together(cached, feature_dim):
            return place, cached
    nothing = np.empty(0)
    return None, _Cached(
        nothing.astype(np.str_),
        np.empty((0, 2), np.int64),
        nothing.astype(bool),
        np.empty((0, feature_dim), np.float32),
        np.array(""),
    )


def _fits_together(cached: _Cached, feature_dim: int) -> bool:
    num_files = len(cached.names)
    return (
        cached.states.shape == (num_files, 2)
        and cached.readable.shape == (num_files,)
        and cached.readable.dtype == bool
        and cached.features.shape == (num_files, feature_dim)
    )


def _write_first(places: list[Path], cached: _Cached) -> Path | None:
    """Writes to the first place that can be written, whole or not at all."""
    for place in places:
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            with writing(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with open(temporary, "wb") as file:
                        np.savez(file, **cached._asdict())
                    os.replace(temporary, place)
                finally:
                    temporary.unlink(missing_ok=True)
        except InputError:
            continue
        return place
    return None
