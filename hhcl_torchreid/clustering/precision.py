"""Similarities in float32, whatever the network around them computes in, and what processors multiply fastest."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

__all__ = ["cpu_has_matrix_units", "in_float32"]

# What Linux calls a CPU's matrix units. Those with AVX-512 BF16 only gain with some networks and lose with others.
MATRIX_UNITS = "amx_bf16"

_SWITCH = "fp32_precision"


@cache
def cpu_has_matrix_units() -> bool:
    """Whether the CPU multiplies numbers of half precision (bf16) many times faster than others."""
    # PyTorch has no public word for it. Other systems than Linux stay with float32.
    description = Path("/proc/cpuinfo")
    return description.exists() and MATRIX_UNITS in description.read_text().split()


@contextmanager
def in_float32() -> Iterator[None]:
    """Keeps matrix products of float32 in float32, under autocast and where TF32 is allowed too; a decorator as well.

    Ten bits of mantissa, or seven, do not tell near neighbours apart.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _without_tf32():
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    # PyTorch 2.9 has a switch for each back end beside the older one for all, and refuses to read the older one where
    # the two contradict each other.
    modules = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    backends = [module for module in modules if hasattr(module, _SWITCH)]
    switches = [getattr(backend, _SWITCH) for backend in backends]
    if all(switch in ("none", "ieee") for switch in switches) and (backends or _older_switch() == "highest"):
        yield
        return
    older_switch = _older_switch()
    if older_switch is not None:
        torch.set_float32_matmul_precision("highest")
    for backend in backends:
        setattr(backend, _SWITCH, "ieee")
    try:
        yield
    finally:
        if older_switch is not None:
            torch.set_float32_matmul_precision(older_switch)
        for backend, switch in zip(backends, switches, strict=True):
            setattr(backend, _SWITCH, switch)


def _older_switch() -> str | None:
    """Tells what :func:`torch.set_float32_matmul_precision` has set; None where only newer switches have been used."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
