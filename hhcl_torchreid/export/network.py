"""The network that a file holds: the extractor's whole way from images to unit rows."""

import contextlib
import copy
import importlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..models import ReIDModel
from ..models.backbones import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["INPUTS", "TRACED_BATCH_SIZE", "ExportedNetwork", "facts", "import_package", "normalization", "quietly"]

INPUTS = {
    "uint8": ("pixels", "uint8 RGB, 0 to 255"),
    "float": ("images", "float32 RGB, 0 to 1, minus ImageNet's mean, divided by its deviation"),
}
"""What a file may take: the input's name, and what it is."""

TRACED_BATCH_SIZE = 13  # no layer has so many channels or parts: what is 13 in the graph is the batch


class _Neck(nn.Module):
    """A BNNeck in evaluation mode, for rows whose length tracing loses, as a vision transformer's: ONNX's needs it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, neck: nn.BatchNorm1d) -> None:
        super().__init__()
        statistics = neck.state_dict()
        self.register_buffer("mean", statistics["running_mean"])
        self.register_buffer("scale", statistics["weight"] / (statistics["running_var"] + neck.eps).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return (features - self.mean) * self.scale


class ExportedNetwork(nn.Module):
    """The extractor's whole way from pixels, or from normalised images, to features, as one network on the CPU.

    Args:
        extractor: the model and its image settings; they stay as they are.
        kind: what it takes, one of ``INPUTS``.
    """

    mean: Tensor
    std: Tensor
    given_mean: Tensor
    given_std: Tensor

    def __init__(self, extractor: FeatureExtractor, kind: str) -> None:
        super().__init__()
        # In the memory format that tracing expects.
        self.model: ReIDModel = copy.deepcopy(extractor.model).cpu().to(memory_format=torch.contiguous_format)
        if self.model.neck is not None:
            self.model.set_submodule("neck", _Neck(self.model.neck))
        given_mean, given_std = normalization(extractor, kind)
        self.takes_pixels = kind == "uint8"
        self.is_normalized = (given_mean, given_std) == (extractor.pixel_mean, extractor.pixel_std)
        self.register_buffer("mean", _per_channel(extractor.pixel_mean))
        self.register_buffer("std", _per_channel(extractor.pixel_std))
        self.register_buffer("given_mean", _per_channel(given_mean))
        self.register_buffer("given_std", _per_channel(given_std))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or normalised float32 -> (B, D) float32 unit rows."""
        if self.takes_pixels:
            return self.model((images.float() / 255 - self.mean) / self.std)
        if self.is_normalized:
            return self.model(images)
        return self.model((images * self.given_std + self.given_mean - self.mean) / self.std)

    def example(self, extractor: FeatureExtractor) -> Tensor:
        """A batch to trace with."""
        dtype = torch.uint8 if self.takes_pixels else torch.float32
        return torch.zeros(TRACED_BATCH_SIZE, 3, *extractor.image_size, dtype=dtype)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def normalization(extractor: FeatureExtractor, kind: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of the images as they are given to the network, or as it makes them of pixels.

    Trackers normalise with ImageNet's, whatever the network has learned from.
    """
    if kind == "float":
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    return extractor.pixel_mean, extractor.pixel_std


def facts(extractor: FeatureExtractor, kind: str) -> dict[str, Any]:
    """What a file says of itself."""
    height, width = extractor.image_size
    mean, std = normalization(extractor, kind)
    return {
        "model_name": extractor.model.name,
        "height": height,
        "width": width,
        "feature_dim": extractor.model.feature_dim,
        "pixel_mean": mean,
        "pixel_std": std,
        "takes": kind,
        "input": INPUTS[kind][1],
        "output": "features of unit length",
    }


def import_package(name: str) -> Any:
    """Gives a package that an installation may lack.

    Raises:
        InputError: it does.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"this export needs the package {name}: pip install 'hhcl-torchreid[export]', or {name}"
        ) from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hides that tracing is not the newest way, and that a check of the images' size becomes part of the graph."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", category)
        yield
