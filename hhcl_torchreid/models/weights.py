"""Weights from files: found, translated, compared, loaded, and what they say of the network that they are of."""

import contextlib
import math
import os
import re
import textwrap
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from ..checkpoint import configuration_in, load_checkpoint
from ..errors import InputError
from .backbones import is_backbone
from .layouts import POOLING_EXPONENT, Translation, find_state_dict, translate
from .network import ADDED_LAYERS, ReIDModel, build_model

__all__ = ["LoadedWeights", "backbone_named_in", "load_from", "load_weights", "settings_seen_in"]

LEAST_SHARE = 0.9
"""Of the backbone's weights, by their number and by their size, that a file must hold."""

OF_THE_NETWORK = ("name", "pooling", "last_stride", "embedding_dim", "bnneck")
"""Settings of ``model`` that are those of a file's network."""

SHOWN = 5
"""Names that a message lists."""

_CLASSIFIER = re.compile(r"(head\.)?(fc|last_linear|head(_dist)?|classifier(\.\d+)?)\.(weight|bias)")

_STEM = "patch_embed.conv.1.IN.weight"
"""A name that a network with an ICS stem has."""


class LoadedWeights(NamedTuple):
    """What became of a file of weights; its text says all of it."""

    path: str
    layout: str
    """The programs that name weights so."""
    matched: int
    """Weights of the backbone that came from the file."""
    total: int
    """Weights of the backbone."""
    skipped: list[str]
    """Names in the file that the model has no place for."""
    missing: list[str]
    """Names in the model's state dict that stay as initialised."""
    settings: dict[str, Any]
    """What the file says of its network, as arguments of :func:`~hhcl_torchreid.models.build_model`."""

    def __str__(self) -> str:
        """One paragraph."""
        settings = ", ".join(f"model.{key} {value}" for key, value in self.settings.items())
        return (
            f"Loaded weights from {self.path} (layout of {self.layout}): {self.matched} of {self.total} weights of the "
            f"backbone; skipped: {_listed(self.skipped)}; as initialised: {_listed(self.missing)}; the file's network "
            f"has {settings}"
        )

    def warn_of_missing(self) -> None:
        """Warns of what stays as initialised; for who does not tell the paragraph."""
        if self.missing:
            warnings.warn(
                f"{self.path} has no weights for {', '.join(self.missing)}: left as initialised", stacklevel=3
            )


def load_weights(model: ReIDModel, path: str | os.PathLike[str]) -> list[str]:
    """Loads the weights of a file into a model, in place.

    The file may be a checkpoint of this package, of torchreid or of another program that
    :data:`~hhcl_torchreid.models.layouts.LAYOUTS` lists, or a bare state dict such as the ImageNet weights of
    torchvision. Classifiers and other layers that do not reach the features are ignored. Layers on top of the backbone
    (``fc*``, ``embedding``, ``neck`` and the exponent of GeM pooling) and a tenth of the backbone may be missing from
    the file: they stay as they are, and a warning names them. Positions of a vision transformer are resized.
    Half-precision weights become float32. Unless everything fits, nothing is loaded.

    Args:
        model: The model, not wrapped for distributed training.
        path: The file. It is read with ``weights_only=True``: loading it cannot run code.

    Returns:
        Names in ``model.state_dict()`` that the file has no weights for.

    Raises:
        InputError: If the file is missing, is no checkpoint, or belongs to another model.
    """
    loaded = load_from(model, load_checkpoint(path), path)
    loaded.warn_of_missing()
    return loaded.missing


def load_from(model: ReIDModel, checkpoint: Any, path: str | os.PathLike[str]) -> LoadedWeights:
    """Does what :func:`load_weights` does with a file that has been read, and tells what became of it.

    Args:
        model: The model, not wrapped for distributed training.
        checkpoint: From :func:`~hhcl_torchreid.checkpoint.load_checkpoint`.
        path: Its file, for messages.

    Returns:
        What was found, loaded and left.

    Raises:
        InputError: As :func:`load_weights`.
    """
    own = model.state_dict()
    if any(value.is_meta for value in own.values()):
        raise InputError(
            f"this {model.name} is on the meta device, where it takes no weights: build it on the CPU, or move it "
            "there with to_empty"
        )
    found = translate(find_state_dict(checkpoint, path), own)
    try:
        weights = _fitted(found.weights, own, model)
    except (RuntimeError, IndexError):
        raise InputError(
            f"{path} holds an embedding or positions in a form that no network has: give a file of the same model"
        ) from None
    ignored = [key for key in weights if key not in own and _is_ignored(key, weights[key], model.removed_layers)]
    unknown = [key for key in weights if key not in own and key not in ignored]
    mismatch, way_out = _mismatch_of_backbone(weights, own, unknown), "give a file of the same model and settings"
    if not mismatch:
        mismatch, way_out = _mismatch_on_top(weights, own, unknown), _settings_to_take(found, model)
    if mismatch:
        mismatch, way_out = _mismatch_of_stem(weights, own) or (mismatch, way_out)
        mismatch = textwrap.shorten(mismatch, width=400, placeholder=" ...")
        seems_to_be = backbone_named_in(checkpoint)
        way_out = way_out if seems_to_be in (None, model.name) else f"set model.name {seems_to_be}"
        raise InputError(f"{path} does not hold weights of this {model.name} ({mismatch}): {way_out}")
    taken = {key: value for key, value in weights.items() if key in own}
    _check_numbers(taken, own, path)
    model.load_state_dict(taken, strict=False)
    missing = [key for key in own if key not in weights and not key.endswith(".num_batches_tracked")]
    backbone = [key for key in own if not _is_on_top(key)]
    return LoadedWeights(
        str(path),
        found.layout.name,
        sum(key in weights for key in backbone),
        len(backbone),
        [*found.skipped, *ignored],
        missing,
        _settings_of(found, model.name) | _settings_written_in(checkpoint),
    )


