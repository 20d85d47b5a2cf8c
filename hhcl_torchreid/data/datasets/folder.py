"""Data sets that torchreid lacks, and the check that a named one is there."""

import difflib
import os.path as osp
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torchreid

from ...errors import InputError
from ...rendering.market1501 import SyntheticMarket
from ..folder import camera_names, find_images
from ..screening import LeftOut, screen_images

__all__ = ["UNKNOWN_IDENTITY", "CelebReID", "FolderOfCrops", "MSMT17TrainVal", "PersonX", "VeRi776", "check_datasets"]

UNKNOWN_IDENTITY = -(2**31)
"""Identity of an image without a label. So far below zero that it stays there when torchreid joins data sets, where the
identities of a later one are counted on from those of the one before."""


MARKET_NAME = (
    r"(-?\d+)_c(\d+)",
    ", or rename the folders if they are cameras: query and gallery together are read as a labelled test set",
)


class MSMT17TrainVal(torchreid.data.datasets.MSMT17):
    """MSMT17 with its validation images in the training set: 32,621 images, as in the authors' experiments.

    torchreid's own ``msmt17`` trains on 30,248 and adds the other 2,373 only together with the whole test set.
    """

    # Keeps torchreid's combineall from adding query and gallery images.
    _train_only = True

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        super().__init__(root, **{**kwargs, "combineall": True})


class _LabelledByName(torchreid.data.ImageDataset):
    """A data set of three folders whose file names tell identity and camera, as Market-1501's do."""

    dataset_dir: str
    inner_dirs: ClassVar[tuple[str, ...]]
    """Folders in ``dataset_dir`` under which distributions keep the three; without any, ``dataset_dir`` holds them."""
    splits: ClassVar[tuple[str, str, str]]
    pattern: ClassVar[str]
    _junk_pids: ClassVar[list[int]] = [-1]

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        self.root = osp.abspath(osp.expanduser(root))
        outer = Path(self.root, self.dataset_dir)
        self.data_dir = next((outer / name for name in self.inner_dirs if (outer / name).is_dir()), outer)
        folders = [self.data_dir / split for split in self.splits]
        self.check_before_run([str(folder) for folder in folders])
        train, query, gallery = (
            [(path, identity, self.camera(name, split)) for path, identity, name in _read_labels(folder, self.pattern)]
            for split, folder in zip(("train", "query", "gallery"), folders, strict=True)
        )
        numbers = {identity: i for i, identity in enumerate(sorted({identity for _, identity, _ in train}))}
        train = [(path, numbers[identity], camera) for path, identity, camera in train]
        super().__init__(train, query, gallery, **kwargs)

    def camera(self, name: str, split: str) -> int:
        """Number of a camera, from 0.

        Args:
            name: what the file name says, digits.
            split: ``"train"``, ``"query"`` or ``"gallery"``.
        """
        return int(name) - 1


def _read_labels(folder: Path, pattern: str, way_out: str = "") -> list[tuple[str, int, str]]:
    """Path, identity and camera, from the two groups of a pattern, of all images but those of identity -1 (junk)."""
    labelled = []
    for path in find_images(folder):
        match = re.match(pattern, path.name)
        if match is None:
            raise InputError(
                f"{path} is not named by identity and camera as in 0001_c1s1_000151_01.jpg (pattern {pattern}): rename "
                f"it or take it out{way_out}"
            )
        if int(match[1]) != -1:
            labelled.append((str(path), int(match[1]), match[2]))
    return labelled


class PersonX(_LabelledByName):
    """PersonX, rendered people at six cameras (the subset that unsupervised methods train on).

    The layout is ``personx/PersonX/{bounding_box_train, query, bounding_box_test}``, files ``0001_c3s1_12.jpg``; the
    folder in between may be ``subset1`` or missing. The cameras are numbered 3, 4, 8, 10, 11 and 12 in file names.

    Reference:
        Sun and Zheng. Dissecting Person Re-identification from the Viewpoint of Viewpoint. CVPR 2019.

    URL: `<https://github.com/sxzrt/Dissecting-Person-Re-identification-from-the-Viewpoint-of-Viewpoint>`_

    Dataset statistics:
        - identities: 1266.
        - images: 9840 (train) + 5136 (query) + 30816 (gallery).
    """

    dataset_dir = "personx"
    inner_dirs = ("PersonX", "subset1")
    splits = ("bounding_box_train", "query", "bounding_box_test")
    pattern = r"(-?\d+)_c(3|4|8|10|11|12)(?!\d)"

    def camera(self, name: str, split: str) -> int:
        """Number of a camera, from 0, by its rank among the six names."""
        return ("3", "4", "8", "10", "11", "12").index(name)


class CelebReID(_LabelledByName):
    """Celeb-reID, celebrities in changing clothes, photographed by no camera of a network.

    The layout is ``celebreid/CelebReID/{train, query, gallery}``, files ``1_2_0.jpg`` (identity, number of the image, a
    digit without meaning); the folder in between may be ``Celeb-reID`` or missing.

    There are no cameras: all training images are of camera 0, so a batch draws any images of a cluster; queries are of
    camera 0 and the gallery of camera 1, so that the evaluation leaves out no gallery image. (The authors' HHCL code
    takes the first digit of the image number for a camera instead, and so leaves out some.)

    Reference:
        Huang, Xu, Wu, Zhong, Zhang, Zhang. Beyond Scalar Neuron: Adopting Vector-Neuron Capsules for Long-Term Person
        Re-Identification. TCSVT 2019.

    URL: `<https://github.com/Huang-3/Celeb-reID>`_

    Dataset statistics:
        - identities: 1052 (632 for training).
        - images: 20208 (train) + 2972 (query) + 11006 (gallery).
    """

    dataset_dir = "celebreid"
    inner_dirs = ("CelebReID", "Celeb-reID")
    splits = ("train", "query", "gallery")
    pattern = r"(\d+)_(\d+)_\d"

    def camera(self, name: str, split: str) -> int:
        """0, or 1 for the gallery."""
        return int(split == "gallery")


