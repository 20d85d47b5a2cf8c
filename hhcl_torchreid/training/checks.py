"""What must fit together before a run begins."""

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from .. import distributed
from ..data.sampler import BatchPlan, check_batch_size
from ..data.transforms import check_transforms, transforms_of
from ..errors import InputError
from ..models.batch_norm import check_num_batches

__all__ = ["check_engine", "check_groups"]

logger = logging.getLogger(__name__)


def check_engine(
    datamanager: Any, model: nn.Module, plan: BatchPlan, precise_bn: int, camera_bn: int, transforms: Sequence[str]
) -> None:
    """Checks arguments of :class:`~hhcl_torchreid.ImageHHCLEngine` that nothing else does.

    Says so where the data manager has been given transforms that the engine has not: those of the engine count.

    Raises:
        InputError: settings that do not go together, data that are no images, a model of another making.
    """
    if datamanager.data_type != "image":
        raise InputError(f"HHCL learns from images, not from data of type {datamanager.data_type!r}")
    check_batch_size(plan.batch_size, plan.num_instances)
    check_groups(plan.bn_groups, plan.batch_size)
    _check_model(model)
    if plan.iters < 1:
        raise InputError(f"engine.iters is {plan.iters}: an epoch takes at least one step")
    for name, num_batches in (("train.precise_bn", precise_bn), ("train.camera_bn", camera_bn)):
        check_num_batches(name, num_batches, model)
    own, others = check_transforms(transforms), transforms_of(datamanager)
    if ignored := set(others) - set(own):
        logger.warning(
            f"=> HHCL augments with {', '.join(own) or 'nothing'}, not with the data manager's "
            f"{', '.join(sorted(ignored))}: give the engine transforms={others}"
        )


def check_groups(bn_groups: int, batch_size: int) -> None:
    """Checks that a batch can be divided among the groups of batch norm, and these among the processes.

    Raises:
        InputError: it cannot.
    """
    if bn_groups < 1 or batch_size % bn_groups:
        raise InputError(f"train.bn_groups ({bn_groups}) must divide train.batch_size ({batch_size})")
    if bn_groups == batch_size:
        raise InputError(
            f"train.bn_groups ({bn_groups}) leaves groups of one image, which have no statistics: set it to "
            f"{batch_size // 2} or less"
        )
    if bn_groups % distributed.world_size():
        raise InputError(
            f"train.bn_groups ({bn_groups}) must be a multiple of the number of processes "
            f"({distributed.world_size()}), as each has batch-norm statistics of its own: set train.bn_groups "
            f"{distributed.world_size()}"
        )


def _check_model(model: nn.Module) -> None:
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise InputError(
            f"the model is wrapped in {type(model).__name__}: give the engine the model itself; torchrun trains on "
            "several GPUs, and bn_groups gives one the batch-norm statistics of several"
        )
    if type(model).__module__.startswith("torchreid.") or not hasattr(model, "feature_dim"):
        raise InputError(
            f"this {type(model).__name__} does not give unit feature vectors of a known length: build the model with "
            "hhcl_torchreid.build_model, which takes any of torchreid's names"
        )
