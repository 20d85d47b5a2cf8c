"""The losses of an epoch, which nobody waits for until they are asked for."""

import math

import torch
from torch import Tensor

from ..errors import InputError
from .folder import RunFolder
from .history import History

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

    def check(self, history: History, folder: RunFolder) -> None:
        """Looks at the losses that have been read.

        Args:
            history: of the run.
            folder: of the run.

        Raises:
            InputError: one is no number.
        """
        for iteration, loss in enumerate(self.values, 1):
            if not math.isfinite(loss):
                raise self.diverged(f"a loss of {loss}", history, folder, iteration)

    def diverged(self, found: str, history: History, folder: RunFolder, iteration: int = 0) -> InputError:
        """The error of a training that gave what is no number.

        Args:
            found: what that is.
            history: of the run.
            folder: of the run, which holds the last good checkpoint.
            iteration: of the epoch that is being trained, from 1; 0: the last that was read.
        """
        iteration = iteration or len(self.values)
        # The first step of an epoch begins from weights that were looked at.
        way_out = "raise hhcl.temperature, or lower the weights in hhcl"
        way_out = f"lower train.lr, or {way_out}" if iteration > 1 else way_out
        return InputError(
            f"training gave {found} at epoch {history.current['epoch']}, iteration {iteration}, learning rate "
            f"{history.current['lr']:g}: {way_out}; the last good checkpoint, of {history.last['epoch']} epochs, is "
            f"{folder.last_checkpoint}"
        )
