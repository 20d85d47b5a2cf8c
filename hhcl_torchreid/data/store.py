"""Image stores: decoded images in the memory of the GPU or of the machine, or decoded anew for every batch."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..distributed import processes_here
from ..errors import InputError
from .images import DecodedImages, check_readable, load_images

__all__ = ["CACHES", "ImageStore", "choose_cache", "free_memory", "to_device"]

logger = logging.getLogger(__name__)

CACHES = ("auto", "gpu", "ram", "off")

# What "auto" takes of the memory that is free: the network's activations need the rest of a GPU, and the machine has
# other work too.
GPU_SHARE = 0.25
RAM_SHARE = 0.5

CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class ImageStore:
    """The images of one data set by their numbers, as batches of pixels on the device that takes them.

    With a cache, all of them are decoded when the first batch is asked for, and stay. Without, worker processes decode
    them batch by batch. The pixels are the same.

    Args:
        images (DecodedImages): what to decode.
        cache (str): where decoded images stay: ``"gpu"``, ``"ram"``, ``"off"`` (nowhere), or ``"auto"``, see
            :func:`choose_cache`.
        workers (int): processes that decode; 0 decodes in this one.
        device (torch.device): where the batches are wanted.
        name (str): what messages call the images.

    Raises:
        InputError: an unknown cache, or ``"gpu"`` without one.
    """

    def __init__(
        self,
        images: DecodedImages,
        cache: str = "auto",
        workers: int = 0,
        device: torch.device | str = "cpu",
        name: str = "images",
    ) -> None:
        self.images = images
        self.cache = cache
        self.workers = workers
        self.device = torch.device(device)
        self.name = name
        self._pixels: Tensor | None = None
        if cache not in CACHES:
            raise InputError(f"data.cache is {cache!r}: choose one of {', '.join(CACHES)}")
        if cache == "gpu" and self.device.type == "cpu":
            raise InputError("data.cache is 'gpu', but this run uses none: set it to auto, ram or off")

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, indices: Iterable[Sequence[int] | Tensor]) -> Iterator[Tensor]:
        """Yields (B, 3, H, W) uint8 on the device for each sequence of B image numbers.

        Raises:
            InputError: files that are no images, or too little memory for the cache that was asked for.
        """
        if self._pixels is None:
            self._decode_or_stream()
        if self._pixels is None:
            yield from self._stream(indices)
        else:
            for chosen in indices:
                yield self._pick(self._pixels, torch.as_tensor(chosen))

    def in_order(self, batch_size: int) -> Iterator[tuple[range, Tensor]]:
        """Yields all images once, ``batch_size`` at a time: their numbers and their pixels."""
        numbers = range(len(self))
        chunks = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
        yield from zip(chunks, self.batches(chunks), strict=True)

    def choose_cache(self) -> str:
        """Says where the decoded images go, and why; see :func:`choose_cache`.

        Raises:
            InputError: too little memory for the cache that was asked for.
        """
        if self.cache == "off":
            return "off"
        num_bytes = len(self) * 3 * self.images.height * self.images.width
        return choose_cache(self.cache, num_bytes, self.device, self.name)

    def _decode_or_stream(self) -> None:
        self.cache = self.choose_cache()
        if self.cache != "off":
            where = self.device if self.cache == "gpu" else torch.device("cpu")
            self._pixels = load_images(self.images, self.workers, f"decode {self.name}", where)

    def _pick(self, pixels: Tensor, chosen: Tensor) -> Tensor:
        if pixels.device.type != self.device.type:
            pinned = torch.empty(len(chosen), *pixels.shape[1:], dtype=pixels.dtype, pin_memory=True)
            return torch.index_select(pixels, 0, chosen, out=pinned).to(self.device, non_blocking=True)
        return pixels.index_select(0, to_device(chosen, self.device))

    def _stream(self, indices: Iterable[Any]) -> Iterator[Tensor]:
        loader = DataLoader(
            self.images,
            batch_sampler=indices,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            # Its own, so that loading draws nothing from the generator that training depends on.
            generator=torch.Generator(),
        )
        for batch in loader:
            check_readable([path for path, good in zip(batch["impath"], batch["readable"], strict=True) if not good])
            yield batch["img"].to(self.device, non_blocking=True)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor from the CPU without waiting for the GPU to finish what it is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def choose_cache(cache: str, num_bytes: int, device: torch.device, name: str) -> str:
    """Says where decoded images go, and why; ``"auto"`` measures what is free.

    ``"auto"`` takes the GPU if the images need at most a quarter of its free memory, else RAM if they need at most half
    of the free one, else ``"off"``.

    Args:
        cache: ``"auto"``, ``"gpu"`` or ``"ram"``.
        num_bytes: size of the decoded images.
        device: where the batches are wanted.
        name: what the message calls the images.

    Returns:
        ``"gpu"``, ``"ram"`` or ``"off"``.

    Raises:
        InputError: a place that was asked for by name has no room.
    """
    free = {place: free_memory(place, device) for place in ("gpu", "ram")}
    if cache == "auto":
        if num_bytes <= GPU_SHARE * free["gpu"]:
            chosen = "gpu"
        else:
            chosen = "ram" if num_bytes <= RAM_SHARE * free["ram"] else "off"
    elif num_bytes > free[cache]:
        raise InputError(
            f"data.cache is {cache!r}, but the decoded {name} need {_megabytes(num_bytes)} and "
            f"{_megabytes(free[cache])} are free there: set it to {'ram or ' if cache == 'gpu' else ''}off"
        )
    else:
        chosen = cache
    kept = {"gpu": "kept on the GPU", "ram": "kept in RAM", "off": "decoded anew for every batch"}[chosen]
    names = {"gpu": "on the GPU", "ram": "in RAM"}
    measured = ", ".join(f"{_megabytes(room)} free {names[place]}" for place, room in free.items() if room)
    logger.info(f"=> Decoded {name} take {_megabytes(num_bytes)}: {kept} (data.cache {cache}; {measured})")
    return chosen


def free_memory(place: str, device: torch.device) -> int:
    """Bytes that are free on the GPU ``device`` (0 if it is none) or, for ``"ram"``, in this machine or container.

    Of the RAM it is this process's share, where several train on one machine.
    """
    if place == "gpu":
        return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    free = psutil.virtual_memory().available
    for limit, used in CGROUP_FILES:
        # A container's own limit, which the machine's figures know nothing of; "max" where there is none.
        if Path(limit).exists() and Path(limit).read_text().strip().isdigit():
            free = min(free, max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
    return free // processes_here()


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB"
