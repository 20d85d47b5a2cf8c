"""One record for every backbone: how to build it and what it allows. Torchreid's are rows here as a user's own are."""

import difflib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torchreid
import torchvision
from torch import nn

from .._torchreid import model_factory
from ..errors import InputError

__all__ = [
    "BACKBONES",
    "FAMILIES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "available_backbones",
    "check_input_size",
    "find_backbone",
    "is_backbone",
    "load_v2_weights",
    "register_backbone",
]

MOST_PIXELS = 2**22
"""Of an image: a ResNet-50 takes some 25 GB for one of that size."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone; all but ``build`` may be left out.

    Attributes:
        build: ``build(pretrained)`` gives a network that maps (B, 3, H, W) images to (B, D) features, on the CPU.
        input_size: The only (height, width) it takes, pixels; None if it takes others, 256 x 128 among them.
        set_pooling: ``set_pooling(network, pooling)`` puts a layer, (B, C, H, W) -> (B, C, 1, 1), in the place of the
            network's global pooling. None if the pooling is the network's own; then ``model.pooling`` must be avg.
        fixed_pooling: Why there is no ``set_pooling``, as a part of a sentence after the backbone's name.
        set_last_stride: ``set_last_stride(network, stride)`` sets the stride of the last stage to 1 or 2. None if
            ``model.last_stride`` has no effect.
        has_pretrained_weights: Whether ``build`` may be asked for them.
        v2_weights: The network of torchvision whose IMAGENET1K_V2 weights fit, for ``model.pretrained V2``; empty if
            none do.
        pixel_mean: What they were trained with: the mean of red, green and blue, on the scale 0 to 1.
        pixel_std: Likewise, the standard deviation.
        features_in_eval_mode: Whether the network gives features only while its own ``training`` is False, and class
            scores else, as torchreid's models do. That flag, not those of its layers, then stays False.
        has_one_size: Whether a network takes images of the one size that it is built for alone, which ``build`` is then
            told too: ``build(pretrained, (height, width))``.
        has_drop_path: Whether ``build`` takes ``drop_path``, a probability, where ``model.drop_path`` is not 0.
    """

    build: Callable[..., nn.Module]
    input_size: tuple[int, int] | None = None
    set_pooling: Callable[[nn.Module, nn.Module], None] | None = None
    fixed_pooling: str = "is registered without set_pooling"
    set_last_stride: Callable[[nn.Module, int], None] | None = None
    has_pretrained_weights: bool = False
    v2_weights: str = ""
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    features_in_eval_mode: bool = False
    has_one_size: bool = False
    has_drop_path: bool = False


def register_backbone(name: str, build: Callable[..., nn.Module], **details: Any) -> None:
    """Makes a network known by a name: then it trains, resumes, extracts, searches and exports as torchreid's do.

    Args:
        name: What ``model.name`` and checkpoints call it. Register it in every process that uses it.
        build: ``build(pretrained)`` gives the network, (B, 3, H, W) images -> (B, D) features. Its outermost layers and
            weights are not called ``embedding`` or ``neck``, as those on top of it are.
        details: The other fields of :class:`Backbone`.

    Raises:
        InputError: If the name is taken, or ``build`` is a network.

    Examples:
        >>> def build(pretrained):
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> register_backbone("tiny", build)
    """
    if name in BACKBONES:
        raise InputError(f"there is a backbone {name!r} already: register yours by another name")
    if isinstance(build, nn.Module):
        raise InputError(f"backbone {name!r} is given as a network: give a function of one flag that builds it")
    BACKBONES[name] = Backbone(build, **details)


def available_backbones() -> list[str]:
    """Gives the names of all backbones: torchreid's in the order of its factory, then those registered."""
    return list(BACKBONES)


def is_backbone(name: str) -> bool:
    """Whether there is a backbone of that name, also in a family, whose members no list names."""
    try:
        find_backbone(name)
    except InputError:
        return False
    return True


def find_backbone(name: str) -> Backbone:
    """Gives the record of a backbone.

    Args:
        name: One of ``BACKBONES``, or ``FAMILY/NAME`` with one of ``FAMILIES``.

    Raises:
        InputError: If there is none of that name.
    """
    family, _, member = str(name).partition("/")
    if name not in BACKBONES and member and family in FAMILIES:
        return FAMILIES[family](member)
    if name not in BACKBONES:
        close = difflib.get_close_matches(str(name), BACKBONES, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(BACKBONES)}"
        raise InputError(f"torchreid has no model {name!r}: {hint}")
    return BACKBONES[name]


def check_input_size(name: str, height: int, width: int, built_for: tuple[int, int] | None = None) -> None:
    """Raises :class:`InputError` if the backbone ``name`` does not take images of this size, in pixels.

    Args:
        name: of the backbone.
        height: of the images.
        width: likewise.
        built_for: the only (height, width) that the network takes; None for what its record says.
    """
    required = built_for or find_backbone(name).input_size or (height, width)
    if required != (height, width):
        raise InputError(
            f"{name} takes images of {required[0]} x {required[1]} pixels only, not {height} x {width}: "
            f"set data.height {required[0]} data.width {required[1]}"
        )
    if height * width > MOST_PIXELS:
        raise InputError(
            f"images of {height} x {width} pixels are too large for any machine: choose a height and width of at most "
            f"{MOST_PIXELS:,} pixels together"
        )


def load_v2_weights(network: nn.Module, architecture: str) -> None:
    """Loads torchvision's better ImageNet weights, which it downloads if need be, but for the classifier.

    Args:
        network: One with the layers of ``architecture``, maybe among others.
        architecture: As torchvision calls it, ``resnet50``.

    Reference:
        Vryniotis. How to Train State-Of-The-Art Models Using TorchVision's Latest Primitives. pytorch.org, 2021.
    """
    with _loading_no_code():
        weights = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V2"].get_state_dict(check_hash=True)
    network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("fc.")}, strict=False)


