"""Checkpoints: written whole or not at all, and read without running any code that they hold."""

import argparse
import contextlib
import io
import logging
import os
import random
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from yacs.config import CfgNode

from .config import LARGEST_FILE, get_default_config, get_value, has_effect
from .errors import TOO_LARGE, InputError, is_out_of_memory
from .files import replacing
from .resources import find_resource
from .settings import SETTINGS, shorten

__all__ = [
    "check_settings",
    "configuration_in",
    "load_checkpoint",
    "random_states",
    "restore_random_states",
    "save_checkpoint",
]

logger = logging.getLogger(__name__)

MAY_CHANGE = frozenset(
    {
        *("use_gpu", "model.resume", "data.root", "data.save_dir", "data.workers", "data.cache"),
        *("train.max_epoch", "train.print_freq", "train.compile", "cuhk03.use_metric_cuhk03"),
    }
)
"""Settings that a run may go on with another value of, beside those of ``test``: they change nothing that it learns."""

MOST_INFLATED = 4
"""Times the size of its file that an archive may unpack to; one that was packed again by hand takes two or so."""
MOST_PARTS = 3 * 10**4
"""Tensors and containers in a checkpoint; those of a run have thousands. PyTorch's time grows by their square."""

MOST_DESCRIBED = 20_000_000
"""Bytes that name the parts of a checkpoint and hold its plain values, of which PyTorch reads one megabyte a second."""

