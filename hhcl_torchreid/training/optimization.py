"""Optimisers that do their step in one kernel, and learning rates that rise before they fall."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

__all__ = ["fuse_optimizer", "warm_up"]

WARM_UP_START = 0.1


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


def warm_up(scheduler: LRScheduler, epochs: int) -> LRScheduler:
    """Puts a linear rise of the learning rate before a schedule, which begins at its end.

    In epoch e = 0, 1, ... of the rise the rate is ``0.1 + 0.9 * e / epochs`` times the full one, as in 3C
    (arXiv 2408.09464), whose code steps it once an epoch too.

    Args:
        scheduler: as ``torchreid.optim.build_lr_scheduler`` builds it.
        epochs: of the rise; 0 for none.

    Returns:
        The schedule with its rise; the given one without.
    """
    if epochs == 0:
        return scheduler
    rise = LinearLR(scheduler.optimizer, WARM_UP_START, total_iters=epochs)
    return SequentialLR(scheduler.optimizer, [rise, scheduler], milestones=[epochs])
