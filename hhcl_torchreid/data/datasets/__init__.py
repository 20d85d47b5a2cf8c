"""Data sets that torchreid lacks, by the names that it knows them under once this is imported."""

import difflib
import glob
import os.path as osp
import re
from collections.abc import Sequence
from typing import Any

import torchreid

from ..._torchreid import image_datasets
from ...errors import InputError
from ..tracks import Sighting
from .folder import UNKNOWN_IDENTITY, FolderOfCrops
from .frames_of_video import FRAMES_OF_VIDEO
from .labelled_by_name import CelebReID, PersonX, VeRi776
from .msmt17 import MSMT17TrainVal
from .synthetic import SyntheticMarket

__all__ = [
    "DATASETS",
    "UNKNOWN_IDENTITY",
    "CelebReID",
    "FolderOfCrops",
    "MSMT17TrainVal",
    "PersonX",
    "SyntheticMarket",
    "VeRi776",
    "check_datasets",
    "sightings_of",
]

DATASETS = {
    "celebreid": CelebReID,
    "folder": FolderOfCrops,
    "msmt17_trainval": MSMT17TrainVal,
    "personx": PersonX,
    "synthetic": SyntheticMarket,
    "veri": VeRi776,
    **FRAMES_OF_VIDEO,
}
"""A new data set is one class and one row here."""

_OF_TORCHREID = tuple({cls for cls in image_datasets().values() if isinstance(cls, type)})
_NAMED_ANYWHERE = (torchreid.data.datasets.Market1501, torchreid.data.datasets.DukeMTMCreID)
"""Classes that look for person and camera in the whole path of an image, and take the first that they find."""


def check_datasets(names: Sequence[str], root: str) -> None:
    """Checks that data sets are known and their folders are there, so that no download starts by surprise.

    Args:
        names: torchreid's names.
        root: the folder that holds the data sets.

    Raises:
        InputError: an unknown name, a folder that is missing, or one whose path would be taken for something else.
    """
    known = image_datasets()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(sorted(known))}"
            raise InputError(f"unknown data set {name!r}: {hint}")
        folder = osp.join(osp.expanduser(root), getattr(known[name], "dataset_dir", "") or "")
        renders = isinstance(known[name], type) and issubclass(known[name], SyntheticMarket)
        if not renders and not osp.isdir(folder):
            raise InputError(
                f"data set {name} needs the folder {folder}, which does not exist: put the images there, or set --root "
                "to the folder that holds it"
            )
        _check_path(name, known[name], osp.abspath(osp.expanduser(root)))


def _check_path(name: str, dataset: Any, root: str) -> None:
    if not isinstance(dataset, type) or not (issubclass(dataset, _OF_TORCHREID) or name in FRAMES_OF_VIDEO):
        return
    if glob.escape(root) != root:
        raise InputError(f"torchreid takes {root} for a pattern of names: choose a --root without *, ? and [")
    if issubclass(dataset, _NAMED_ANYWHERE) and (found := re.search(r"[-\d]+_c\d", root)):
        raise InputError(
            f"torchreid takes {found[0]} in {root} for the person and the camera of every image of {name}: choose a "
            "--root without a number followed by _c and a digit"
        )


def sightings_of(names: Sequence[str]) -> dict[str, Sighting]:
    """Gives what data sets know of tracks, by the paths of their training images, once those are read.

    Args:
        names: torchreid's; a class that knows of tracks has an attribute ``sightings``.
    """
    known = image_datasets()
    return {path: seen for name in names for path, seen in getattr(known.get(name), "sightings", {}).items()}


for _name in DATASETS.keys() - image_datasets().keys():
    # torchreid refuses a name it knows: a reloaded module must not fail for that.
    torchreid.data.register_image_dataset(_name, DATASETS[_name])
