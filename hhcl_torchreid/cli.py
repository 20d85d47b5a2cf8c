"""The common end of the command-line tools: an exit code for whatever may happen, and one sentence."""

import argparse
import contextlib
import errno
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from types import ModuleType

import joblib
import psutil
import torch

from . import distributed
from .errors import InputError, is_out_of_memory
from .files import DISK_ERRORS, visible
from .interruption import Interrupted, catch_signals
from .log import shown

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has no limits
    resource = None

__all__ = ["add_camera_bn", "add_image_size", "add_places", "add_tracks", "parse_paths", "run_tool"]

LOST = (
    "error: another process of this run has died or no longer answers; model.resume auto goes on after the last "
    "finished epoch"
)
# PyTorch has no exception classes for these.
WORKER_IS_GONE = ("DataLoader worker (pid", "shared memory", "file </torch_", "unable to mmap")
TOO_MANY_FILES = ("Too many open files", "received 0 items of ancdata")
FEWER_WORKERS = "for want of memory or of room in /dev/shm: free some, or set data.workers to fewer (0: none)"
SMALL_FILES = "for its share is a file in /dev/shm: raise the limit of a file's size (ulimit -f), or set data.workers 0"
WAYS_OUT = {
    errno.EMFILE: "raise the limit of open files (ulimit -n), or set data.workers to fewer",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or set data.workers to fewer",
    errno.ESTALE: "mount that folder anew",
}
ADDRESS_SPACE = 1 << 30
"""Bytes that libraries take beside what they are loaded to: 0.6 to 0.9 GB in small runs, which crash with 0.8 at times.

Where there is more than this, what does not fit ends in a sentence of its own.
"""
OPEN_FILES = 256
"""Of them eight processes that decode images need 150 at times."""
DECODING = 26
"""Threads of eight processes that decode images, those themselves included, and of what hears from them."""
SMALL_STACK = 1 << 18  # bytes, of threads that do nothing
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


