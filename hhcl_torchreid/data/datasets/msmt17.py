"""MSMT17 in the form that unsupervised methods train on."""

from typing import Any

import torchreid

__all__ = ["MSMT17TrainVal"]


class MSMT17TrainVal(torchreid.data.datasets.MSMT17):
    """MSMT17 with its validation images in the training set: 32,621 images, as in the authors' experiments.

    torchreid's own ``msmt17`` trains on 30,248 and adds the other 2,373 only together with the whole test set.
    """

    # Keeps torchreid's combineall from adding query and gallery images.
    _train_only = True

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        super().__init__(root, **{**kwargs, "combineall": True})