def _loading_no_code() -> AbstractContextManager[Any]:
    """No torch.load may run code, torchreid's and torchvision's included, which ask for full pickles."""
    return patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="0")


def _build_torchreids(name: str, pretrained: bool) -> nn.Module:
    with _loading_no_code():
        return torchreid.models.build_model(name, num_classes=1, loss="triplet", pretrained=pretrained, use_gpu=False)


def _build_hacnn(pretrained: bool) -> nn.Module:
    network = _build_torchreids("hacnn", pretrained)
    network.register_forward_pre_hook(_follow_device)
    return network


def _follow_device(network: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    """Makes hacnn create its tensors where the images are: it goes by what its constructor was told."""
    if network.use_gpu != inputs[0].is_cuda:
        network.use_gpu = inputs[0].is_cuda


def _build_viewing(name: str, layer: str, pretrained: bool) -> nn.Module:
    """A network that calls Tensor.view on what ``layer`` gives, which fails in channels_last format."""
    network = _build_torchreids(name, pretrained)
    network.get_submodule(layer).register_forward_hook(_make_contiguous)
    return network


def _make_contiguous(_layer: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.contiguous()


def _replace_pooling(network: nn.Module, pooling: nn.Module) -> None:
    setattr(network, "global_avgpool" if hasattr(network, "global_avgpool") else "avgpool", pooling)


def _pool_after(layer: str, network: nn.Module, pooling: nn.Module) -> None:
    """For networks that pool with a function, which leaves the 1 x 1 map that comes out of ``layer`` now as it is."""
    before = network.get_submodule(layer)
    layers = before if isinstance(before, nn.Sequential) else [before]
    setattr(network, layer, nn.Sequential(*layers, pooling))


def _set_stride_of_layer4(network: nn.Module, stride: int) -> None:
    # Which convolutions carry the stride differs between block types; layer3 has the same blocks, always with stride 2.
    for name, layer in network.get_submodule("layer3.0").named_modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            twin: Any = network.get_submodule(f"layer4.0.{name}")
            twin.stride = (stride, stride)


def _of_torchreid(name: str) -> Backbone:
    fields: dict[str, Any] = {
        "build": partial(_build_torchreids, name),
        "set_pooling": _replace_pooling,
        "set_last_stride": _set_stride_of_layer4 if name.startswith(_FAMILIES_WITH_LAYER4) else None,
        "has_pretrained_weights": name not in _WITHOUT_PRETRAINED_WEIGHTS,
        "v2_weights": "resnet50" if name in _RESNET50_INSIDE else name if name in _WITH_V2_WEIGHTS else "",
        "features_in_eval_mode": True,
    }
    return Backbone(**{**fields, **_EXCEPTIONS.get(name, {})})


def _fixed(reason: str, **fields: Any) -> dict[str, Any]:
    return {"set_pooling": None, "fixed_pooling": reason, **fields}


_FAMILIES_WITH_LAYER4 = ("resnet", "resnext", "se_res", "pcb")
_WITHOUT_PRETRAINED_WEIGHTS = (
    *("hacnn", "mlfn", "mobilenetv2_x1_0", "mobilenetv2_x1_4"),
    *("mudeep", "shufflenet", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
)
_WITH_V2_WEIGHTS = ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
_RESNET50_INSIDE = ("resnet50_fc512", "resnet50mid", "pcb_p6", "pcb_p4")
_EXCEPTIONS: dict[str, dict[str, Any]] = {
    "hacnn": _fixed("averages inside each of its attention branches", build=_build_hacnn, input_size=(160, 64)),
    "mudeep": _fixed(
        "reads its features from the whole feature map with a linear layer",
        build=partial(_build_viewing, "mudeep", "block5"),
        input_size=(256, 128),
    ),
    **{
        f"pcb_p{parts}": _fixed(
            f"averages each of its {parts} horizontal parts on its own",
            build=partial(_build_viewing, f"pcb_p{parts}", "parts_avgpool"),
        )
        for parts in (4, 6)
    },
    "nasnsetmobile": {"set_pooling": partial(_pool_after, "relu")},
    "shufflenet": {"set_pooling": partial(_pool_after, "stage4")},
}

BACKBONES: dict[str, Backbone] = {name: _of_torchreid(name) for name in model_factory()}
"""Torchreid's, and what was registered."""


def _drop_first_relu(network: Any) -> None:
    network.relu = nn.Identity()


def _pool_without_padding(network: Any) -> None:
    network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _with_stem(family: str, members: tuple[str, ...], change: Callable[[nn.Module], None], name: str) -> Backbone:
    if name not in members:
        raise InputError(f"there is no {family}/{name}: choose {family}/ and one of {', '.join(members)}")
    record = BACKBONES[name]

    def build(pretrained: bool) -> nn.Module:
        network = record.build(pretrained)
        change(network)
        return network

    return replace(record, build=build)


_PLAIN_RESNETS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))

FAMILIES: dict[str, Callable[[str], Backbone]] = {
    # Luo et al.'s strong baseline has no ReLU before its first pooling, fast-reid's first pooling pads nothing.
    "bot": partial(_with_stem, "bot", _PLAIN_RESNETS, _drop_first_relu),
    "fastreid": partial(_with_stem, "fastreid", (*_PLAIN_RESNETS, "resnet50_ibn_a"), _pool_without_padding),
}
"""Backbones that are too many to list, or that differ from a listed one in what is no weight: name -> record."""
