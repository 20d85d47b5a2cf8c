"""Optimisers that do their step in one kernel."""

from typing import Any

import torch

__all__ = ["fuse_optimizer"]


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
