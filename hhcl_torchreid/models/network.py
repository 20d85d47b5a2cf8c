"""A backbone as an embedding network: pooling, BNNeck, unit vectors.

The names of the weights are those of the backbone: the state dict of a model built here is that of the backbone plus
the layers added on top (``embedding.*``, ``neck.*``, the exponent of GeM pooling), minus the layers that never reach
the features (classifiers, reduction convolutions).
"""

import textwrap
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, is_out_of_memory
from .backbones import Backbone, check_input_size, find_backbone, load_v2_weights

__all__ = [
    "ADDED_LAYERS",
    "POOLINGS",
    "BackboneSummary",
    "GlobalPooling",
    "ReIDModel",
    "build_model",
    "describe_backbone",
]

POOLINGS = ("avg", "max", "gem", "avg+max")
ADDED_LAYERS = ("embedding", "neck")
_DEFAULT_INPUT_SIZE = (256, 128)


class GlobalPooling(nn.Module):
    """Global pooling of a feature map to one value per channel.

    Args:
        kind: ``"max"``, ``"avg+max"`` (the sum of both) or ``"gem"``: the generalised mean
            ``mean(x ** p) ** (1 / p)``, computed in float32, with a learned exponent ``p`` that starts at 3.
        eps: Values below are raised to this before GeM takes their power.

    Reference:
        Radenović et al. Fine-tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018 (GeM).
    """

    def __init__(self, kind: str, eps: float = 1e-6) -> None:
        super().__init__()
        self.kind = kind
        self.eps = eps
        if kind == "gem":
            self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Pools (B, C, H, W) to (B, C, 1, 1), in the dtype of the feature map."""
        if self.kind == "gem":
            return self._generalized_mean(feature_map)
        # amax is deterministic on CUDA, where adaptive_max_pool2d is not.
        maximum = feature_map.amax((2, 3), keepdim=True)
        if self.kind == "avg+max":
            return maximum + feature_map.mean((2, 3), keepdim=True)
        return maximum

    def _generalized_mean(self, feature_map: torch.Tensor) -> torch.Tensor:
        # eps ** 3 is zero in float16.
        with _in_float32(feature_map.device):
            p = self.p.float()
            powers = feature_map.float().clamp(min=self.eps).pow(p)
            return powers.mean((2, 3), keepdim=True).pow(1 / p).to(feature_map.dtype)

    def extra_repr(self) -> str:
        """Shows the kind in ``print(model)``."""
        return self.kind


class ReIDModel(nn.Module):
    """A backbone with embedding layer, BNNeck, dropout and L2 normalisation on top.

    Layers of the backbone that do not reach its features are removed, so every parameter is trained and
    ``DistributedDataParallel`` needs no search for unused ones. ``state_dict`` names the backbone's weights as the
    backbone does, without a prefix. :func:`build_model` is the usual way to make one.

    Args:
        name: Name of the backbone, see :func:`~hhcl_torchreid.models.available_backbones`.
        backbone: The network of that name; one of torchreid's is built with ``loss="triplet"`` (its classifier may have
            any size).
        embedding_dim: Length of a linear layer between backbone and BNNeck; 0 for none.
        dropout: Probability of dropping a feature in training, after the BNNeck and before the normalisation.
        bnneck: Whether to batch-normalise the features. The neck has a trained weight and no bias at all: a frozen
            parameter would be thawed by ``torchreid.utils.open_all_layers``, which the engine calls every epoch.
        image_size: (height, width) of the images to come, pixels, which the backbone is tried with: the size that it is
            built for, where it takes no other. None for 256 x 128, or the only size that its record names.

    Attributes:
        feature_dim (int): Length of the features.
        input_size (tuple[int, int] | None): The only (height, width) the backbone takes; None if it takes others.
        pixel_mean (tuple[float, ...]): What the backbone's pretrained weights expect: the mean of red, green and blue.
        pixel_std (tuple[float, ...]): Likewise, the standard deviation.
        removed_layers (tuple[str, ...]): Layers of the backbone that did not reach its features.

    Raises:
        InputError: If the name is not known, or the network cannot take an image of that size, gives something else
            than (B, D) features or has layers of the names of those on top.
    """

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        embedding_dim: int = 0,
        dropout: float = 0.0,
        bnneck: bool = True,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        record = find_backbone(name)
        self.name = name
        self.input_size = image_size if record.has_one_size else record.input_size
        self.pixel_mean, self.pixel_std = record.pixel_mean, record.pixel_std
        self._features_in_eval_mode = record.features_in_eval_mode
        _check_names(name, backbone)
        self.backbone = backbone
        features = self._trace_backbone(self.input_size or image_size or _DEFAULT_INPUT_SIZE)
        self.removed_layers = tuple(_remove_unreached_layers(backbone, features))
        self.feature_dim = features.shape[1]
        self.embedding = _embedding_layer(self.feature_dim, embedding_dim) if embedding_dim else None
        self.feature_dim = embedding_dim or self.feature_dim
        self.neck = _batch_norm_without_bias(self.feature_dim) if bnneck else None
        self.dropout = nn.Dropout(dropout)
        self.register_state_dict_post_hook(_drop_backbone_prefix)
        self.register_load_state_dict_pre_hook(_restore_backbone_prefix)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeds images.

        Args:
            images: (B, 3, H, W).

        Returns:
            (B, ``feature_dim``) float32 rows of unit length, in training as in evaluation.

        Raises:
            InputError: If the backbone does not take images of this size, or a single image is given in training
                to a model with a BNNeck.
        """
        if self.input_size is not None:
            check_input_size(self.name, images.shape[-2], images.shape[-1], self.input_size)
        if self.training and self.neck is not None and images.shape[0] == 1:
            raise InputError("the BNNeck cannot be trained on a batch of one image: use two images or more per batch")
        features = self._backbone_features(images)
        if self.embedding is not None:
            features = self.embedding(features)
        with _in_float32(features.device):
            features = features.float()
            if self.neck is not None:
                features = self.neck(features)
            return F.normalize(self.dropout(features))

    def train(self, mode: bool = True) -> "ReIDModel":
        """Sets the mode of all layers, and of a torchreid backbone's own flag to evaluation.

        torchreid's models look at that flag, and only there, to choose between features and (logits, features): both
        modes give the same kind of features so.
        """
        super().train(mode)
        if self._features_in_eval_mode:
            self.backbone.training = False
        return self

    def _backbone_features(self, images: torch.Tensor) -> torch.Tensor:
        # torchreid's open_specified_layers sets it on the backbone alone.
        if self._features_in_eval_mode and self.backbone.training:
            self.backbone.training = False
        features = self.backbone(images)
        is_tensor = isinstance(features, torch.Tensor)
        if not is_tensor or features.dim() != 2 or not features.is_floating_point():
            given = f"shape {tuple(features.shape)} of {features.dtype}" if is_tensor else type(features).__name__
            raise InputError(
                f"{self.name} gives {given} for images of shape {tuple(images.shape)}: build a network that gives "
                "(B, D) features, in training too"
            )
        return features

    def _trace_backbone(self, size: tuple[int, int]) -> torch.Tensor:
        """Features of one black image, (1, D), in evaluation mode: no batch statistics and no random numbers."""
        parameter = next(self.backbone.parameters(), None)
        if parameter is None:
            raise InputError(f"{self.name} has no weights that could be trained: build a network with parameters")
        self.eval()
        try:
            # As torchreid's engine does in every epoch; here a frozen layer would seem to have no part in the features.
            self.backbone.requires_grad_(True)
            # The graph alone is asked for: nothing that a backward pass would need is kept.
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda _: None, lambda kept: kept):
                features = self._backbone_features(torch.zeros(1, 3, *size, device=parameter.device))
        except Exception as error:  # a network of anybody's may raise anything
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            words = f"{type(error).__name__}: {error}".strip(" :")
            reason = textwrap.shorten(words, width=160, placeholder=" ...")
            raise InputError(
                f"{self.name} cannot take images of {size[0]} x {size[1]} pixels ({reason}): change data.height and "
                "data.width, or take another backbone"
            ) from error
        self.train()
        if len(features) != 1 or not features.shape[1]:
            raise InputError(
                f"{self.name} gives shape {tuple(features.shape)} for one image: let it give (1, D) features"
            )
        if features.grad_fn is None:
            raise InputError(f"{self.name} gives features that no weight has a part in: build it without torch.no_grad")
        return features