class VeRi776(_LabelledByName):
    """VeRi-776, vehicles at 20 cameras.

    The layout is ``veri/VeRi/{image_train, image_query, image_test}``, files ``0002_c002_00030600_0.jpg``; the folder
    in between may be ``VeRi_with_plate`` or missing. As in the data set's own protocol, images of a query's vehicle at
    the query's camera do not count.

    Reference:
        Liu, Liu, Ma, Fu. Large-scale vehicle re-identification in urban surveillance videos. ICME 2016.

    URL: `<https://github.com/JDAI-CV/VeRidataset>`_

    Dataset statistics:
        - identities: 776 (576 for training).
        - images: 37778 (train) + 1678 (query) + 11579 (gallery).
    """

    dataset_dir = "veri"
    inner_dirs = ("VeRi", "VeRi_with_plate")
    splits = ("image_train", "image_query", "image_test")
    pattern = r"(-?\d+)_c(\d+)"


class FolderOfCrops(torchreid.data.ImageDataset):
    """A folder of crops without labels, at any depth: ``root`` itself is the folder.

    If it holds both ``query`` and ``gallery``, those are a labelled test set, files named as Market-1501's are
    (``0001_c1s1_000151_01.jpg``; identity -1 is ignored, as there). The training images are then those in ``train`` if
    there is such a folder, else all others. Without both folders there is no test set: the modes query and gallery hold
    no data.

    Unreadable, tiny and duplicate training images are left out, see
    :func:`hhcl_torchreid.data.screening.screen_images`. The camera of an image is named by :func:`camera_names`.
    torchreid's data manager passes no settings on, so they are attributes of the class.

    Attributes:
        camera_regex (str): a regular expression whose first group names the camera; empty takes the first folder level
            below the folder that holds the training images.
        left_out (list of LeftOut): what the training set that was read last has left out.

    Raises:
        InputError: an empty folder, one without a usable image, an expression that finds no camera, or a test set whose
            files are not named by identity and camera or whose queries cannot be found in its gallery.
    """

    dataset_dir = ""
    camera_regex: ClassVar[str] = ""
    left_out: ClassVar[list[LeftOut]] = []
    _junk_pids: ClassVar[list[int]] = [0, -1]

    def __init__(self, root: str = "", mode: str = "train", combineall: bool = False, **kwargs: Any) -> None:
        folder = Path(root).expanduser()
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
            print(f"   test set: {len(query)} query and {len(gallery)} gallery images" if query else "   no test set")

    def show_summary(self) -> None:
        """Prints the numbers of training images and cameras."""
        print(f"=> Loaded a folder of {len(self.train)} training images, number of cameras: {self.num_train_cams}")

    def _read_training_images(self, folder: Path, tests: Sequence[Path]) -> list[tuple[str, int, int]]:
        if tests and (folder / "train").is_dir():
            folder, tests = folder / "train", []
        paths = [path for path in find_images(folder) if not any(path.is_relative_to(test) for test in tests)]
        if not paths:
            raise InputError(f"{folder} holds no training image beside its test set, query and gallery: put some there")
        camera_of = dict(zip(paths, camera_names(paths, folder, self.camera_regex), strict=True))
        kept, left_out = screen_images(paths)
        type(self).left_out = left_out
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(image.kind for image in left_out).items()))
        if not kept:
            raise InputError(
                f"none of the {len(paths)} images in {folder} can be trained on ({counts}): give a folder with crops"
            )
        if left_out:
            print(f"Left out {len(left_out)} of {len(paths)} images: {counts}")
        number = {name: i for i, name in enumerate(sorted({camera_of[path] for path in kept}))}
        return [(str(path), UNKNOWN_IDENTITY, number[camera_of[path]]) for path in kept]


def _read_test_set(query: Path, gallery: Path) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
    """Images with identities and cameras from 0; at least one query has a match that counts."""
    queries, others = (
        [(path, identity, int(camera) - 1) for path, identity, camera in _read_labels(folder, *MARKET_NAME)]
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


def _register(name: str, dataset: type) -> None:
    if name not in vars(torchreid.data.datasets)["__image_datasets"]:
        torchreid.data.register_image_dataset(name, dataset)


_register("celebreid", CelebReID)
_register("folder", FolderOfCrops)
_register("msmt17_trainval", MSMT17TrainVal)
_register("personx", PersonX)
_register("veri", VeRi776)


def check_datasets(names: Sequence[str], root: str) -> None:
    """Checks that data sets are known and their folders are there, so that no download starts by surprise.

    Args:
        names: torchreid's names.
        root: the folder that holds the data sets.

    Raises:
        InputError: an unknown name, or a folder that is missing.
    """
    known = vars(torchreid.data.datasets)["__image_datasets"]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(sorted(known))}"
            raise InputError(f"unknown data set {name!r}: {hint}")
        folder = osp.join(osp.expanduser(root), known[name].dataset_dir or "")
        if not issubclass(known[name], SyntheticMarket) and not osp.isdir(folder):
            raise InputError(
                f"data set {name} needs the folder {folder}, which does not exist: put the images there, or set --root "
                "to the folder that holds it"
            )
