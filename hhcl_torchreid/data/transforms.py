"""Augmentation and normalisation of whole batches of uint8 images, on the device of the images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchreid
from torch import Tensor
from torchvision.transforms import functional as image_functional

from ..errors import InputError
from .store import to_device

__all__ = [
    "AugmentationDraws",
    "BatchAugmentation",
    "check_transforms",
    "draw_augmentation",
    "normalize_images",
    "transforms_of",
]

PADDING = 10  # pixels on every side
ERASING_ATTEMPTS = 100
BATCH_TRANSFORMS = ("random_flip", "random_pad_crop", "random_erase")
IMAGE_TRANSFORMS = ("random_crop", "random_patch", "color_jitter")


class AugmentationDraws(NamedTuple):
    """What chance decided for each image of a batch of B.

    Attributes:
        flip: (B,) bool, mirror left to right.
        top: (B,) int64, first row of the crop in the padded image, pixels.
        left: (B,) int64, first column, pixels.
        erase: (B, 4) int64, the erased rectangle as top, left, bottom, right in pixels, end excluded; empty (all 0)
            where nothing is erased.
    """

    flip: np.ndarray
    top: np.ndarray
    left: np.ndarray
    erase: np.ndarray


def draw_augmentation(
    batch_size: int, height: int, width: int, transforms: Sequence[str], generator: np.random.Generator
) -> AugmentationDraws:
    """Draws flips (p 0.5), crops of the image padded by 10, and erased rectangles (p 0.5) for a batch.

    A rectangle has 0.02 to 0.4 of the area and an aspect ratio (height / width) of 0.3 to 1 / 0.3, both uniform; one
    that does not fit is drawn again, as in Zhong et al., Random Erasing Data Augmentation (arXiv 1708.04896).

    Args:
        batch_size: B.
        height: image height, pixels.
        width: image width, pixels.
        transforms: those named of ``random_flip``, ``random_pad_crop``, ``random_erase`` happen.
        generator: source of the draws.
    """
    flip = generator.random(batch_size) < 0.5
    top, left = generator.integers(0, 2 * PADDING, endpoint=True, size=(2, batch_size))
    erase = _draw_rectangles(batch_size, height, width, generator)
    return AugmentationDraws(
        flip=flip & ("random_flip" in transforms),
        top=top if "random_pad_crop" in transforms else np.full_like(top, PADDING),
        left=left if "random_pad_crop" in transforms else np.full_like(left, PADDING),
        erase=erase * ("random_erase" in transforms),
    )


def _draw_rectangles(batch_size: int, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    area = generator.uniform(0.02, 0.4, (batch_size, ERASING_ATTEMPTS)) * height * width
    aspect = generator.uniform(0.3, 1 / 0.3, (batch_size, ERASING_ATTEMPTS))
    heights, widths = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (heights < height) & (widths < width)
    first_fit = (np.arange(batch_size), fits.argmax(axis=1))
    erased = (generator.random(batch_size) < 0.5) & fits.any(axis=1)
    box_height, box_width = heights[first_fit].astype(np.int64), widths[first_fit].astype(np.int64)
    top = generator.integers(0, np.maximum(height - box_height, 0), endpoint=True)
    left = generator.integers(0, np.maximum(width - box_width, 0), endpoint=True)
    return np.stack([top, left, top + box_height, left + box_width], axis=1) * erased[:, None]


def normalize_images(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turns pixels into what the network takes; the test transform, after resizing.

    Args:
        images: (B, 3, H, W) uint8.
        mean: of the three channels, on the scale 0 to 1.
        std: likewise.

    Returns:
        (B, 3, H, W) float32, channels last in memory.
    """
    scaled = images.to(torch.float32, memory_format=torch.channels_last).div_(255)
    return scaled.sub_(_per_channel(mean, images.device)).div_(_per_channel(std, images.device))


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    return to_device(torch.tensor(values, dtype=torch.float32), device).view(1, 3, 1, 1)