def build_model(
    name: str,
    pretrained: bool | str = True,
    pooling: str = "avg",
    last_stride: int | None = 1,
    embedding_dim: int = 0,
    dropout: float = 0.0,
    bnneck: bool = True,
    image_size: tuple[int, int] | None = None,
    drop_path: float = 0.0,
) -> ReIDModel:
    """Builds a model that maps images to unit feature vectors.

    Args:
        name: A backbone of torchreid's factory, one of :func:`~hhcl_torchreid.models.register_backbone`, or one of
            timm's as ``timm/NAME``.
        pretrained: Start from the backbone's pretrained weights (torchreid's are ImageNet's), downloading them if need
            be. A backbone that has none starts from random weights, with a warning. ``"V2"``: from torchvision's better
            ones, in the ResNets and ResNeXts of depth 50 and above.
        pooling: ``"avg"`` (the backbone's own), ``"max"``, ``"gem"`` or ``"avg+max"`` (their sum).
        last_stride: Stride of the last stage (``layer4``) of ResNet-like backbones, 1 or 2, or None for the
            backbone's own; no effect on others.
        embedding_dim: Length of a linear layer before the BNNeck; 0 for none.
        dropout: Probability of dropping a feature in training, in [0, 1).
        bnneck: Whether to batch-normalise the features before they are brought to unit length.
        image_size: (height, width) of the images, pixels, for backbones that are built for one size, such as vision
            transformers, and to try all others with; None for 256 x 128.
        drop_path: Probability of skipping a block for an image in training (stochastic depth) of the last block, in
            [0, 1); that of the others rises to it from 0. For timm's networks and the vision transformers of this
            package.

    Returns:
        The model, on the CPU and in training mode: (B, 3, H, W) images -> (B, ``model.feature_dim``) float32 unit rows.

    Raises:
        InputError: If the name or a setting is not known, the backbone does not take the images or allow the pooling,
            or the pretrained weights cannot be had.

    Examples:
        >>> model = build_model("osnet_x0_25", pretrained=False, pooling="gem")
        >>> model(torch.rand(2, 3, 256, 128)).shape
        torch.Size([2, 512])
    """
    record = find_backbone(name)
    _check_settings(name, record, pooling, last_stride, embedding_dim, dropout)
    _check_optional_parts(name, record, pretrained, drop_path)
    if pretrained and not record.has_pretrained_weights:
        warnings.warn(f"there are no ImageNet weights for {name}: it starts from random weights", stacklevel=2)
        pretrained = False
    size = image_size or record.input_size or _DEFAULT_INPUT_SIZE
    check_input_size(name, *size)
    build = partial(record.build, **({"drop_path": drop_path} if drop_path else {}))
    sizes = (size,) if record.has_one_size else ()
    backbone = _build_pretrained(name, record, pretrained, build, sizes) if pretrained else build(False, *sizes)
    if last_stride is not None and record.set_last_stride is not None:
        record.set_last_stride(backbone, last_stride)
    if pooling != "avg" and record.set_pooling is not None:
        record.set_pooling(backbone, GlobalPooling(pooling))
    return ReIDModel(name, backbone, embedding_dim, dropout, bnneck, size)


