"""Data sets that torchreid lacks, and the check that a named one is there."""

import difflib
import os.path as osp
from collections.abc import Sequence
from typing import Any

import torchreid

from ..errors import InputError
from .synthetic import SyntheticMarket

__all__ = ["MSMT17TrainVal", "check_datasets"]


class MSMT17TrainVal(torchreid.data.datasets.MSMT17):
    """MSMT17 with its validation images in the training set: 32,621 images, as in the authors' experiments.

    torchreid's own ``msmt17`` trains on 30,248 and adds the other 2,373 only together with the whole test set.
    """

    # Keeps torchreid's combineall from adding query and gallery images.
    _train_only = True

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        super().__init__(root, **{**kwargs, "combineall": True})


def _register(name: str, dataset: type) -> None:
    if name not in vars(torchreid.data.datasets)["__image_datasets"]:
        torchreid.data.register_image_dataset(name, dataset)


_register("msmt17_trainval", MSMT17TrainVal)


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
