"""The one way from pixels to unit rows: the same weights give the same feature wherever it is asked for."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from ..data.store import ImageStore
from ..data.transforms import normalize_images
from ..errors import InputError
from ..log import progress_bar

__all__ = ["Embedder"]

IMAGES_AT_ONCE_ON_CPU = 16
IMAGES_AT_ONCE = 256


class Embedder:
    """Turns pixels into features, to the bit the same ones in whatever company an image comes.

    Libraries choose their kernels by the shape of a batch, and kernels round differently. So the network always takes
    the same number of images at once, black ones where there are no more, in the same memory format, and on a GPU with
    kernels that are not chosen by a race between them. Position in the batch and company then change nothing.

    The mode of the network (training or evaluation) is the caller's business.

    Args:
        model (nn.Module): (B, 3, H, W) normalised images -> (B, ``model.feature_dim``) unit rows. Its weights are
            brought to the channels-last memory format, in place.
        mean (sequence of float): channel means of the normalisation, on the scale 0 to 1.
        std (sequence of float): channel deviations.
        precision (torch.dtype): arithmetic of the network's matrix products: ``torch.float32``, or a shorter one for
            autocast, see :func:`~hhcl_torchreid.features.precision.choose_precision`.
    """

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], precision: torch.dtype = torch.float32
    ) -> None:
        self.model: Any = model.to(memory_format=torch.channels_last)
        self.mean = mean
        self.std = std
        self.precision = precision

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    @property
    def images_at_once(self) -> int:
        """How many images the network takes at once."""
        # More than 16 gain nothing on a CPU, and a single image is to cost little; a GPU has work for many.
        return IMAGES_AT_ONCE_ON_CPU if self.device.type == "cpu" else IMAGES_AT_ONCE

    def autocast(self) -> torch.autocast:
        """The precision as a context, for training steps too."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def embed(self, images: Tensor) -> Tensor:
        """Gives the features of a batch of any size.

        Args:
            images: (B, 3, H, W) uint8 pixels, or floating-point images that are normalised already, on any device.

        Returns:
            (B, D) float32 unit rows on the network's device, without gradient.

        Raises:
            InputError: no batch of colour images.
        """
        return self.of_batches([images])

    @torch.no_grad()
    def of_batches(self, batches: Iterable[Tensor]) -> Tensor:
        """Gives the features of a stream of batches, each as for :meth:`embed` and of any number of images.

        Args:
            batches: of images of one size and kind.

        Returns:
            (N, D) float32 unit rows of all images, in their order.

        Raises:
            InputError: a batch that is none of colour images.
        """
        features = [torch.empty(0, self.model.feature_dim, device=self.device)]
        with _one_kernel_for_all(self.precision):
            features += [self._forward(images) for images in self._regroup(batches)]
        return torch.cat(features)

    def of_store(
        self,
        store: ImageStore,
        description: str = "extract features",
        shared: bool = True,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """Gives the features of the images of a store, under a progress bar.

        Args:
            store: the images.
            description: what the progress bar says.
            shared: whether every process of the run calls this and does a part of the work; if not, this one does all.
            numbers: (N,) int64, which images. If None, all.

        Returns:
            (N, D) float32 unit rows, in the order of the store or of ``numbers``; with ``shared`` the same in every
            process.

        Raises:
            InputError: unreadable images.
        """
        # In whole batches, so that no process fills up more than one.
        numbers = torch.arange(len(store)) if numbers is None else numbers
        of_ranks = distributed.parts(len(numbers), self.images_at_once)
        own = numbers[of_ranks[distributed.rank()] if shared else slice(None)]
        with progress_bar(total=len(own), desc=description, unit="img", leave=False) as progress:
            batches = store.batches(own.split(self.images_at_once)) if len(own) else ()
            features = self.of_batches(_counted(batches, progress))
        return distributed.gather_rows(features, of_ranks) if shared else features

    def _regroup(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batches of ``images_at_once`` images, and a last one of what is left."""
        size = self.images_at_once
        waiting: list[Tensor] = []
        for images in batches:
            if images.dim() != 4 or images.shape[1] != 3:
                raise InputError(
                    f"a tensor of shape {tuple(images.shape)} is no batch of colour images: give (B, 3, height, width) "
                    "or (3, height, width)"
                )
            together = torch.cat([*waiting, images]) if waiting else images
            whole = len(together) // size * size
            yield from together[:whole].split(size) if whole else ()
            waiting = [together[whole:]] if whole < len(together) else []
        yield from waiting

    def _forward(self, images: Tensor) -> Tensor:
        count, missing = len(images), self.images_at_once - len(images)
        if missing:
            images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        images = images.to(self.device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = normalize_images(images, self.mean, self.std)
        images = images.to(torch.float32, memory_format=torch.channels_last)
        with self.autocast():
            return self.model(images).float()[:count]


def _counted(batches: Iterable[Tensor], progress: Any) -> Iterator[Tensor]:
    for images in batches:
        yield images
        progress.update(len(images))


@contextmanager
def _one_kernel_for_all(precision: torch.dtype) -> Iterator[None]:
    """Keeps cuDNN from racing kernels against each other, and from TF32 where float32 is asked for."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    cudnn.benchmark, cudnn.deterministic = False, True
    cudnn.allow_tf32 = before[2] and precision != torch.float32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
