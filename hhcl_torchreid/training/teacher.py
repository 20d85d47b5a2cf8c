"""A teacher: the moving average of a network's weights, steadier than the network itself."""

import copy

import torch
from torch import nn

from ..errors import InputError

__all__ = ["Teacher", "make_teacher"]


class Teacher:
    """A moving average of a model's weights, which begins with those after the first step; buffers are copied.

    ``torch.optim.swa_utils.AveragedModel`` computes the same, and sends its counter to the GPU in every step, which the
    CPU waits for.

    Args:
        model (nn.Module): the network that learns, on its device.
        decay (float): what the average keeps of itself in a step.

    Attributes:
        network (nn.Module): of the averaged weights; the model's own until the first step.
        steps (int): that the average is over.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(model)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes a step of the model into the average; nothing waits for the GPU."""
        share = 1 - self.decay if self.steps else 1.0
        torch._foreach_lerp_(list(self.network.parameters()), list(model.parameters()), share)
        torch._foreach_copy_(list(self.network.buffers()), list(model.buffers()))
        self.steps += 1


def make_teacher(model: nn.Module, decay: float) -> Teacher | None:
    """Makes a teacher of a model, if there is to be one.

    Args:
        model: the network that learns, on its device.
        decay: what the average keeps of itself in a step, in [0, 1); 0 for no teacher.

    Returns:
        The teacher, to be moved by ``update(model)`` after every step; None without one.

    Raises:
        InputError: the decay is out of range.

    References:
        Tarvainen, Valpola: Mean teachers are better role models, NeurIPS 2017; Ge, Chen, Li: Mutual Mean-Teaching,
        ICLR 2020, for person re-identification.
    """
    if not 0 <= decay < 1:
        raise InputError(f"hhcl.teacher is {decay}: give a number from 0 (no teacher) to below 1, such as 0.999")
    return Teacher(model, decay) if decay else None
