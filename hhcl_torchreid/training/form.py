"""Whether what stands in a checkpoint is of the form that a run has: what was changed by hand may be anything."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_form", "check_optimizer_state"]


def check_form(name: str, own: Any, stored: Any) -> None:
    """Checks that a stored value could stand in place of one's own.

    Numbers may differ in kind and value, tensors in value; of a mapping, the keys that both have must be of one form;
    where there is nothing yet, a number may stand.

    Args:
        name: of the value, for the message.
        own: what a run has.
        stored: what a checkpoint has.

    Raises:
        TypeError: it could not.
    """
    if isinstance(own, Mapping):
        _check(name, isinstance(stored, Mapping), stored)
        for key in own.keys() & stored.keys():
            check_form(f"{name}.{key}", own[key], stored[key])
    elif isinstance(own, (list, tuple)):
        _check(name, isinstance(stored, (list, tuple)) and len(stored) == len(own), stored)
        for position, (value, other) in enumerate(zip(own, stored, strict=True)):
            check_form(f"{name}[{position}]", value, other)
    elif isinstance(own, Tensor):
        fits = isinstance(stored, Tensor) and stored.shape == own.shape and stored.dtype == own.dtype
        _check(name, fits and not stored.is_meta, stored)
    elif own is None or isinstance(own, (int, float)):
        is_number = isinstance(stored, (int, float)) and abs(stored) <= sys.float_info.max
        _check(name, is_number or (stored is None and own is None), stored)
    else:
        _check(name, isinstance(stored, type(own)), stored)


def check_optimizer_state(optimizer: torch.optim.Optimizer, stored: Any) -> None:
    """Checks that the state of an optimiser fits the weights of another like it.

    Raises:
        TypeError: it does not.
        ValueError: it is of another number of groups or weights.
    """
    own = optimizer.state_dict()
    _check("optimizer", isinstance(stored, Mapping) and {"state", "param_groups"} <= stored.keys(), stored)
    _check("optimizer.state", isinstance(stored["state"], Mapping), stored["state"])
    _check("optimizer.param_groups", isinstance(stored["param_groups"], list), stored["param_groups"])
    groups = zip(own["param_groups"], stored["param_groups"], strict=False)  # their number is the optimiser's to judge
    for number, (group, other) in enumerate(groups):
        form = {key: value for key, value in group.items() if key != "params"}
        check_form(f"optimizer.param_groups[{number}]", {**form, "foreach": None, "fused": None}, other)
        captures = other.get("capturable", False) == group.get("capturable", False)  # for CUDA graphs alone
        _check(f"optimizer.param_groups[{number}].capturable", captures, other.get("capturable"))
        missing = {*form, "params"} - other.keys() - {"initial_lr", "decoupled_weight_decay"}
        _check(f"optimizer.param_groups[{number}]", not missing, other)
    weights = dict(enumerate(weight for group in optimizer.param_groups for weight in group["params"]))
    states = [state for state in stored["state"].values() if isinstance(state, Mapping)]
    kinds = {key: type(value) for state in states for key, value in state.items()}
    for number, state in stored["state"].items():
        name = f"optimizer.state[{number}]"
        _check(name, number in weights and isinstance(state, Mapping) and state.keys() == kinds.keys(), state)
        for key, value in state.items():
            fits = isinstance(value, kinds[key]) and isinstance(value, (int, float, Tensor, type(None)))
            if isinstance(value, Tensor):
                fits = fits and (value.ndim == 0 or value.shape == weights[number].shape) and not value.is_meta
            _check(f"{name}.{key}", fits, value)


def _check(name: str, fits: bool, value: Any) -> None:
    if not fits:
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise TypeError(f"{name} is a {type(value).__name__}{shape}")
