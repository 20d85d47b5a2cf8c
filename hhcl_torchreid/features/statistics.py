"""Batch-norm statistics of the weights as they are, of all images or of each camera's own."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ..data.store import ImageStore
from ..data.transforms import normalize_images
from ..log import progress_bar
from .embedder import Embedder

__all__ = ["estimate_statistics", "features_by_camera"]

LEAST_IMAGES = 32
"""A camera with fewer says more about the people on them than about itself."""

IMAGES_OF_A_BATCH = 64


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


def features_by_camera(
    embedder: Embedder,
    store: ImageStore,
    features: Tensor,
    cameras: Tensor,
    num_batches: int,
    generator: np.random.Generator,
) -> Tensor:
    """Gives features without what the cameras put into them: each camera's images by statistics of their own.

    A camera's tint, light and sharpness move every channel of the network alike for all of its images, and batch norm
    with the camera's own mean and variance takes that out again. See Zhuang et al., Rethinking the Distribution Gap of
    Person Re-identification with Camera-based Batch Normalization, ECCV 2020, arXiv 2001.08680, section 3.2.

    The model keeps the statistics that it has.

    Args:
        embedder: of the model, in evaluation mode.
        store: the images.
        features: (N, D) float32 unit rows by the statistics that the model has; those of cameras with too few images
            for statistics of their own stay.
        cameras: (N,) int64.
        num_batches: batches of 64 images that a camera's statistics are the mean of, at most as many as it fills; with
            0, ``features`` stay.
        generator: source of the choice.

    Returns:
        (N, D) float32 unit rows; ``features`` where there are no two cameras.

    Raises:
        InputError: unreadable images.
    """
    of_cameras = [torch.nonzero(cameras == camera).flatten() for camera in cameras.unique()]
    if num_batches == 0 or len(of_cameras) < 2:
        return features
    found = features.clone()
    with _statistics_kept(embedder.model):
        for numbers in of_cameras:
            if len(numbers) >= LEAST_IMAGES:
                estimate_statistics(embedder, store, IMAGES_OF_A_BATCH, num_batches, generator, numbers)
                found[numbers.to(found.device)] = embedder.of_store(store, "features by camera", numbers=numbers)
    return found


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Gives a model its batch-norm statistics back."""
    buffers = [buffer for layer in model.modules() if isinstance(layer, _BatchNorm) for buffer in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
