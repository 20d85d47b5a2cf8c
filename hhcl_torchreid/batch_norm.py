"""Batch-norm statistics of parts of a batch, as several GPUs would compute them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["forward_in_groups"]


def forward_in_groups(model: nn.Module, images: Tensor, group_size: int) -> Tensor:
    """Runs a batch through a model in contiguous groups that are normalised each by its own statistics.

    With a quarter of the batch as ``group_size`` this is what the authors' ``DataParallel`` does on four GPUs, running
    statistics included: only the first group moves those, as only the first GPU's buffers outlive a step.

    Args:
        model: (B, ...) -> (B, D).
        images: (B, 3, H, W).
        group_size: images per group; the last group takes what is left.

    Returns:
        (B, D) features, in the order of the images.
    """
    first, *others = images.split(group_size)
    features = [model(first)]
    if others:
        with _frozen_running_statistics(model):
            features += [model(group) for group in others]
    return torch.cat(features)


@contextmanager
def _frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