class BackboneSummary(NamedTuple):
    """What a backbone allows; embedding layer, dropout and BNNeck work with all of them.

    Attributes:
        name: Its name.
        num_parameters: Trained parameters, BNNeck included.
        feature_dim: Length of the features without an embedding layer.
        record: What else is known of it.
    """

    name: str
    num_parameters: int
    feature_dim: int
    record: Backbone


def describe_backbone(name: str) -> BackboneSummary:
    """Builds the backbone ``name`` without pretrained weights and tells what it allows.

    Raises:
        InputError: If there is none of that name.
    """
    model = build_model(name, pretrained=False)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return BackboneSummary(name, num_parameters, model.feature_dim, find_backbone(name))


def _check_settings(
    name: str, record: Backbone, pooling: str, last_stride: int | None, embedding_dim: int, dropout: float
) -> None:
    if pooling not in POOLINGS:
        raise InputError(f"model.pooling is {pooling!r}: choose one of {', '.join(POOLINGS)}")
    if pooling != "avg" and record.set_pooling is None:
        raise InputError(
            f"{name} {record.fixed_pooling}, so model.pooling cannot be {pooling}: set it to avg "
            "(embedding layer, dropout and BNNeck work with every backbone)"
        )
    if last_stride not in (1, 2, None):
        raise InputError(f"model.last_stride is {last_stride!r}: choose 1 or 2")
    if isinstance(embedding_dim, bool) or not isinstance(embedding_dim, int) or embedding_dim < 0:
        raise InputError(f"model.embedding_dim is {embedding_dim!r}: give a whole number, 0 for no embedding layer")
    if not 0 <= dropout < 1:
        raise InputError(f"model.dropout is {dropout!r}: give a probability from 0 to below 1")


