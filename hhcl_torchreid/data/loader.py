"""The loaders that torchreid's loops go through: batches of one epoch of training, and of a test set."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributed import own_part
from .sampler import CrossCameraBatchSampler
from .store import ImageStore
from .transforms import AugmentationDraws, BatchAugmentation

__all__ = ["AugmentedBatches", "TestBatches"]


class AugmentedBatches:
    """Iterates over the batches of one epoch, in the form that torchreid's training loop takes.

    A batch is ``{"img": (B, 3, H, W) float32 on the store's device, "pid": (B,) int64 pseudo labels on the CPU}``. In a
    run of several processes each makes the images of its own part of the batch only; chance decides as it would in one.

    Args:
        store (ImageStore): every training image.
        labels (Tensor): (N,) int64 on the CPU, the pseudo label of each.
        sampler (CrossCameraBatchSampler): which images meet.
        augmentation (BatchAugmentation): what happens to them.
        generator (numpy.random.Generator): source of what the augmentation draws.
        group_size (int): images that stay together in one process.

    Attributes:
        seconds (float): time spent on making batches so far, which the training loop waited for.
    """

    def __init__(
        self,
        store: ImageStore,
        labels: Tensor,
        sampler: CrossCameraBatchSampler,
        augmentation: BatchAugmentation,
        generator: np.random.Generator,
        group_size: int,
    ) -> None:
        self.store = store
        self.labels = labels
        self.sampler = sampler
        self.augmentation = augmentation
        self.generator = generator
        self.group_size = group_size
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # The store may look ahead, so that its workers have something to decode.
        chosen, ahead = itertools.tee(self.sampler)
        started = time.monotonic()
        own_ahead = (indices[own_part(len(indices), self.group_size)] for indices in ahead)
        for indices, images in zip(chosen, self.store.batches(own_ahead), strict=True):
            labels = self.labels[torch.tensor(indices)]
            if self.store.device.type == "cuda":
                labels = labels.pin_memory()  # so that nobody waits when they are copied there
            batch = {"img": self._augment(images, len(indices)), "pid": labels}
            self.seconds += time.monotonic() - started
            yield batch
            started = time.monotonic()

    def _augment(self, own_images: Tensor, batch_size: int) -> Tensor:
        height, width = own_images.shape[2:]
        draws = self.augmentation.draw(batch_size, height, width, self.generator)
        own = own_part(batch_size, self.group_size)
        return self.augmentation.apply(own_images, AugmentationDraws(*(draw[own] for draw in draws)))


class TestBatches:
    """Iterates over a query or gallery set as torchreid's test loaders do, with uint8 pixels on the store's device.

    Args:
        store (ImageStore): the images.
        batch_size (int): images per batch; the last batch may be smaller.
    """

    __test__ = False  # pytest collects by this name

    def __init__(self, store: ImageStore, batch_size: int) -> None:
        self.store = store
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.store) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for indices, images in self.store.in_order(self.batch_size):
            records = [self.store.images.records[index] for index in indices]
            paths, identities, cameras, datasets = zip(*records, strict=True)
            yield {
                "img": images,
                "pid": torch.tensor(identities),
                "camid": torch.tensor(cameras),
                "impath": list(paths),
                "dsetid": torch.tensor(datasets),
            }
