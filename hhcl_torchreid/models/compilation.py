"""Compiled networks."""

import torch
from torch import nn

from ..errors import InputError

__all__ = ["compile_model"]


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
