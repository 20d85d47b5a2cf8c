"""The common end of the command-line tools: an exit code for whatever may happen, and one sentence."""

import argparse
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper

from .errors import InputError
from .interruption import Interrupted, catch_signals

__all__ = ["add_image_size", "run_tool"]

CLOSED_OUTPUT = 141  # what shells give for a program that SIGPIPE ended


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """Adds ``--image-size`` to the options of a tool that takes a model."""
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels (default: the checkpoint's, else 256 128)",
    )


def run_tool(work: Callable[[], None]) -> int:
    """Runs a tool and gives its exit code.

    Args:
        work: the tool; it prints what it has to say.

    Returns:
        0; 2 after bad input, which standard error says in a sentence; 130 after Ctrl-C and 143 after SIGTERM; 141 where
        nobody reads the output any more, as in ``| head``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may lack letters that file names have
            stream.reconfigure(errors="backslashreplace")
    try:
        with catch_signals():
            work()
            sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal
    except BrokenPipeError:
        # Else Python would say so once more when it ends, and flushes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_OUTPUT
    return 0
