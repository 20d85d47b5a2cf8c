"""Seconds that a piece of work takes, on a GPU or on the CPU."""

import time

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Wall-clock laps of work on a device.

    Args:
        device: where the work is done; a lap ends when all of it is.

    Attributes:
        seconds: by name of the lap.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()
        self._last = self._now()

    def lap(self, name: str) -> float:
        """Ends the lap that began with the one before, or with the stopwatch; gives its seconds."""
        now = self._now()
        self.seconds[name], self._last = now - self._last, now
        return self.seconds[name]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
