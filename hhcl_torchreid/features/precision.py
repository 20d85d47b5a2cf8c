import torch

from ..models.acceleration import choose_precision


def use_precision(amp: str, device: torch.device) -> torch.dtype:
    """As :func:`choose_precision`, said once, and with convolutions in all of float32 where that is it."""
    precision = choose_precision(amp, device)
    if precision == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # its convolutions would keep 10 bits of the mantissa's 23
    print(f"=> The network computes in {str(precision).removeprefix('torch.')} (train.amp {amp})")
    return precision