def add_camera_bn(parser: argparse.ArgumentParser) -> None:
    """Adds ``--camera-bn`` to the options of a tool that compares the images of a folder with each other."""
    parser.add_argument(
        "--camera-bn",
        type=int,
        metavar="N",
        help="batches of each camera for its own batch-norm statistics, as 8 where cameras are unlike; 0: the model's "
        "(default: the checkpoint's test.camera_bn)",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Adds what tells of cameras and tracks to the options of a tool that takes a folder of images."""
    parser.add_argument(
        "--camera-regex", default="", help="expression on a path whose group is the camera (default: the first folder)"
    )
    parser.add_argument(
        "--track-regex",
        default="",
        help="likewise, with groups camera, track and frame (default: crops.csv in the folder, if there is one)",
    )


def add_tracks(parser: argparse.ArgumentParser) -> None:
    """Adds ``--tracks`` to the options of a tool that clusters."""
    parser.add_argument(
        "--tracks",
        choices=("auto", "fixed", "off"),
        help="one identity per track where they are known, with a wider eps where they allow it (not with --eps); with "
        "eps as it is; or images alone",
    )


def parse_paths(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line, and ends the program where a path is empty, which would be the working directory.

    It is what a variable of the shell that nobody has set leaves.

    Args:
        parser: of the command; what is no path has an empty default, or takes no empty text.
        arguments: the words; None takes those of the process.
    """
    args = parser.parse_args(arguments)
    for name, value in vars(args).items():
        if "" in (value if isinstance(value, list) else [value]) and parser.get_default(name) != "":
            parser.error(f"{name.replace('_', '-')} is empty: give it a value, or leave it out")
    return args


def run_tool(work: Callable[[], None], after_signal: str = "", level: int = logging.INFO) -> int:
    """Runs a tool and gives its exit code.

    Args:
        work: the tool; it logs what it does, and answers by :func:`hhcl_torchreid.log.answer`.
        after_signal: what to do after Ctrl-C or SIGTERM, a clause.
        level: what it shows, see :func:`hhcl_torchreid.log.shown`.

    Returns:
        0; 2 after bad input or where memory is too small, which standard error says in a sentence; 130 after Ctrl-C and
        143 after SIGTERM; 141 where nobody reads the output any more, as in ``| head``; 1 after another process of the
        run has died.
    """
    _open_outputs()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may lack letters that file names have
            stream.reconfigure(errors="backslashreplace")
    try:
        with shown(level), catch_signals():
            _check_address_space()
            _check_open_files()
            _check_threads()
            _check_processors()
            work()
            sys.stdout.flush()
    except InputError as error:
        return _end(2, f"error: {error}")
    except Interrupted as interruption:
        return _end(128 + interruption.signal, f"{interruption}{after_signal}")
    except BrokenPipeError:
        # Else Python would say so once more when it ends, and flushes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_OUTPUT
    except Warning as warning:  # python -W error
        return _end(2, f"error: {type(warning).__name__}: {_in_one_line(warning)}; python without -W error goes on")
    except (RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, RuntimeError) and distributed.lost_contact(error):
            return _end(1, LOST)
        message = _of_the_machine(error)
        if not message:
            raise
        _let_go(error)
        return _end(2, f"error: {message}")
    return 0


def _open_outputs() -> None:
    """Gives a process that was started without standard output or error (``>&-``) one that goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)


def _check_address_space() -> None:
    """Stops where a limit leaves so little of it that libraries would hang or crash: OpenBLAS waits for it for ever."""
    if resource is None:
        return
    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], psutil.Process().memory_info().vms
    if limit != resource.RLIM_INFINITY and limit < used + ADDRESS_SPACE:
        raise InputError(
            f"the limit of address space leaves {max(0, limit - used) >> 20} MB, in which libraries crash without a "
            f"word: raise it (ulimit -v {(used + ADDRESS_SPACE) >> 10} or more)"
        )


def _check_open_files() -> None:
    """Stops where so few may be open that processes that hand over images wait for each other for ever."""
    if resource is None:
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < OPEN_FILES:
        raise InputError(
            f"the limit of open files is {limit}, with which processes that decode images wait for ever: raise it "
            f"(ulimit -n {OPEN_FILES} or more)"
        )


def _check_threads() -> None:
    """Stops where too few threads may be started: OpenMP ends the process without a sentence then, others wait."""
    count, done = 2 * torch.get_num_threads() + DECODING, threading.Event()
    started: list[threading.Thread] = []
    before = threading.stack_size(SMALL_STACK)
    try:
        for _ in range(count):
            started.append(threading.Thread(target=done.wait, daemon=True))
            started[-1].start()
    except RuntimeError:
        raise InputError(
            f"no more than {len(started) - 1} of {count} threads can be started: raise the limit of processes "
            "(ulimit -u), or set OMP_NUM_THREADS to fewer"
        ) from None
    finally:
        done.set()
        threading.stack_size(before)
        for thread in started:
            if thread.ident is not None:
                thread.join()


def _check_processors() -> None:
    try:
        joblib.cpu_count()
    except ValueError:
        count = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise InputError(f"LOKY_MAX_CPU_COUNT {count!r} is no number of processors: set one, or unset it") from None


def _of_the_machine(error: RuntimeError | MemoryError | OSError) -> str:
    """What the machine has refused, and the way out; empty for what may be a mistake of this program."""
    if is_out_of_memory(error):
        return f"out of memory ({_in_one_line(error)}): free some, or raise its limit (ulimit -v)"
    if any(words in str(error) for words in WORKER_IS_GONE):
        last = str(error).strip().splitlines()[-1]  # of the traceback that a worker hands over
        way_out = SMALL_FILES if os.strerror(errno.EFBIG) in last else FEWER_WORKERS
        return f"{last[:300]}; a process that decodes images was ended, {way_out}"
    if any(words in str(error) for words in TOO_MANY_FILES):
        return f"{_in_one_line(error)}: {WAYS_OUT[errno.EMFILE]}"
    if not isinstance(error, OSError):
        return ""
    if error.errno in DISK_ERRORS:
        return f"{_in_one_line(error)}: free some space there, or use another disk"
    if error.errno in WAYS_OUT:
        return f"{_in_one_line(error)}: {WAYS_OUT[error.errno]}"
    if isinstance(error.filename, str | bytes):
        return f"cannot use {visible(os.fsdecode(error.filename))}: {error.strerror}; give another path, or mend this"
    try:
        os.getcwd()
    except OSError:
        return "the working directory is gone: go to one that is there"
    return ""


def _let_go(error: Exception) -> None:
    """Takes apart what an error keeps alive; what PyTorch's half-made loaders complain of then is no news."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
    finally:
        sys.unraisablehook = before


def _end(code: int, message: str) -> int:
    with contextlib.suppress(OSError):  # standard error may be on a full disk, and the code says it too
        distributed.tell_once(message)
    return code


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
