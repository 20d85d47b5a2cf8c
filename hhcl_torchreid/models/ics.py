"""Vision transformers behind an ICS stem, whose weights TransReID-SSL learned from LUPerson without labels."""

from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .backbones import register_backbone
from .timm import import_timm

__all__ = ["ConvolutionalStem"]

STEM_CHANNELS = 64
STEM_STRIDE = 2
PATCH = 16
"""Pixels of an image on a side that become one token."""

SIZES = {"small": {"embed_dim": 384, "num_heads": 6}, "base": {"embed_dim": 768, "num_heads": 12}}
HALVES = (0.5, 0.5, 0.5)


class ConvolutionalStem(nn.Module):
    """Three convolutions before the patches are cut: of half the width and height, with instance and batch norm.

    Instance norm in half the channels takes the camera's tint and light out of them, which is what "invariance" in its
    name, IBN-based convolution stem, stands for.

    Args:
        img_size: (height, width) of the images, pixels.
        embed_dim: Length of a token.
        others: What timm gives a patch embedding besides; it has no effect.

    Attributes:
        grid_size (tuple[int, int]): Rows and columns of tokens.
        num_patches (int): Tokens.

    Raises:
        InputError: If the images are smaller than a token.

    Reference:
        Luo et al. Self-Supervised Pre-Training for Transformer-Based Person Re-Identification. arXiv 2111.12084.
    """

    def __init__(self, img_size: tuple[int, int], embed_dim: int, **others: Any) -> None:
        super().__init__()
        height, width = (-(-side // STEM_STRIDE) * STEM_STRIDE // PATCH for side in img_size)
        if not height * width:
            raise InputError(
                f"an ICS stem cannot take images of {img_size[0]} x {img_size[1]} pixels: give a data.height and "
                f"data.width of {PATCH} or more"
            )
        self.grid_size = (height, width)
        self.num_patches = height * width
        channels = STEM_CHANNELS
        self.conv = nn.Sequential(
            *(nn.Conv2d(3, channels, 7, STEM_STRIDE, 3, bias=False), _HalfInstanceNorm(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1, bias=False), _HalfInstanceNorm(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        )
        self.proj = nn.Conv2d(channels, embed_dim, PATCH // STEM_STRIDE, PATCH // STEM_STRIDE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, ``num_patches``, ``embed_dim``), row after row."""
        return self.proj(self.conv(images)).flatten(2).transpose(1, 2)


class _HalfInstanceNorm(nn.Module):
    """Instance norm for the first half of the channels, batch norm for the second."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(num_channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(num_channels // 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, second = maps.chunk(2, 1)
        return torch.cat([self.IN(first), self.BN(second)], 1)


def _build(size: str, pretrained: bool, image_size: tuple[int, int], drop_path: float = 0.0) -> nn.Module:
    """A transformer of 12 blocks whose first token, after the last norm, is the feature."""
    vision_transformer = import_timm().models.vision_transformer.VisionTransformer
    return vision_transformer(
        image_size, PATCH, num_classes=0, drop_path_rate=drop_path, embed_layer=ConvolutionalStem, **SIZES[size]
    )


for _size in SIZES:
    register_backbone(
        f"vit_{_size}_ics",
        partial(_build, _size),
        fixed_pooling="takes the first token of a transformer for its features",
        pixel_mean=HALVES,
        pixel_std=HALVES,
        has_one_size=True,
        has_drop_path=True,
    )
