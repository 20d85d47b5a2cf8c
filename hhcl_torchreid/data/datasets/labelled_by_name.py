"""Data sets of three folders whose file names tell identity and camera: PersonX, Celeb-reID, VeRi-776."""

import os.path as osp
import re
from pathlib import Path
from typing import Any, ClassVar

import torchreid

from ...errors import InputError
from ..folder import find_images

__all__ = ["CelebReID", "PersonX", "VeRi776", "read_labels"]


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
            [(path, identity, self.camera(name, split)) for path, identity, name in read_labels(folder, self.pattern)]
            for split, folder in zip(("train", "query", "gallery"), folders, strict=True)
        )
        numbers = {identity: i for i, identity in enumerate(sorted({identity for _, identity, _ in train}))}
        train = [(path, numbers[identity], camera) for path, identity, camera in train]
        super().__init__(train, query, gallery, **kwargs)

    def camera(self, name: str, split: str) -> int:
        """Gives the number of a camera, from 0.

        Args:
            name: what the file name says, digits.
            split: ``"train"``, ``"query"`` or ``"gallery"``.
        """
        return int(name) - 1


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
        """Gives the number of a camera, from 0: its rank among the six names."""
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
        """Gives 0, or 1 for the gallery."""
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


def read_labels(folder: Path, pattern: str, way_out: str = "") -> list[tuple[str, int, str]]:
    """Reads identities and cameras out of the names of a folder's images; those of identity -1 (junk) are ignored.

    Args:
        folder: the folder; images at any depth count.
        pattern: matches the beginning of a name; its first group is the identity, its second the camera.
        way_out: a further clause for the message about a name that does not match.

    Returns:
        Path, identity and the camera's name of each image.

    Raises:
        InputError: no image, or one whose name does not match.
    """
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
