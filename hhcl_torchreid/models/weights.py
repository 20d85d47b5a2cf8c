"""Weights from files: of this package, of torchreid, of torchvision; found, renamed, compared and loaded."""

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ..checkpoint import configuration_in, load_checkpoint
from ..errors import InputError
from .backbones import BACKBONES
from .network import ADDED_LAYERS, ReIDModel

__all__ = ["backbone_named_in", "find_state_dict", "load_weights"]

# How names of weights in files become those of a backbone: pattern and replacement, one layout a row, applied in turn.
_RENAMED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^module\."), ""),  # of a model that was wrapped for several GPUs
    # torchvision's DenseNet files date from when a module's name could hold a dot.
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
)
_IMAGENET_CLASSIFIER = re.compile(r"(fc|last_linear|classifier(\.\d+)?)\.(weight|bias)")


def load_weights(model: ReIDModel, path: str | os.PathLike[str]) -> list[str]:
    """Loads the weights of a checkpoint into a model, in place.

    The file may be a checkpoint of this package or of torchreid (a dictionary with ``"state_dict"``), or a bare state
    dict such as the ImageNet weights of torchvision; a ``module.`` prefix is taken off. Classifiers and other layers
    that do not reach the features are ignored. Layers on top of the backbone (``fc*``, ``embedding``, ``neck`` and the
    exponent of GeM pooling) may be missing from the file: they stay as they are, and a warning names them.
    Half-precision weights become float32. Unless everything fits, nothing is loaded.

    Args:
        model: The model, not wrapped for distributed training.
        path: The file. It is read with ``weights_only=True``: loading it cannot run code.

    Returns:
        Names in ``model.state_dict()`` that the file has no weights for.

    Raises:
        InputError: If the file is missing, is no checkpoint, or belongs to another model.
    """
    checkpoint = load_checkpoint(path)
    weights = find_state_dict(checkpoint, path)
    own = model.state_dict()
    mismatch = _first_mismatch(weights, own, model.removed_layers)
    if mismatch:
        seems_to_be = backbone_named_in(checkpoint)
        is_another = seems_to_be is not None and seems_to_be != model.name
        way_out = f"set model.name {seems_to_be}" if is_another else "give a file of the same model and settings"
        raise InputError(f"{path} does not hold weights of this {model.name} ({mismatch}): {way_out}")
    model.load_state_dict({key: value for key, value in weights.items() if key in own}, strict=False)
    missing = [key for key in own if key not in weights and not key.endswith(".num_batches_tracked")]
    if missing:
        warnings.warn(f"{path} has no weights for {', '.join(missing)}: left as initialised", stacklevel=2)
    return missing


def find_state_dict(checkpoint: Any, path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Finds the weights in what was read from a file: of a checkpoint or bare, without a ``module.`` prefix.

    Raises:
        InputError: If there are none.
    """
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"{path} holds no state dict: give a checkpoint, or a file of torch.save(model.state_dict())")
    return {_renamed(str(key)): value for key, value in weights.items()}


def _renamed(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key = pattern.sub(replacement, key)
    return key


def _first_mismatch(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], removed_layers: tuple[str, ...]
) -> str | None:
    for key, value in own.items():
        if key in weights and weights[key].shape != value.shape:
            return f"{key} is {list(weights[key].shape)} in the file and {list(value.shape)} in the model"
    for key in weights:
        is_ignored = _IMAGENET_CLASSIFIER.fullmatch(key) or key.startswith(
            tuple(f"{layer}." for layer in removed_layers)
        )
        if key not in own and not is_ignored:
            return f"the model has no {key}"
    for key in own:
        if key not in weights and not _may_be_missing(key):
            return f"the file has no {key}"
    return None


def _may_be_missing(key: str) -> bool:
    first, last = key.split(".")[0], key.split(".")[-1]
    # torchreid names its own layers after the pooling fc, fc_fusion and the like; GeM's exponent is p.
    return first in ADDED_LAYERS or first.startswith("fc") or last in ("p", "num_batches_tracked")


def backbone_named_in(checkpoint: Any) -> str | None:
    """Finds the backbone that a checkpoint's ``"model_name"`` or its configuration names, if any."""
    if not isinstance(checkpoint, Mapping):
        return None
    name = checkpoint.get("model_name")
    if name is None:
        with contextlib.suppress(InputError):  # of another program's configuration
            cfg = configuration_in(checkpoint, "the file")
            name = cfg and cfg.model.name
    return name if isinstance(name, str) and name in BACKBONES else None
