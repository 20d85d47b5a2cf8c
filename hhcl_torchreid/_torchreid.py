"""Torchreid's private names that this package relies on; both of its layouts, PyPI's and GitHub's, have them."""

from collections.abc import Callable
from typing import Any

import torchreid
from torch import nn

__all__ = ["image_datasets", "model_factory"]


def model_factory() -> dict[str, Callable[..., nn.Module]]:
    """Gives torchreid's own dictionary of models: name -> function that builds one."""
    return vars(torchreid.models)["__model_factory"]


def image_datasets() -> dict[str, Any]:
    """Gives torchreid's own dictionary of image data sets: name -> class, those registered by others included."""
    return vars(torchreid.data.datasets)["__image_datasets"]
