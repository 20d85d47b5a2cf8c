"""Batch-norm statistics of parts of a batch, as several GPUs would compute them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["InGroups", "forward_in_groups"]


class InGroups(nn.Module):
    """A model that runs its batches through :func:`forward_in_groups`.

    Args:
        model: (B, ...) -> (B, D).
        group_size: images per group.
    """

    def __init__(self, model: nn.Module, group_size: int) -> None:
        super().__init__()
        self.model = model
        self.group_size = group_size

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), in the order of the images."""
        return forward_in_groups(self.model, images, self.group_size)


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
    settings = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, num_batches_tracked) in zip(layers, settings, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, num_batches_tracked
