"""A folder of crops as a data set: without labels, but for those of a test set in it."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torchreid

from ...errors import InputError
from ...files import expanded
from ..folder import SUFFIXES, find_images, find_others
from ..screening import LeftOut, screen_images
from ..tracks import TABLE, Sighting, find_sightings, warn_of_folders_like_tracks
from .labelled_by_name import read_labels

__all__ = ["UNKNOWN_IDENTITY", "FolderOfCrops"]

logger = logging.getLogger(__name__)

UNKNOWN_IDENTITY = -(2**31)
"""Identity of an image without a label. So far below zero that it stays there when torchreid joins data sets, where the
identities of a later one are counted on from those of the one before."""

MARKET_NAME = r"(-?\d+)_c(\d+)"
IF_CAMERAS = ", or rename the folders if they are cameras: query and gallery together are read as a labelled test set"


class FolderOfCrops(torchreid.data.ImageDataset):
    """A folder of crops without labels, at any depth: ``root`` itself is the folder.

    If it holds both ``query`` and ``gallery``, those are a labelled test set, files named as Market-1501's are
    (``0001_c1s1_000151_01.jpg``; identity -1 is ignored, as there). The training images are then those in ``train`` if
    there is such a folder, else all others. Without both folders there is no test set: the modes query and gallery hold
    no data.

    Unreadable, tiny and duplicate training images are left out, see
    :func:`hhcl_torchreid.data.screening.screen_images`. Camera, track and frame of an image are told by
    :func:`~hhcl_torchreid.data.tracks.find_sightings`; with a ``crops.csv``, images that it does not name are left out.
    torchreid's data manager passes no settings on, so they are attributes of the class.

    Attributes:
        camera_regex (str): a regular expression whose first group names the camera; empty takes the first folder level
            below the folder that holds the training images.
        track_regex (str): likewise, with groups named ``camera``, ``track`` and ``frame``.
        sightings (dict): path of a training image -> its :class:`~hhcl_torchreid.data.tracks.Sighting`. Any data set
            may have this, to tell the engine of tracks.
        left_out (list of LeftOut): what the training set that was read last has left out.

    Raises:
        InputError: an empty folder, one without a usable image, an expression that finds no camera, or a test set whose
            files are not named by identity and camera or whose queries cannot be found in its gallery.
    """

    dataset_dir = ""
    camera_regex: ClassVar[str] = ""
    track_regex: ClassVar[str] = ""
    sightings: ClassVar[dict[str, Sighting]] = {}
    left_out: ClassVar[list[LeftOut]] = []
    _junk_pids: ClassVar[list[int]] = [0, -1]

    def __init__(self, root: str = "", mode: str = "train", combineall: bool = False, **kwargs: Any) -> None:
        folder = expanded(root)
        tests = [folder / "query", folder / "gallery"]
        query: list[tuple[str, int, int]] = []
        gallery: list[tuple[str, int, int]] = []
        if all(test.is_dir() for test in tests):
            query, gallery = _read_test_set(*tests)
        # torchreid asks every mode for all three; only one of them has to look into the training images.
        train = self._read_training_images(folder, tests if query else []) if mode == "train" else []
        # torchreid wants none of the three to be empty, not even where it joins data sets for training.
        stand_in = [("", UNKNOWN_IDENTITY, 0)]
        super().__init__(
            train or stand_in,
            query or stand_in,
            gallery or stand_in,
            mode=mode,
            combineall=combineall and bool(query),
            **{**kwargs, "verbose": False},
        )
        if mode != "train" and not query:
            self.data: list[tuple[str, int, int, int]] = []
        if mode == "train" and kwargs.get("verbose", True):
            self.show_summary()
            logger.info(
                f"   test set: {len(query)} query and {len(gallery)} gallery images" if query else "   no test set"
            )

    def show_summary(self) -> None:
        """Prints the numbers of training images and cameras."""
        logger.info(
            f"=> Loaded a folder of {len(self.train)} training images, number of cameras: {self.num_train_cams}"
        )

    def _read_training_images(self, folder: Path, tests: Sequence[Path]) -> list[tuple[str, int, int]]:
        if tests and (folder / "train").is_dir():
            folder, tests = folder / "train", []
        paths, others = (
            [path for path in find(folder) if not any(path.is_relative_to(test) for test in tests)]
            for find in (find_images, find_others)
        )
        if not paths:
            raise InputError(f"{folder} holds no training image beside its test set, query and gallery: put some there")
        sightings = find_sightings(paths, folder, self.camera_regex, self.track_regex)
        warn_of_folders_like_tracks(sightings, folder)
        sighting_of = {path: found for path, found in zip(paths, sightings, strict=True) if found}
        kept, left_out = screen_images(list(sighting_of))
        left_out += [LeftOut(path, "not named", f"not in {TABLE}") for path in paths if path not in sighting_of]
        reason = f"not read: its name ends in none of {', '.join(SUFFIXES)}"
        left_out += [LeftOut(path, "of another kind", reason) for path in others]
        type(self).left_out = left_out
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(image.kind for image in left_out).items()))
        if not kept:
            raise InputError(
                f"none of the {len(paths) + len(others)} images in {folder} can be trained on ({counts}): give a "
                "folder with crops"
            )
        if left_out:
            logger.warning(f"Left out {len(left_out)} of {len(paths) + len(others)} images: {counts}")
        seen = {path: sighting_of[path] for path in kept}
        type(self).sightings = {str(path): found for path, found in seen.items()}
        number = {name: i for i, name in enumerate(sorted({found.camera for found in seen.values()}))}
        return [(str(path), UNKNOWN_IDENTITY, number[found.camera]) for path, found in seen.items()]


def _read_test_set(query: Path, gallery: Path) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
    """Reads images with identities and cameras from 0; at least one query has a match that counts."""
    queries, others = (
        [(path, identity, int(camera) - 1) for path, identity, camera in read_labels(folder, MARKET_NAME, IF_CAMERAS)]
        for folder in (query, gallery)
    )
    cameras_of: dict[int, set[int]] = {}
    for _, identity, camera in others:
        cameras_of.setdefault(identity, set()).add(camera)
    if not any(cameras_of.get(identity, set()) - {camera} for _, identity, camera in queries):
        raise InputError(
            f"no image in {query} can be found again: {gallery} holds none of the same identity at another camera"
        )
    return queries, others
