"""A teacher: the moving average of a network's weights, steadier than the network itself."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import InputError

__all__ = ["make_teacher"]


def make_teacher(model: nn.Module, decay: float) -> AveragedModel | None:
    """Makes a moving average of a model's weights, to be moved by ``update_parameters(model)`` after every step.

    The average begins with the first step's weights; buffers, such as batch-norm statistics, are copied.

    Args:
        model: the network that learns, on its device.
        decay: what the average keeps of itself in a step, in [0, 1); 0 for no teacher.

    Returns:
        The average, whose network is its ``module``; None without one.

    Raises:
        InputError: the decay is out of range.

    References:
        Tarvainen, Valpola: Mean teachers are better role models, NeurIPS 2017; Ge, Chen, Li: Mutual Mean-Teaching,
        ICLR 2020, for person re-identification.
    """
    if not 0 <= decay < 1:
        raise InputError(f"hhcl.teacher is {decay}: give a number from 0 (no teacher) to below 1, such as 0.999")
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
