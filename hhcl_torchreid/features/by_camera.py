"""Features without what the cameras put into them: batch norm by each camera's own statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data.store import ImageStore
from ..models.batch_norm import check_num_batches
from .embedder import Embedder
from .statistics import estimate_statistics

__all__ = ["SeenByCameras", "features_by_camera"]

LEAST_IMAGES = 32
"""A camera with fewer says more about the people on them than about itself."""

IMAGES_OF_A_BATCH = 64


class SeenByCameras(NamedTuple):
    """Images, and which camera took each."""

    store: ImageStore
    cameras: Tensor
    """(N,) int64."""
    features: Tensor
    """(N, D) float32 unit rows by the statistics that the model has."""


def features_by_camera(
    embedder: Embedder,
    sets: Sequence[SeenByCameras],
    num_batches: int,
    generator: np.random.Generator | None = None,
    shared: bool = True,
) -> list[Tensor]:
    """Gives features of each camera's images by batch-norm statistics of their own.

    A camera's tint, light and sharpness move every channel of the network alike for all of its images, and batch norm
    with the camera's own mean and variance takes that out again. See Zhuang et al., Rethinking the Distribution Gap of
    Person Re-identification with Camera-based Batch Normalization, ECCV 2020, arXiv 2001.08680, section 3.2.

    The model keeps the statistics that it has.

    Args:
        embedder: of the model, in evaluation mode.
        sets: images that are compared with each other. The statistics of a camera are those of its images in the set
            that has most of them; where that has too few, its features stay.
        num_batches: batches of 64 images that a camera's statistics are the mean of, at most as many as it fills; with
            0, all features stay.
        generator: source of the choice. If None, always the same one.
        shared: whether every process of the run calls this and does a part of the work; if not, this one does all.

    Returns:
        (N, D) float32 unit rows for each set; its own ``features`` where there are no two cameras.

    Raises:
        InputError: a number of batches below 0, a model without batch norm, unreadable images.
    """
    check_num_batches("camera_bn", num_batches, embedder.model)
    cameras = torch.cat([images.cameras for images in sets]).unique()
    if num_batches == 0 or len(cameras) < 2:
        return [images.features for images in sets]
    generator = np.random.default_rng(0) if generator is None else generator
    found = [images.features.clone() for images in sets]
    with _statistics_kept(embedder.model):
        for camera in cameras:
            of_sets = [torch.nonzero(images.cameras == camera).flatten() for images in sets]
            most = max(range(len(sets)), key=lambda number: len(of_sets[number]))
            if len(of_sets[most]) < LEAST_IMAGES:
                continue
            estimate_statistics(embedder, sets[most].store, IMAGES_OF_A_BATCH, num_batches, generator, of_sets[most])
            for images, numbers, features in zip(sets, of_sets, found, strict=True):
                rows = embedder.of_store(images.store, "features by camera", shared, numbers)
                features[numbers.to(features.device)] = rows.to(features.device)
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