def _check_optional_parts(name: str, record: Backbone, pretrained: bool | str, drop_path: float) -> None:
    if pretrained not in (True, False, "V2"):
        raise InputError(f"model.pretrained is {pretrained!r}: give True, False or V2")
    if pretrained == "V2" and not record.v2_weights:
        raise InputError(
            f"torchvision has no IMAGENET1K_V2 weights for {name}: set model.pretrained True for the weights that it "
            "has, or model.name to a ResNet or ResNeXt of depth 50 or above"
        )
    if not 0 <= drop_path < 1:
        raise InputError(f"model.drop_path is {drop_path!r}: give a probability from 0 to below 1")
    if drop_path and not record.has_drop_path:
        raise InputError(
            f"{name} has no paths that could be dropped: set model.drop_path 0, or model.name to a vision transformer"
        )


def _check_names(name: str, backbone: nn.Module) -> None:
    if not isinstance(backbone, nn.Module):
        raise InputError(f"{name} was built as {type(backbone).__name__}: let its function give a torch.nn.Module")
    taken = {key.split(".")[0] for key in backbone.state_dict()}.intersection(ADDED_LAYERS)
    if taken:
        raise InputError(f"{name} has a layer {min(taken)!r}, as the model has on top of it: give it another name")


def _build_pretrained(
    name: str, record: Backbone, which: bool | str, build: Callable[..., nn.Module], sizes: tuple[Any, ...]
) -> nn.Module:
    try:
        backbone = build(which != "V2", *sizes)
        if which == "V2":
            load_v2_weights(backbone, record.v2_weights)
        if any(parameter.is_meta for parameter in backbone.parameters()):
            raise InputError(f"{name} is built on the meta device, where it takes no weights: build it on the CPU")
    except InputError:
        raise
    # Downloads fail in the ways of urllib, requests, gdown and torch, which have no exception in common.
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", width=120, placeholder=" ...")
        raise InputError(
            f"the ImageNet weights of {name} could not be had ({reason}): set model.pretrained False to start "
            "from random weights, and model.load_weights FILE with it to start from a file you have"
        ) from error
    return backbone


def _in_float32(device: torch.device) -> AbstractContextManager[Any]:
    # Autocast knows no meta device, on which nothing is computed.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _embedding_layer(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(layer.bias)
    return layer


def _batch_norm_without_bias(num_features: int) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(num_features)
    layer.register_parameter("bias", None)
    return layer


def _remove_unreached_layers(module: nn.Module, features: torch.Tensor) -> list[str]:
    """Replaces by ``nn.Identity`` every layer whose parameters have no part in ``features``; gives their names."""
    reached = _parameters_behind(features)
    removed: list[str] = []
    for name, child in list(module.named_modules()):
        parameters = list(child.parameters())
        if not parameters or any(id(parameter) in reached for parameter in parameters):
            continue
        if not any(name.startswith(f"{outer}.") for outer in removed):
            module.set_submodule(name, nn.Identity())
            removed.append(name)
    return removed


def _parameters_behind(output: torch.Tensor) -> set[int]:
    """Ids of the parameters that ``output`` depends on, read off its autograd graph."""
    found: set[int] = set()
    seen = set()
    pending = [output.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        pending.extend(previous for previous, _ in node.next_functions)
    return found


def _drop_backbone_prefix(
    model: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    """State-dict hook: ``backbone.conv1.weight`` -> ``conv1.weight``, after the prefix of a wrapper if there is one."""
    inner = f"{prefix}backbone."
    for key in list(state_dict):
        # Every entry is put back, renamed or not: that keeps their order.
        value = state_dict.pop(key)
        state_dict[prefix + key[len(inner) :] if key.startswith(inner) else key] = value


def _restore_backbone_prefix(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook: ``conv1.weight`` -> ``backbone.conv1.weight``."""
    for key in list(state_dict):
        name = key[len(prefix) :]
        if key.startswith(prefix) and name.split(".")[0] not in ADDED_LAYERS:
            state_dict[f"{prefix}backbone.{name}"] = state_dict.pop(key)
