"""What an assignment starts from: the images of a folder, their cameras and their features."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..checkpoint import configuration_in, load_checkpoint
from ..config import get_default_config
from ..data.folder import camera_names, find_images
from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..features.folder import features_of_folder
from ..features.saved import load_features, load_settings

__all__ = ["Crops", "cluster_settings", "crops_from_features", "crops_from_images"]

CLUSTER_SETTINGS = ("eps", "min_samples", "k1", "k2")


class Crops(NamedTuple):
    """Images of a folder that could be read, and what is known of each."""

    root: Path
    paths: list[str]
    """Relative to ``root``, with ``/`` between folders."""
    cameras: list[str]
    features: Tensor
    """(N, D) float32 unit rows."""
    unreadable: list[str]
    """Relative paths of the other image files."""


def crops_from_images(extractor: FeatureExtractor, root: str | os.PathLike[str], camera_regex: str = "") -> Crops:
    """Gives the features of all images in a folder, at any depth, as :func:`features_of_folder` keeps them.

    Args:
        extractor: the model.
        root: the folder.
        camera_regex: expression on the relative path whose first group is the camera; empty: the first folder level.

    Returns:
        The images, sorted by path.

    Raises:
        InputError: no such folder, no image in it, none that can be read, or an expression without a group or that
            does not match.
    """
    root = Path(root).expanduser()
    camera_names(find_images(root), root, camera_regex)  # an expression that fails is told before the work
    found = features_of_folder(root, extractor)
    paths, unreadable = (
        [image.relative_to(root).as_posix() for image in images] for images in (found.paths, found.unreadable)
    )
    return Crops(root, paths, camera_names(found.paths, root, camera_regex), found.features, unreadable)


def crops_from_features(path: str | os.PathLike[str], root: str | os.PathLike[str], camera_regex: str = "") -> Crops:
    """Takes features that were extracted before, as ``features.npz`` of an assignment holds them.

    Args:
        path: the ``.npz`` file, with the arrays ``features`` and ``paths``.
        root: the folder that its paths are relative to.
        camera_regex: as for :func:`crops_from_images`.

    Returns:
        The images, in the order of the file.

    Raises:
        InputError: no such file, another kind of file, images that are not there, or an expression as above.
    """
    root = Path(root).expanduser()
    saved = load_features(path)
    missing = [name for name in saved.paths if Path(name).is_absolute() or not (root / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(saved.paths)} images of {path} are not in {root}, such as {missing[0]!r}: set "
            "--root to the folder that the features were extracted from"
        )
    cameras = camera_names([root / name for name in saved.paths], root, camera_regex)
    return Crops(root, saved.paths, cameras, saved.features, [])


def cluster_settings(
    weights: str | os.PathLike[str] | None = None, features: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """How images were clustered before: arguments of :class:`~hhcl_torchreid.PseudoLabeler`.

    Args:
        weights: a checkpoint, whose training clustered, or weights alone.
        features: in place of weights, ``features.npz`` of an earlier assignment.

    Returns:
        ``eps``, ``min_samples``, ``k1`` and ``k2``; the defaults where the file does not say.

    Raises:
        InputError: no such file, no checkpoint, one whose configuration cannot be read, or no features.
    """
    default: Mapping[str, Any] = get_default_config().cluster
    stored: Mapping[str, Any] = load_settings(features) if features else {}
    if weights:
        cfg = configuration_in(load_checkpoint(weights), weights)
        stored = {} if cfg is None else cfg.cluster
    return {name: stored[name] if _is_setting(name, stored.get(name)) else default[name] for name in CLUSTER_SETTINGS}


def _is_setting(name: str, value: Any) -> bool:
    """Whether this could be the value; only eps may be several, and only it need not be whole."""
    if name == "eps":
        return all(isinstance(number, (int, float)) for number in (value if isinstance(value, list) else [value]))
    return isinstance(value, int)
