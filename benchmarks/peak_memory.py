"""Bytes that a piece of work takes, on a GPU or on the CPU."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

PROCESS = Path("/proc/self")


class PeakMemory:
    """The most memory that work has taken beyond what was held when it began.

    On a GPU, of what PyTorch allocates there. On the CPU, of what the process holds in main memory; Linux starts that
    count anew on request, where other systems give no more than the growth of the largest so far.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            self._before = _restart_peak_of_process()

    def bytes(self) -> int:
        """The peak until now, in bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self._before
        return max(0, _peak_of_process() - self._before)


def _restart_peak_of_process() -> int:
    """Lets the process's peak begin at what it holds now; where that cannot be, the peak so far."""
    # The C library keeps freed memory for later; work that took it from there would seem to need none.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        # "5" stands for the peak of the resident set, see proc(5).
        Path(PROCESS, "clear_refs").write_text("5")
    return _peak_of_process()


def _peak_of_process() -> int:
    status = Path(PROCESS, "status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
