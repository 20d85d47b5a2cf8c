"""Ctrl-C and the scheduler's SIGTERM: between two steps, never in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "catch_signals", "uninterrupted"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Signals belong to the process, and so does what is known about them.
_depth = 0
_received: int | None = None


class Interrupted(KeyboardInterrupt):
    """A signal has asked the run to stop.

    Attributes:
        signal (int): its number; ``128 + signal`` is the exit code that shells expect.
    """

    def __init__(self, received: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(received).name}")
        self.signal = received


@contextmanager
def catch_signals() -> Iterator[None]:
    """Raises :class:`Interrupted` on SIGINT and SIGTERM: at once, or at the end of :func:`uninterrupted`."""
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may ask for signals
        return
    _received = None
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        _received = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets what is inside finish before a signal ends the run; a second signal does not wait."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if _received is not None and _depth == 0:
        raise Interrupted(_received)


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    if _depth == 0 or _received is not None:
        raise Interrupted(number)
    _received = number