OF_THE_START = ("model.pretrained", "model.load_weights")
"""Settings that nothing asks for any more once a run has begun."""


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint to a temporary file beside ``path`` and renames it, so that a good one is never half lost.

    Args:
        state: tensors, plain Python numbers, strings and containers of them (no NumPy scalars: ``torch.load`` with
            ``weights_only`` refuses those).
        path: the file; its folder is made if need be.

    Raises:
        InputError: it cannot be written; what stood at ``path`` still stands.
    """
    with replacing(path, "wb", "; the checkpoint that was there is intact") as file:
        torch.save(state, file)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; only tensors and plain values, never code.

    Args:
        path: the file, of ``torch.save`` or safetensors, or the name of one that comes with the package, as
            ``weights/osnet_x0_25_rendered.pth``.

    Returns:
        What was saved.

    Raises:
        InputError: no such file, or no checkpoint.
    """
    path = find_resource(os.fspath(path), "weights")
    if not os.path.isfile(path):
        what = "is no ordinary file" if os.path.lexists(path) else "does not exist"
        raise InputError(f"{path} {what}: give the path of a checkpoint")
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_harmless_types()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'torch.load' received a zip file that looks like a TorchScript")
            checkpoint = _read(path)
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}; give a checkpoint that can be read") from error
    # A file of another kind makes the unpickler fail in any way its bytes suggest.
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(f"{path} cannot be read: {TOO_LARGE}") from error
        raise InputError(
            f"{path} cannot be read as weights ({_kind_of(path, error)}): give a file of safetensors, or of torch.save "
            "holding tensors and plain values only, as of model.state_dict()"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds no state dict but a {type(checkpoint).__name__}: give a checkpoint")
    _check_parts(checkpoint, path)
    return checkpoint


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Stops at an archive that would fill the memory, as ``torch.save`` compresses nothing, or take for ever."""
    parts: list[zipfile.ZipInfo] = []
    # What is no archive, or a broken one, gets its answer where it is read.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    inflated = sum(part.file_size for part in parts)
    if inflated > MOST_INFLATED * os.path.getsize(path):
        raise InputError(f"{path} is compressed, and unpacks to {inflated:,} bytes: save it anew with torch.save")
    described = sum(part.file_size for part in parts if part.filename.endswith("/data.pkl"))
    if len(parts) > MOST_PARTS or described > MOST_DESCRIBED:
        raise _too_many_parts(path)


def _read(path: str) -> Any:
    if not _is_safetensors(path):
        # Only the format before PyTorch 1.6, which tells no sizes beforehand, is read piece by piece.
        with contextlib.nullcontext(path) if zipfile.is_zipfile(path) else _Pieces(path) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > MOST_DESCRIBED:
            raise _too_many_parts(path)
    return load_file(path)


class _Pieces(io.BufferedReader):
    """A file that can be read in as many pieces as a checkpoint is told in."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self._left = 30 * MOST_PARTS

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads a piece."""
        self._left -= 1
        if self._left < 0:
            raise _too_many_parts(self.name)
        return super().read(size)


def _too_many_parts(path: str | os.PathLike[str]) -> InputError:
    return InputError(f"{path} holds more parts than any network has: give a checkpoint")


def _check_parts(checkpoint: dict[Any, Any], path: str | os.PathLike[str]) -> None:
    """Stops at what would take for ever: containers in themselves, and tensors of more numbers than were saved."""
    left: list[Any] = [checkpoint]
    for _ in range(MOST_PARTS):
        if not left:
            return
        part = left.pop()
        if isinstance(part, torch.Tensor):
            if not (part.is_meta or _is_whole(part)):
                shape = "of tensors" if part.is_nested else list(part.shape)
                raise InputError(
                    f"{path} holds a tensor {shape} that is sparse, quantised or a view of fewer numbers: "
                    "save ordinary ones, tensor.dequantize() or tensor.contiguous()"
                )
        else:
            inside = part.values() if isinstance(part, Mapping) else part
            left += [item for item in inside if isinstance(item, torch.Tensor | Mapping | list | tuple)]
    raise _too_many_parts(path)


def _is_whole(tensor: torch.Tensor) -> bool:
    is_ordinary = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_nested)
    return is_ordinary and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as that format does: the length of its table, then the table, which is JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def _harmless_types() -> list[Any]:
    """What files hold beside weights: torchreid's a NumPy number, the rank-1 score, and others' the command line."""
    build_scalar = np.float64(0).__reduce__()[0]
    scalars = [(build_scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")]
    dtypes = [type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)]
    kinds_of_path = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}  # which open nothing
    modules = ("pathlib", "pathlib._local")  # the second in Python 3.13
    paths = [(kind, f"{module}.{name}") for name, kind in kinds_of_path.items() for module in modules]
    return [*scalars, np.dtype, *dtypes, *paths, argparse.Namespace]


def _kind_of(path: str | os.PathLike[str], error: Exception) -> str:
    """What a file is that holds no weights, in words."""
    asked_for = re.search(r"GLOBAL (\S+) (was not an allowed|whose module)", str(error))
    if asked_for:
        return f"it asks for {asked_for[1]}, which could run code"
    # A broken archive makes zipfile fail in any way too.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return "it is a TorchScript program"
    with open(path, "rb") as file:
        beginning = file.read(3)
    # The fields that every exporter writes first: the version of ONNX, a byte, and the exporter's name.
    is_onnx = beginning[:1] == b"\x08" and beginning[2:] == b"\x12"
    return "it is an ONNX model" if is_onnx else type(error).__name__


def configuration_in(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> CfgNode | None:
    """Reads the configuration that a checkpoint was trained with; it runs no code and changes nothing.

    Args:
        checkpoint: from :func:`load_checkpoint`.
        path: its file, for messages.

    Returns:
        The configuration over the defaults, without keys that are not known here; None where the checkpoint has none.
        Values may be of any kind.

    Raises:
        InputError: there is one, and it cannot be read.
    """
    text = checkpoint.get("config")
    if not isinstance(text, str):
        return None
    cfg = get_default_config()
    try:
        if len(text) > LARGEST_FILE:
            raise ValueError("longer than any configuration")
        _take_over(yaml.load(text, _WithoutMerging), cfg)
    # YAML's dates can be none, and its lists nested without end.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"the configuration in {path} cannot be read ({type(error).__name__}): give a checkpoint that "
            "tools/train_hhcl.py wrote"
        ) from error
    return cfg


class _WithoutMerging(yaml.SafeLoader):
    """YAML whose values take no more memory than its text: merged keys could, a ninefold of a ninefold."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves ``<<`` as it is, which no constructor knows."""


def check_settings(checkpoint: Mapping[str, Any], path: str | os.PathLike[str], cfg: CfgNode) -> dict[str, Any]:
    """Checks that a run can go on from a checkpoint with a configuration: what it learns by must be as it was.

    Args:
        checkpoint: from :func:`load_checkpoint`.
        path: its file, for messages.
        cfg: what is to go on.

    Returns:
        Key -> value of what the run began with and ``cfg`` says otherwise; it has no effect any more.

    Raises:
        InputError: other settings have changed, which are named with both values.
    """
    stored = configuration_in(checkpoint, path)
    if stored is None:
        return {}
    unknown = sorted(_unknown_in(yaml.load(checkpoint["config"], _WithoutMerging), cfg))
    if unknown:
        logger.warning(
            f"{path} is of another version, with settings that this one does not know and leaves out: "
            f"{shorten(', '.join(unknown))}\n"
        )
    began = {key: _checked(key, get_value(stored, key)) for key in SETTINGS if has_effect(cfg, key)}
    other = {key: value for key, value in began.items() if value != get_value(cfg, key)}
    refused = [key for key in other if not (_may_change(key, cfg) or key in OF_THE_START)]
    if refused:
        changes = ", ".join(f"{key} {shorten(other[key])} (now {shorten(get_value(cfg, key))})" for key in refused)
        raise InputError(
            f"{path} is of a run with {changes}: go on with that, or begin a new run from its weights with "
            "model.load_weights in place of model.resume, in another data.save_dir"
        )
    return {key: other[key] for key in OF_THE_START if key in other}


def _may_change(key: str, cfg: CfgNode) -> bool:
    if key == "train.max_epoch" and cfg.train.lr_scheduler == "cosine":
        return cfg.test.evaluate  # the learning rate of every epoch depends on it
    return key in MAY_CHANGE or key.startswith("test.") or (key == "data.targets" and cfg.test.evaluate)


def _checked(key: str, value: Any) -> Any:
    """The value in the form that a configuration has it; as it stands where it is none."""
    try:
        return SETTINGS[key].check(value)
    except InputError:
        return value


def _unknown_in(stored: Mapping[Any, Any], cfg: CfgNode, section: str = "") -> Iterator[str]:
    for key, value in stored.items():
        if key not in cfg:
            yield f"{section}{key}"
        elif isinstance(cfg[key], CfgNode):
            yield from _unknown_in(value, cfg[key], f"{section}{key}.")


def _take_over(stored: Any, cfg: CfgNode) -> None:
    if not isinstance(stored, Mapping):
        raise TypeError(f"settings, not a {type(stored).__name__}")
    for key in stored.keys() & cfg.keys():
        if isinstance(cfg[key], CfgNode):
            _take_over(stored[key], cfg[key])
        else:
            cfg[key] = stored[key]


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
