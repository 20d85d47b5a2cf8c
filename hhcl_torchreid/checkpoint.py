"""Checkpoints: written whole or not at all, and read without running any code that they hold."""

import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import InputError

__all__ = [
    "libraries_writing",
    "load_checkpoint",
    "random_states",
    "restore_random_states",
    "save_checkpoint",
    "writing",
]

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint to a temporary file beside ``path`` and renames it, so that a good one is never half lost.

    Args:
        state: tensors, plain Python numbers, strings and containers of them (no NumPy scalars: ``torch.load`` with
            ``weights_only`` refuses those).
        path: the file; its folder is made if need be.

    Raises:
        InputError: it cannot be written; what stood at ``path`` still stands.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, "; the checkpoint that was there is intact"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path, consequence: str = "", option: str = "data.save_dir") -> Iterator[None]:
    """Turns a full disk, a vanished folder or missing rights into one sentence about ``path``.

    Args:
        path: what is being written.
        consequence: what this means for other files, as a clause.
        option: the setting that chooses another folder.

    Raises:
        InputError: the operating system refused.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save turns an OSError of its file into a RuntimeError.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise InputError(
            f"cannot write {path}: {reason}{consequence}; free some space there or set {option} to a folder that can "
            "be written"
        ) from error


@contextmanager
def libraries_writing(folder: str | Path) -> Iterator[None]:
    """The same for what libraries write to a run's folder in their own time, such as TensorBoard's events.

    Raises:
        InputError: the disk is full or broken, or the folder has vanished.
    """
    hook = threading.excepthook
    # TensorBoard's thread hands its error on to the main thread, which says it in a sentence.
    threading.excepthook = lambda thread: None if issubclass(thread.exc_type, OSError) else hook(thread)
    try:
        yield
    except OSError as error:
        is_in_folder = error.filename is not None and os.fsdecode(error.filename).startswith(str(folder))
        if error.errno not in DISK_ERRORS and not is_in_folder:
            raise
        with writing(folder, "; the last checkpoint is as it was"):
            raise
    finally:
        threading.excepthook = hook


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; only tensors and plain values, never code.

    Args:
        path: the file.

    Returns:
        What was saved.

    Raises:
        InputError: no such file, or no checkpoint.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist: give the path of a checkpoint")
    try:
        with torch.serialization.safe_globals(_numpy_scalar_types()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # A file of another kind makes the unpickler fail in any way its bytes suggest.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}): give a file that torch.save wrote, holding "
            "tensors and plain values only"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds no state dict but a {type(checkpoint).__name__}: give a checkpoint")
    return checkpoint


def _numpy_scalar_types() -> list[Any]:
    """What it takes to read a NumPy number: torchreid's own checkpoints hold one, the rank-1 score."""
    build_scalar = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    dtypes = [type(np.dtype(dtype)) for dtype in (np.float32, np.float64, np.int64)]
    return [*((build_scalar, f"{module}.scalar") for module in modules), np.dtype, *dtypes]


def random_states() -> dict[str, Any]:
    """The states of the generators of Python, NumPy, PyTorch and CUDA, as values that a checkpoint can hold."""
    state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached_gaussian = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached_gaussian)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Puts the generators back where :func:`random_states` found them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
