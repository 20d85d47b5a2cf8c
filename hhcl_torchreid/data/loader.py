"""The training loader of one epoch: batches of images in memory, augmented on the device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..distributed import own_part
from .sampler import CrossCameraBatchSampler
from .transforms import AugmentationDraws, BatchAugmentation

__all__ = ["AugmentedBatches"]


class AugmentedBatches:
    """Iterates over the batches of one epoch, in the form that torchreid's training loop takes.

    A batch is ``{"img": (B, 3, H, W) float32 on the device, "pid": (B,) int64 pseudo labels on the CPU}``. In a run of
    several processes each makes the images of its own part of the batch only; chance decides as it would in one.

    Args:
        bank (Tensor): (N, 3, H, W) uint8, every training image.
        labels (Tensor): (N,) int64 on the CPU, the pseudo label of each.
        sampler (CrossCameraBatchSampler): which images meet.
        augmentation (BatchAugmentation): what happens to them.
        device (torch.device): where the batch is made.
        generator (numpy.random.Generator): source of the augmentation's draws.
        group_size (int): images that stay together on one process.
    """

    def __init__(
        self,
        bank: Tensor,
        labels: Tensor,
        sampler: CrossCameraBatchSampler,
        augmentation: BatchAugmentation,
        device: torch.device,
        generator: np.random.Generator,
        group_size: int,
    ) -> None:
        self.bank = bank
        self.labels = labels
        self.sampler = sampler
        self.augmentation = augmentation
        self.device = device
        self.generator = generator
        self.group_size = group_size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for indices in self.sampler:
            chosen = torch.tensor(indices)
            own = own_part(len(chosen), self.group_size)
            draws = self.augmentation.draw(len(chosen), *self.bank.shape[2:], self.generator)
            images = self.bank[chosen[own]].to(self.device, non_blocking=True)
            own_draws = AugmentationDraws(*(draw[own] for draw in draws))
            yield {"img": self.augmentation.apply(images, own_draws), "pid": self.labels[chosen]}
