"""Batch-norm statistics of the weights as they are."""

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from ..data.store import ImageStore
from ..data.transforms import normalize_images
from ..log import progress_bar
from .embedder import Embedder

__all__ = ["estimate_statistics"]


def estimate_statistics(
    embedder: Embedder,
    store: ImageStore,
    batch_size: int,
    num_batches: int,
    generator: np.random.Generator,
    numbers: Tensor | None = None,
) -> None:
    """Gives a model the mean statistics over some random batches.

    Running averages lag behind the weights by about ten steps, and start from another data set's. See Wu and Johnson,
    Rethinking "Batch" in BatchNorm, arXiv 2105.07576, section 3 (PreciseBN).

    Args:
        embedder: of the model.
        store: images to draw from.
        batch_size: images per batch, all of one size; with fewer images there is one smaller batch.
        num_batches: how many, at most as many as the images fill.
        generator: source of the choice.
        numbers: (n,) int64, the images that may be drawn. If None, all.
    """
    drawn_from = torch.arange(len(store)) if numbers is None else numbers
    order = drawn_from[torch.from_numpy(generator.permutation(len(drawn_from)))]
    chosen = order.split(batch_size)[: min(num_batches, len(order) // batch_size or 1)]
    batches = (normalize_images(images, embedder.mean, embedder.std) for images in store.batches(chosen))
    with embedder.autocast():
        update_bn(progress_bar(batches, desc="batch-norm statistics", total=len(chosen), leave=False), embedder.model)
