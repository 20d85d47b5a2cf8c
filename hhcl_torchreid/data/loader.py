"""The loaders that torchreid's loops go through: batches of one epoch of training, and of a test set."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributed import own_part
from .images import DecodedImages
from .sampler import BatchPlan, CrossCameraBatchSampler
from .store import ImageStore
from .transforms import AugmentationDraws, BatchAugmentation

__all__ = ["AugmentedBatches", "TestBatches", "make_store", "make_test_loaders"]


class AugmentedBatches:
    """Iterates over the batches of one epoch, in the form that torchreid's training loop takes.

    A batch holds ``img``, (B, 3, H, W) float32 on the store's device, and on the CPU, (B,) int64 each, ``pid``, the
    pseudo labels, ``camid``, the cameras, and ``index``, the numbers of the images. In a run of several processes each
    makes the images of its own part of the batch only; chance decides as it would in one.

    Args:
        store (ImageStore): every training image.
        labels (Tensor): (N,) int64 on the CPU, the pseudo label of each.
        images (Images): ``cameras``, ``tracks`` and ``frames`` of each, (N,) int64 on the CPU.
        plan (BatchPlan): what a batch is made of.
        augmentation (BatchAugmentation): what happens to the images.
        generator (callable): purpose -> numpy.random.Generator, for ``"sampler"`` and ``"augmentation"``.

    Attributes:
        seconds (float): time spent on making batches so far, which the training loop waited for.
    """

    def __init__(
        self,
        store: ImageStore,
        labels: Tensor,
        images: Any,
        plan: BatchPlan,
        augmentation: BatchAugmentation,
        generator: Callable[[str], np.random.Generator],
    ) -> None:
        self.store = store
        self.labels = labels
        self.cameras = images.cameras
        self.sampler = CrossCameraBatchSampler(
            labels.numpy(),
            images.cameras.numpy(),
            plan.batch_size,
            plan.num_instances,
            plan.iters,
            generator("sampler"),
            images.tracks.numpy(),
            images.frames.numpy(),
        )
        self.augmentation = augmentation
        self.generator = generator("augmentation")
        self.group_size = plan.group_size
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # The store may look ahead, so that its workers have something to decode.
        chosen, ahead = itertools.tee(self.sampler)
        started = time.monotonic()
        own_ahead = (indices[own_part(len(indices), self.group_size)] for indices in ahead)
        for indices, images in zip(chosen, self.store.batches(own_ahead), strict=True):
            index = torch.tensor(indices)
            batch = {"pid": self.labels[index], "camid": self.cameras[index], "index": index}
            if self.store.device.type == "cuda":
                # So that nobody waits when they are copied there.
                batch = {name: numbers.pin_memory() for name, numbers in batch.items()}
            batch["img"] = self._augment(images, len(indices))
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
            paths, *columns = zip(*records, strict=True)
            identities, cameras, datasets = (torch.tensor(list(map(int, column))) for column in columns)
            yield {"img": images, "pid": identities, "camid": cameras, "impath": list(paths), "dsetid": datasets}


def make_store(
    datamanager: Any, records: Sequence[tuple[str, int, int, int]], cache: str, device: torch.device, name: str
) -> ImageStore:
    """The images of some records, of the size and decoded by as many workers as torchreid's data manager says."""
    images = DecodedImages(records, datamanager.height, datamanager.width)
    return ImageStore(images, cache, datamanager.train_loader.num_workers, device, name)


def make_test_loaders(
    datamanager: Any, targets: Mapping[str, Mapping[str, Any]], cache: str, device: torch.device, multiple: int
) -> dict[str, dict[str, TestBatches]]:
    """Stands in for torchreid's test loaders: data set -> ``"query"`` and ``"gallery"`` -> batches of the same.

    A batch is of the data manager's size, rounded up to a ``multiple`` of what the network takes at once.
    """
    return {
        name: {
            split: TestBatches(
                make_store(datamanager, loader.dataset.data, cache, device, f"{split} images of {name}"),
                -(-loader.batch_size // multiple) * multiple,
            )
            for split, loader in loaders.items()
        }
        for name, loaders in targets.items()
    }
