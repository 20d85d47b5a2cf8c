"""Batch-norm statistics of parts of a batch, as several GPUs would compute them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError

__all__ = ["InGroups", "check_num_batches"]


class InGroups(nn.Module):
    """A model whose batch norm takes contiguous groups of a batch, and normalises each by its own statistics.

    With a quarter of the batch as ``group_size`` this is what the authors' ``DataParallel`` does on four GPUs, running
    statistics included: only the first group moves those, as only the first GPU's buffers outlive a step. All other
    layers take the whole batch at once, which keeps a GPU several times as busy as one group after the other would.

    Args:
        model: (B, ...) -> (B, D), where nothing but batch norm looks at other images of the batch.
        group_size: images per group; the last group takes what is left.
    """

    def __init__(self, model: nn.Module, group_size: int) -> None:
        super().__init__()
        self.model = model
        self.group_size = group_size
        # Made once, so that a compiled model sees the same functions in every step.
        self._in_groups = [
            (layer, _in_groups(layer, layer.forward, group_size))
            for layer in model.modules()
            if isinstance(layer, _BatchNorm)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), in the order of the images."""
        if len(images) <= self.group_size:
            return self.model(images)
        with self._grouped():
            return self.model(images)

    @contextmanager
    def _grouped(self) -> Iterator[None]:
        for layer, forward in self._in_groups:
            vars(layer)["forward"] = forward
        try:
            yield
        finally:
            for layer, _ in self._in_groups:
                del vars(layer)["forward"]  # the one of its class shows again


def _in_groups(layer: _BatchNorm, forward: Callable[[Tensor], Tensor], group_size: int) -> Callable[[Tensor], Tensor]:
    def of_groups(inputs: Tensor) -> Tensor:
        if not layer.training:
            return forward(inputs)
        first, *others = inputs.split(group_size)
        outputs = [forward(first)]
        with _frozen_running_statistics(layer):
            outputs += [forward(group) for group in others]
        return torch.cat(outputs)

    return of_groups


@contextmanager
def _frozen_running_statistics(layer: _BatchNorm) -> Iterator[None]:
    momentum, num_batches_tracked = layer.momentum, layer.num_batches_tracked
    layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        layer.momentum, layer.num_batches_tracked = momentum, num_batches_tracked


def check_num_batches(name: str, num_batches: int, model: nn.Module) -> None:
    """Checks a number of batches whose batch-norm statistics are wanted.

    Args:
        name: of the setting.
        num_batches: its value.
        model: whose statistics.

    Raises:
        InputError: it is below 0, or the model has no batch norm, wherever it stands and of however many dimensions.
    """
    if num_batches < 0:
        raise InputError(f"{name} is {num_batches}: give a number of batches, or 0 for none")
    if num_batches and not any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        raise InputError(f"{name} is {num_batches}, but the model has no batch norm: set it to 0")