def settings_seen_in(
    name: str, checkpoint: Any, path: str | os.PathLike[str], image_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Tells which network a file of weights alone is of, as far as names and shapes say it.

    Args:
        name: Its backbone.
        checkpoint: From :func:`~hhcl_torchreid.checkpoint.load_checkpoint`.
        path: Its file, for messages.
        image_size: (height, width) that the backbone takes, pixels; None for 256 x 128.

    Returns:
        Arguments of :func:`~hhcl_torchreid.models.build_model`: ``name`` (of the family whose networks differ in what
        is no weight, such as ``bot/resnet50``), ``pooling``, ``last_stride``, ``embedding_dim`` and ``bnneck``.

    Raises:
        InputError: If the file holds no weights, or the backbone takes no images of this size.
    """
    known = build_model(name, pretrained=False, bnneck=False, image_size=image_size).state_dict()
    return _settings_of(translate(find_state_dict(checkpoint, path), known), name)


def backbone_named_in(checkpoint: Any) -> str | None:
    """Finds the backbone that a checkpoint's ``"model_name"`` or its configuration names, if any."""
    if not isinstance(checkpoint, Mapping):
        return None
    name = checkpoint.get("model_name")
    if name is None:
        name = _settings_written_in(checkpoint).get("name")
    return name if isinstance(name, str) and is_backbone(name) else None


def _settings_written_in(checkpoint: Any) -> dict[str, Any]:
    """What a checkpoint's configuration says, where it is one of this package."""
    with contextlib.suppress(InputError):  # of another program's configuration
        cfg = configuration_in(checkpoint, "the file")
        if cfg is not None:
            return {key: cfg.model[key] for key in OF_THE_NETWORK}
    return {}


def _settings_of(found: Translation, name: str) -> dict[str, Any]:
    weights, layout = found.weights, found.layout
    of_family = f"{layout.family}/{name}"
    has_stride_1 = layout.stride_1 is not None and any(key.startswith(layout.stride_1) for key in weights)
    return {
        "name": of_family if layout.family and is_backbone(of_family) else name,
        "pooling": "gem" if _exponent_in(weights) else "avg",
        "last_stride": 1 if has_stride_1 else None,
        "embedding_dim": next(iter(weights["embedding.weight"].shape), 0) if "embedding.weight" in weights else 0,
        "bnneck": "neck.running_mean" in weights,
    }


def _exponent_in(weights: Mapping[str, torch.Tensor]) -> str | None:
    """The name of GeM's exponent, ``p``, in whatever layer."""
    return next((key for key in weights if key.split(".")[-1] == "p"), None)


def _fitted(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], model: ReIDModel
) -> dict[str, torch.Tensor]:
    """The weights in the model's own terms where another program's mean the same."""
    fitted = dict(weights)
    exponent = _exponent_in(own)
    if POOLING_EXPONENT in fitted and exponent:
        fitted[exponent] = fitted.pop(POOLING_EXPONENT)
    embedding = fitted.get("embedding.weight")
    if embedding is not None:  # a 1 x 1 convolution elsewhere, or a layer without bias
        fitted["embedding.weight"] = embedding.flatten(1)
        fitted.setdefault("embedding.bias", torch.zeros(len(embedding)))
    if "cls_pos" in fitted and "pos_embed" in fitted:  # which PASS keeps apart
        fitted["pos_embed"] = torch.cat([fitted.pop("cls_pos"), fitted["pos_embed"]], 1)
    if "pos_embed" in fitted and "pos_embed" in own:
        grid = getattr(getattr(model.backbone, "patch_embed", None), "grid_size", None)
        fitted["pos_embed"] = _resized(fitted["pos_embed"], own["pos_embed"], grid)
    return fitted


