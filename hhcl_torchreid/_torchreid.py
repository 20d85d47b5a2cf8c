"""Every private name of torchreid that this package relies on."""

from collections.abc import Callable
from typing import Any

import torchreid
from torch import nn

__all__ = ["image_datasets", "model_factory", "video_datasets"]


def image_datasets() -> dict[str, Any]:
    """Gives torchreid's own table of image data sets, name to class; what is put into it is known to torchreid."""
    return vars(torchreid.data.datasets)["__image_datasets"]


def model_factory() -> dict[str, Callable[..., nn.Module]]:
    """Gives torchreid's own table of models, name to the function that builds one."""
    return vars(torchreid.models)["__model_factory"]


def video_datasets() -> dict[str, Any]:
    """Gives torchreid's own table of video data sets, name to class."""
    return vars(torchreid.data.datasets)["__video_datasets"]
