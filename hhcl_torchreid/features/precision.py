"""The arithmetic of a network: float32, or half precision where the processor is made for it."""

import logging

import torch

from ..clustering.precision import cpu_has_matrix_units
from ..errors import InputError

__all__ = ["PRECISIONS", "choose_precision", "use_precision"]

logger = logging.getLogger(__name__)

PRECISIONS = {"auto": None, "off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(amp: str, device: torch.device) -> torch.dtype:
    """Chooses the arithmetic of the network's matrix products.

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
        if gpu_has_bf16 or (device.type == "cpu" and cpu_has_matrix_units()):
            chosen = torch.bfloat16
        elif device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
            chosen = torch.float16
        else:
            chosen = torch.float32
    return chosen


def use_precision(amp: str, device: torch.device) -> torch.dtype:
    """As :func:`choose_precision`; says what it is, and lets all of this process's convolutions be float32 if it is.

    Their TF32 would keep 10 bits of the mantissa's 23.
    """
    precision = choose_precision(amp, device)
    if precision == torch.float32:
        torch.backends.cudnn.allow_tf32 = False
    logger.info(f"=> The network computes in {str(precision).removeprefix('torch.')} (train.amp {amp})")
    return precision