def _resized(positions: torch.Tensor, own: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
    """Positions of a vision transformer, (1, T, D), for another image size; as they are where that is not clear.

    The tokens behind the first few are those of a grid of patches, which no file tells the sides of: a square if it can
    be one, else of the model's own aspect, or of 256 x 128 or 384 x 128 pixels.
    """
    if positions.shape == own.shape or positions.dim() != 3 or grid is None or positions.shape[2] != own.shape[2]:
        return positions
    num_first = own.shape[1] - grid[0] * grid[1]
    num_patches = max(positions.shape[1] - num_first, 0)
    widths = {aspect: round(math.sqrt(num_patches / aspect)) for aspect in (1, grid[0] / grid[1], 2, 3)}
    width = next((width for aspect, width in widths.items() if round(width * aspect) * width == num_patches), 0)
    if not width:
        return positions
    first, patches = positions[:, :num_first], positions[:, num_first:]
    patches = patches.float().unflatten(1, (num_patches // width, width)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, grid, mode="bicubic", antialias=True)
    return torch.cat([first.float(), patches.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def _is_on_top(key: str) -> bool:
    first, last = key.split(".")[0], key.split(".")[-1]
    # torchreid names its own layers after the pooling fc, fc_fusion and the like; GeM's exponent is p.
    return first in ADDED_LAYERS or first.startswith("fc") or last in ("p", "num_batches_tracked")


def _is_ignored(key: str, value: torch.Tensor, removed_layers: tuple[str, ...]) -> bool:
    """Whether the features do not depend on a weight that the model has no place for."""
    if key == "neck.bias":  # it does not learn, and the model's neck has none
        return not value.is_meta and not value.any()
    return bool(_CLASSIFIER.fullmatch(key)) or key.startswith(tuple(f"{layer}." for layer in removed_layers))


def _mismatch_of_backbone(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], unknown: list[str]
) -> str | None:
    backbone = [key for key in own if not _is_on_top(key)]
    wrong = _wrong_shape(weights, own, backbone) or next(
        (f"the model has no {key}" for key in unknown if not _is_on_top(key)), None
    )
    missing = [key for key in backbone if key not in weights]
    sizes = sum(own[key].numel() for key in missing) / max(1, sum(own[key].numel() for key in backbone))
    if not wrong and max(len(missing) / max(1, len(backbone)), sizes) > 1 - LEAST_SHARE:
        return f"the file has no {missing[0]}, and {len(backbone) - len(missing)} of {len(backbone)} weights in all"
    return wrong


def _mismatch_of_stem(weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> tuple[str, str] | None:
    """The reason and the way out where one of two vision transformers has an ICS stem."""
    if "cls_token" not in weights or "cls_token" not in own or (_STEM in weights) == (_STEM in own):
        return None
    if _STEM in own:
        return "the file's network has no ICS stem", "set model.name timm/vit_small_patch16_224, or another without one"
    return "the file's network has an ICS stem", "set model.name vit_small_ics or vit_base_ics"


def _mismatch_on_top(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], unknown: list[str]
) -> str | None:
    if "neck.bias" in unknown and "neck.weight" in own:
        return "the file's neck has a bias"
    return _wrong_shape(weights, own, list(own)) or next((f"the model has no {key}" for key in unknown), None)


def _wrong_shape(weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], keys: list[str]) -> str | None:
    for key in keys:
        if key in weights and weights[key].shape != own[key].shape:
            return f"{key} is {list(weights[key].shape)} in the file and {list(own[key].shape)} in the model"
    return None


def _settings_to_take(found: Translation, model: ReIDModel) -> str:
    """What to set for a model that lacks layers on top of the backbone, or has others."""
    own = Translation(found.layout, model.state_dict(), [])
    there, here = _settings_of(found, model.name), _settings_of(own, model.name)
    other = [key for key in ("pooling", "embedding_dim", "bnneck") if there[key] not in (here[key], "avg", False)]
    if not other:
        return "give a file of the same model and settings"
    return f"set {' '.join(f'model.{key} {there[key]}' for key in other)}, as the file's network has"


def _check_numbers(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: str | os.PathLike[str]
) -> None:
    for key, value in weights.items():
        if value.is_complex() or value.is_floating_point() < own[key].is_floating_point():
            raise InputError(
                f"{path} holds {str(value.dtype).removeprefix('torch.')} for {key}, of which too little is left as "
                f"{str(own[key].dtype).removeprefix('torch.')}: save the weights as they were trained, or dequantised"
            )
        if value.is_meta:
            raise InputError(f"{path} holds no numbers for {key}, saved on the meta device: save it on the CPU")
        # As the model will hold it: a type of eight bits is not asked, and 1e300 is no number there.
        if value.is_floating_point() and not value.to(own[key].dtype).isfinite().all():
            raise InputError(f"{path} holds NaN or infinity in {key}: give weights that were trained without diverging")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    shown = (textwrap.shorten(name, width=200, placeholder="...") for name in names[:SHOWN])
    return ", ".join(shown) + more if names else "nothing"
