"""The losses of an epoch, which nobody waits for until they are asked for."""

import math

import torch
from torch import Tensor

__all__ = ["Losses"]


class Losses:
    """Collects a loss a step, on whatever device it was computed.

    Attributes:
        values (list of float): those that have been read.
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self._unread: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Takes the loss of a step; nothing waits for its value."""
        self._unread.append(loss.detach())

    def read(self) -> list[float]:
        """The losses since the last call; here the CPU waits for the GPU."""
        new = torch.stack(self._unread).tolist() if self._unread else []
        self._unread.clear()
        self.values += new
        return new

    @property
    def mean(self) -> float:
        """Of all that have been read."""
        return sum(self.values) / len(self.values)

    @property
    def first_bad(self) -> int | None:
        """The step, from 1, whose loss is the first that is no number; None where all are."""
        return next((step for step, loss in enumerate(self.values, 1) if not math.isfinite(loss)), None)
