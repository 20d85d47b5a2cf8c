"""What the package says while it works: the records of one logger, and how they come to standard output.

Every module logs by a child of the logger ``hhcl_torchreid``: progress as INFO, what a user should look at as WARNING,
details as DEBUG. :func:`attach` gives it a handler that prints records as ``print`` would, for users of torchreid
expect lines; it keeps silent where a handler of the program's own writes to the console, so that none is shown twice.
What a command was asked for is no record: it is printed, by :func:`answer`.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = [
    "add_verbosity",
    "answer",
    "at_level",
    "attach",
    "copied_to",
    "late_progress_bar",
    "progress_bar",
    "shown",
]

LOGGER = logging.getLogger(__package__)

LATE = 2.0  # seconds after which a bar is of use


class _Printer(logging.Handler):
    """Prints records, wherever standard output is at that time; what printing raises is raised.

    Attributes:
        is_quiet: whether standard output is to take warnings and answers alone.
        copy: a file that receives all that is said, if there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_quiet = False
        self.copy: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        text = self.format(record)
        if _is_shown_by_others():
            if self.copy:
                print(text, file=self.copy)
        elif record.levelno >= logging.WARNING:
            answer(text)
        else:
            print(text)


_printer = _Printer()


def _is_shown_by_others() -> bool:
    console = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    handlers = [*LOGGER.handlers, *(logging.root.handlers if LOGGER.propagate else [])]
    return any(isinstance(handler, logging.StreamHandler) and handler.stream in console for handler in handlers)


def attach() -> None:
    """Gives the package's logger its handler, and a level that shows progress, unless the program has set one."""
    LOGGER.addHandler(_printer)
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Adds ``-v`` and ``-q`` to the options of a command, which come as ``level``, for :func:`shown`."""
    levels = parser.add_mutually_exclusive_group()
    for short, name, level, meaning in (
        ("-v", "--verbose", logging.DEBUG, "say more: what was chosen, and how large it is"),
        ("-q", "--quiet", logging.WARNING, "say only the answer, warnings and errors; without progress bars"),
    ):
        levels.add_argument(
            *(short, name), dest="level", action="store_const", const=level, default=logging.INFO, help=meaning
        )


@contextmanager
def shown(level: int = logging.INFO) -> Iterator[None]:
    """Shows records as a command does: on standard output, by the package's own handler alone.

    Args:
        level: of ``logging``; above ``INFO``, standard output takes warnings and :func:`answer` alone, whoever prints.
    """
    before = LOGGER.propagate, _printer.is_quiet
    LOGGER.propagate, _printer.is_quiet = False, level > logging.INFO
    muffled = contextlib.redirect_stdout(_Muffled(sys.stdout)) if _printer.is_quiet else contextlib.nullcontext()
    try:
        # Quiet is standard output alone: a file that keeps the log is to have everything.
        with at_level(min(level, logging.INFO)), muffled:
            yield
    finally:
        LOGGER.propagate, _printer.is_quiet = before


@contextmanager
def at_level(level: int) -> Iterator[None]:
    """Makes records from a level on, for as long as the context lasts."""
    before = LOGGER.level
    LOGGER.setLevel(level)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def answer(text: object) -> None:
    """Prints what a command was asked for, also where it is to be quiet."""
    was_quiet, _printer.is_quiet = _printer.is_quiet, False
    try:
        print(text)
    finally:
        _printer.is_quiet = was_quiet


def progress_bar(steps: Iterable[Any] | None = None, is_short: bool = False, **settings: Any) -> Any:
    """A bar of tqdm on a terminal; none where progress is not to be shown.

    Args:
        steps: what is gone through.
        is_short: whether it will be over before a bar is of use.
        **settings: of ``tqdm.tqdm``.
    """
    from tqdm import tqdm

    is_off = is_short or _printer.is_quiet or not LOGGER.isEnabledFor(logging.INFO)
    return tqdm(steps, disable=True if is_off else None, **settings)


def late_progress_bar(steps: Iterable[Any] | None = None, is_short: bool = False, **settings: Any) -> Any:
    """As :func:`progress_bar`, for work that may be over at once or take hours: shown where it has taken a while."""
    return progress_bar(steps, is_short, leave=False, delay=LATE, **settings)


@contextmanager
def copied_to(file: TextIO) -> Iterator[None]:
    """Writes to a file as well what is printed and logged, also what standard output does not take."""
    before, _printer.copy = _printer.copy, file
    try:
        with contextlib.redirect_stdout(_Tee(sys.stdout, file)):
            yield
    finally:
        _printer.copy = before


class _Muffled:
    """Standard output that is only open for answers."""

    def __init__(self, console: Any) -> None:
        self.console = console

    def __getattr__(self, name: str) -> Any:
        return getattr(self.console, name)

    def write(self, text: str) -> int:
        return len(text) if _printer.is_quiet else self.console.write(text)


class _Tee:
    """Standard output that is also written to a file, and does not break a progress bar."""

    def __init__(self, console: Any, file: TextIO) -> None:
        self.console = console
        self.file = file

    def write(self, text: str) -> int:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.console):
            self.console.write(text)
        return self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        self.file.flush()

    def isatty(self) -> bool:
        return self.console.isatty()
