"""What an assignment starts from: the images of a folder, their cameras and their features."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ..checkpoint import configuration_in, load_checkpoint
from ..config import get_default_config
from ..data.folder import find_images
from ..data.tracks import Sighting, find_sightings, warn_of_folders_like_tracks
from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..features.folder import by_camera_in_folder, features_of_folder
from ..features.saved import load_features, load_settings
from ..files import expanded
from ..labels import UNLIKE_CAMERAS, Images, camera_share

__all__ = ["BY_CAMERA", "Crops", "cluster_settings", "crops_from_features", "crops_from_images"]

logger = logging.getLogger(__name__)

BY_CAMERA = " by camera"
"""Behind the model that made features by each camera's own batch-norm statistics."""
CLUSTER_SETTINGS = ("eps", "min_samples", "k1", "k2", "tracks")


class Crops(NamedTuple):
    """Images of a folder that could be read, and what is known of each."""

    root: Path
    paths: list[str]
    """Relative to ``root``, with ``/`` between folders."""
    sightings: list[Sighting]
    features: Tensor
    """(N, D) float32 unit rows."""
    unreadable: list[str]
    """Relative paths of the other image files, and of those that a table of tracks does not name."""
    model: str = ""
    """What made the features, in words; empty where it is not known."""

    @property
    def cameras(self) -> list[str]:
        """The name of each image's camera."""
        return [sighting.camera for sighting in self.sightings]

    @property
    def images(self) -> Images:
        """The same as labelers take it."""
        number = {name: place for place, name in enumerate(sorted(set(self.cameras)))}
        cameras = [number[name] for name in self.cameras]
        return Images.of_sightings(self.paths, cameras, [0] * len(cameras), self.sightings)


def crops_from_images(
    extractor: FeatureExtractor,
    root: str | os.PathLike[str],
    camera_regex: str = "",
    track_regex: str = "",
    camera_bn: int | None = None,
) -> Crops:
    """Gives the features of all images in a folder, at any depth, as :func:`features_of_folder` keeps them.

    Args:
        extractor: the model.
        root: the folder.
        camera_regex: see :func:`~hhcl_torchreid.data.tracks.find_sightings`.
        track_regex: likewise.
        camera_bn: batches of each camera for its own batch-norm statistics in the features, see
            :func:`~hhcl_torchreid.features.features_by_camera`; 0 for those of the model. If None, the extractor's own.

    Returns:
        The images, sorted by path.

    Raises:
        InputError: no such folder, no image in it, none that can be read, what ``find_sightings`` refuses, or a
            ``camera_bn`` that the model does not allow.
    """
    root = expanded(root)
    images = find_images(root)
    sightings = find_sightings(images, root, camera_regex, track_regex)  # what fails is told before the work
    warn_of_folders_like_tracks(sightings, root)
    sighting_of = dict(zip(images, sightings, strict=True))
    found = features_of_folder(root, extractor)
    rows = [row for row, path in enumerate(found.paths) if sighting_of.get(path)]
    not_named = [path for path in found.paths if not sighting_of.get(path)]
    paths, unreadable = (
        [image.relative_to(root).as_posix() for image in images]
        for images in ([found.paths[row] for row in rows], found.unreadable + not_named)
    )
    known = [cast(Sighting, sighting_of[found.paths[row]]) for row in rows]
    features = found.features[torch.tensor(rows, device=found.features.device)]
    crops = Crops(root, paths, known, features, unreadable, found.model)
    num_batches = extractor.camera_bn if camera_bn is None else camera_bn
    aligned = by_camera_in_folder(
        root, extractor, [root / path for path in paths], features, crops.cameras, num_batches
    )
    if not num_batches and (share := camera_share(features, crops.images)) >= UNLIKE_CAMERAS:
        logger.info(
            f"=> Cameras make {share:.0%} of the differences between features: where that is their light and not who "
            "passes them, --camera-bn 8 tells people apart better"
        )
    return crops if aligned is features else crops._replace(features=aligned, model=found.model + BY_CAMERA)


def crops_from_features(
    path: str | os.PathLike[str], root: str | os.PathLike[str], camera_regex: str = "", track_regex: str = ""
) -> Crops:
    """Takes features that were extracted before, as ``features.npz`` of an assignment holds them.

    Args:
        path: the ``.npz`` file, with the arrays ``features`` and ``paths``.
        root: the folder that its paths are relative to.
        camera_regex: as for :func:`crops_from_images`.
        track_regex: likewise.

    Returns:
        The images, in the order of the file.

    Raises:
        InputError: no such file, another kind of file, images that are not there, or expressions as above.
    """
    root = expanded(root)
    saved = load_features(path)
    missing = [name for name in saved.paths if Path(name).is_absolute() or not (root / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(saved.paths)} images of {path} are not in {root}, such as {missing[0]!r}: set "
            "--root to the folder that the features were extracted from"
        )
    sightings = find_sightings([root / name for name in saved.paths], root, camera_regex, track_regex)
    return Crops(root, saved.paths, [seen or Sighting("") for seen in sightings], saved.features, [], saved.model)


def cluster_settings(
    weights: str | os.PathLike[str] | None = None, features: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """How images were clustered before: arguments of :class:`~hhcl_torchreid.PseudoLabeler`.

    Args:
        weights: a checkpoint, whose training clustered, or weights alone.
        features: in place of weights, ``features.npz`` of an earlier assignment.

    Returns:
        ``eps``, ``min_samples``, ``k1``, ``k2`` and ``tracks``; the defaults where the file does not say.

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
    return isinstance(value, str if name == "tracks" else int)
