"""timm's networks as backbones, ``timm/NAME``: convolutional ones and vision transformers, at the images' own size."""

import difflib
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .backbones import FAMILIES, Backbone

__all__ = ["import_timm", "timm_backbone"]


def timm_backbone(name: str) -> Backbone:
    """Gives the record of one of timm's networks.

    Its weights are those that timm downloads, and the pixels' mean and deviation are those that timm says they were
    trained with. A network for images of one size, such as a vision transformer, is built for the size it is asked for:
    timm resizes the positions of its patches. Its last stage keeps the network's own stride.

    Args:
        name: As timm knows it, with a tag of weights or without: ``vit_small_patch16_224.augreg_in1k``.

    Returns:
        The record.

    Raises:
        InputError: timm is not installed, or has no network of that name.

    Reference:
        Wightman. PyTorch Image Models, github.com/huggingface/pytorch-image-models.
    """
    timm = import_timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(f'timm/{other}' for other in close)}?" if close else "see timm.list_models()"
        raise InputError(f"timm has no model {name!r}: {hint}")
    try:
        trained = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(f"timm has no weights {name!r}: leave out what stands behind the dot") from error
    return Backbone(
        partial(_build, name),
        set_pooling=partial(_replace_pooling, name),
        has_pretrained_weights=trained.has_weights,
        pixel_mean=tuple(trained.mean),
        pixel_std=tuple(trained.std),
        has_one_size=trained.fixed_input_size,
        has_drop_path=True,
    )


def import_timm() -> Any:
    """Gives timm, which is imported when it is needed.

    Raises:
        InputError: It is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"models of timm need the package {error.name}: pip install timm") from error
    return timm


def _build(name: str, pretrained: bool, image_size: tuple[int, int] | None = None, drop_path: float = 0.0) -> nn.Module:
    settings: dict[str, Any] = {"img_size": image_size} if image_size else {}
    if drop_path:
        settings["drop_path_rate"] = drop_path
    try:
        return import_timm().create_model(name, pretrained=pretrained, num_classes=0, **settings)
    except (TypeError, AssertionError, ValueError) as error:
        if "drop_path_rate" in str(error):
            reason = "has no paths that could be dropped: set model.drop_path 0"
            raise InputError(f"timm/{name} {reason}") from error
        if pretrained:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"timm/{name} cannot be built for images of {image_size} pixels ({reason}): change data.height and "
            "data.width, or take another model"
        ) from error


class _Pooling(nn.Module):
    """A pooling of (B, C, H, W) maps where timm has its own, which may flatten, or take (B, H, W, C) maps."""

    def __init__(self, pooling: nn.Module, flatten: bool, channels_last: bool) -> None:
        super().__init__()
        self.pooling = pooling
        self.flatten = flatten
        self.channels_last = channels_last

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        pooled = self.pooling(feature_map.permute(0, 3, 1, 2) if self.channels_last else feature_map)
        if self.flatten:
            return pooled.flatten(1)
        return pooled.permute(0, 2, 3, 1) if self.channels_last else pooled


def _replace_pooling(name: str, network: nn.Module, pooling: nn.Module) -> None:
    from timm.layers import SelectAdaptivePool2d

    layers = [(key, layer) for key, layer in network.named_modules() if isinstance(layer, SelectAdaptivePool2d)]
    if len(layers) != 1 or layers[0][1].is_identity():
        raise InputError(
            f"timm/{name} has no single feature map that is pooled, so model.pooling cannot be chosen: set it to avg"
        )
    key, layer = layers[0]
    flatten = getattr(layer.pool, "flatten", False) or isinstance(layer.flatten, nn.Flatten)
    channels_last = getattr(layer.pool, "dim", (2, 3)) == (1, 2)
    network.set_submodule(key, _Pooling(pooling, flatten, channels_last))


FAMILIES["timm"] = timm_backbone
