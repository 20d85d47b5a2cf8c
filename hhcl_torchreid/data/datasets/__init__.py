"""Data sets that torchreid lacks, by the names that it knows them under once this is imported."""

import difflib
import os.path as osp
from collections.abc import Sequence

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


def check_datasets(names: Sequence[str], root: str) -> None:
    """Checks that data sets are known and their folders are there, so that no download starts by surprise.

    Args:
        names: torchreid's names.
        root: the folder that holds the data sets.

    Raises:
        InputError: an unknown name, or a folder that is missing.
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