def check_transforms(transforms: Sequence[str]) -> list[str]:
    """Gives the names of transforms in small letters.

    Raises:
        InputError: one is not known.
    """
    names = [name.lower() for name in transforms]
    unknown = set(names) - set(BATCH_TRANSFORMS) - set(IMAGE_TRANSFORMS)
    if unknown:
        raise InputError(
            f"unknown transform {', '.join(sorted(unknown))}: data.transforms takes "
            f"{', '.join(BATCH_TRANSFORMS + IMAGE_TRANSFORMS)}"
        )
    return names


def transforms_of(datamanager: Any) -> list[str]:
    """The names of the transforms that a data manager of torchreid has been given, of those that it knows."""
    library = torchreid.data.transforms
    names = {
        library.RandomHorizontalFlip: "random_flip",
        library.RandomErasing: "random_erase",
        library.Random2DTranslation: "random_crop",
        library.RandomPatch: "random_patch",
        library.ColorJitter: "color_jitter",
    }
    steps = getattr(datamanager.transform_tr, "transforms", ())
    return [names[type(step)] for step in steps if type(step) in names]


class BatchAugmentation:
    """The training transform: flip, pad and crop, normalise, erase; each image of a batch draws its own luck.

    Args:
        transforms (sequence of str): ``random_flip``, ``random_pad_crop`` and ``random_erase`` are HHCL's; torchreid's
            ``random_crop``, ``random_patch`` and ``color_jitter`` are applied image by image where named.
        height (int): image height, pixels.
        width (int): image width, pixels.
        mean (sequence of float): channel means on the scale 0 to 1; also the colour of what is erased, after
            normalisation, as in the authors' code.
        std (sequence of float): channel deviations.

    Raises:
        InputError: an unknown transform.
    """

    def __init__(
        self, transforms: Sequence[str], height: int, width: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.transforms = check_transforms(transforms)
        self.mean = mean
        self.std = std
        library = torchreid.data.transforms
        per_image = {
            "random_crop": library.Random2DTranslation(height, width),
            "random_patch": library.RandomPatch(),
            "color_jitter": library.ColorJitter(brightness=0.2, contrast=0.15, saturation=0, hue=0),
        }
        self.image_transforms = [per_image[name] for name in IMAGE_TRANSFORMS if name in self.transforms]

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, H, W) float32 on the same device."""
        batch_size, _, height, width = images.shape
        return self.apply(images, self.draw(batch_size, height, width, generator))

    def draw(self, batch_size: int, height: int, width: int, generator: np.random.Generator) -> AugmentationDraws:
        """Lets chance decide about a batch; see :func:`draw_augmentation`."""
        return draw_augmentation(batch_size, height, width, self.transforms, generator)

    def apply(self, images: Tensor, draws: AugmentationDraws) -> Tensor:
        """Applies given draws to (B, 3, H, W) uint8 images."""
        flip, top, left, erase = (to_device(torch.from_numpy(draw), images.device) for draw in draws)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        if self.image_transforms:
            images = self._transform_one_by_one(images)
        normalized = normalize_images(_crop(images, top, left), self.mean, self.std)
        return torch.where(_inside(erase, *images.shape[2:]), _per_channel(self.mean, images.device), normalized)

    def _transform_one_by_one(self, images: Tensor) -> Tensor:
        transformed = []
        for image in images.cpu():
            picture = image_functional.to_pil_image(image)
            for transform in self.image_transforms:
                picture = transform(picture)
            transformed.append(image_functional.pil_to_tensor(picture))
        return torch.stack(transformed).to(images.device)


def _crop(images: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Cuts the image size out of each black-padded image, from its own corner."""
    batch_size, _, height, width = images.shape
    padded = F.pad(images, [PADDING] * 4)
    batch = torch.arange(batch_size, device=images.device)[:, None, None]
    rows = (top[:, None] + torch.arange(height, device=images.device))[:, :, None]
    columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, :]
    return padded.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """(B, 4) rectangles -> (B, 1, H, W) bool."""
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    rows, columns = (torch.arange(size, device=boxes.device) for size in (height, width))
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
