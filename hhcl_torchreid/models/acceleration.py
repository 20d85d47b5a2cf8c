"""What makes a step fast on the hardware at hand: half precision, fused optimisers, compilation."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError

__all__ = ["PRECISIONS", "choose_precision", "compile_model", "fuse_optimizer"]

# What Linux calls a CPU's matrix units. Those with AVX-512 BF16 only gain with some networks and lose with others.
MATRIX_UNITS = "amx_bf16"
PRECISIONS = {"auto": None, "off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(amp: str, device: torch.device) -> torch.dtype:
    """The arithmetic of the network's matrix products.

    Args:
        amp: ``"off"`` is float32; ``"bf16"`` and ``"fp16"`` (with loss scaling) are autocast; ``"auto"`` takes bf16
            where the processor has matrix units for it (NVIDIA GPUs from Ampere on, CPUs with AMX), fp16 on GPUs with
            units for that only (Volta, Turing), and float32 elsewhere.
        device: where the network runs.

    Returns:
        ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.

    Raises:
        InputError: an unknown name, or bf16 on a GPU that has none.
    """
    if amp not in PRECISIONS:
        raise InputError(f"train.amp is {amp!r}: choose one of {', '.join(PRECISIONS)}")
    gpu_has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if amp == "bf16" and device.type == "cuda" and not gpu_has_bf16:
        raise InputError(f"train.amp is 'bf16', which {torch.cuda.get_device_name(device)} lacks: set it to auto")
    chosen = PRECISIONS[amp]
    if chosen is None:
        if gpu_has_bf16 or (device.type == "cpu" and _cpu_has_matrix_units()):
            chosen = torch.bfloat16
        elif device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
            chosen = torch.float16
        else:
            chosen = torch.float32
    return chosen


def _cpu_has_matrix_units() -> bool:
    # PyTorch has no public word for it. Other systems than Linux stay with float32.
    description = Path("/proc/cpuinfo")
    return description.exists() and MATRIX_UNITS in description.read_text().split()


def fuse_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Makes an optimiser do its step in one kernel, where PyTorch has one; with loss scaling, without waiting either.

    Args:
        optimizer: as ``torchreid.optim.build_optimizer`` builds it, which knows no such setting.

    Returns:
        An optimiser of the same class over the same groups; the given one where there is no fused kernel.
    """
    # Subclasses of them, such as AdamW, may have settings that Adam lacks.
    kind: Any = type(optimizer)
    if kind not in (torch.optim.Adam, torch.optim.SGD):
        return optimizer
    groups = [{**group, "foreach": None, "fused": True} for group in optimizer.param_groups]
    return kind(groups, lr=groups[-1]["lr"], fused=True)


def compile_model(model: nn.Module, image_size: tuple[int, int]) -> None:
    """Compiles a model in place; the names of its weights stay.

    Args:
        model: already on its device.
        image_size: height and width of the images, pixels.

    Raises:
        InputError: this machine lacks what ``torch.compile`` needs, such as a C++ compiler.
    """
    model.compile()
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(2, 3, *image_size, device=next(model.parameters()).device))
    # Compilers fail in their own ways; the network itself has been run before.
    except Exception as error:
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise InputError(f"train.compile: torch.compile fails here ({reason}): set it to False") from error
    model.train(was_training)
