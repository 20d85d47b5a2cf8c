"""Any torchreid backbone as an embedding network: pooling, BNNeck, unit vectors.

The pretrained backbones are torchreid's own, and so are the names of their weights: the state dict of a model built
here is the state dict of the torchreid model plus the layers added on top (``embedding.*``, ``neck.*``, the exponent of
GeM pooling), minus the layers that never reach the features (classifiers, reduction convolutions).
"""

import contextlib
import difflib
import os
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torchreid
from torch import nn
from torch.nn import functional as F

from ..checkpoint import load_checkpoint
from ..errors import InputError

__all__ = [
    "POOLINGS",
    "BackboneSummary",
    "GlobalPooling",
    "ReIDModel",
    "available_backbones",
    "backbone_named_in",
    "build_model",
    "check_input_size",
    "describe_backbone",
    "find_state_dict",
    "load_weights",
]

POOLINGS = ("avg", "max", "gem", "avg+max")

_DEFAULT_INPUT_SIZE = (256, 128)
_REQUIRED_INPUT_SIZE = {"hacnn": (160, 64), "mudeep": (256, 128)}

_WHY_POOLING_IS_FIXED = {
    "hacnn": "averages inside each of its attention branches",
    "mudeep": "reads its features from the whole feature map with a linear layer",
    "pcb_p4": "averages each of its 4 horizontal parts on its own",
    "pcb_p6": "averages each of its 6 horizontal parts on its own",
}

# These two pool with a function, which leaves a 1 x 1 map as it is: a pooling layer right before it takes its place.
_LAYER_BEFORE_POOLING_FUNCTION = {"shufflenet": "stage4", "nasnsetmobile": "relu"}

# Their next step is Tensor.view, which fails on what comes out here when the model is in channels_last format.
_LAYER_BEFORE_VIEW = {"mudeep": "block5", "pcb_p4": "parts_avgpool", "pcb_p6": "parts_avgpool"}

_WITHOUT_PRETRAINED_WEIGHTS = frozenset(
    {
        "hacnn",
        "mlfn",
        "mobilenetv2_x1_0",
        "mobilenetv2_x1_4",
        "mudeep",
        "shufflenet",
        "shufflenet_v2_x1_5",
        "shufflenet_v2_x2_0",
    }
)

_ADDED_LAYERS = ("embedding", "neck")
_IMAGENET_CLASSIFIER = re.compile(r"(fc|last_linear|classifier(\.\d+)?)\.(weight|bias)")
_MODEL_NAME_IN_CONFIG = re.compile(r"^model:\n(?: +.*\n)*? +name: *['\"]?(\w+)", re.MULTILINE)
# torchvision's DenseNet files date from when a module's name could hold a dot.
_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")


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
        """Pool (B, C, H, W) to (B, C, 1, 1), in the dtype of the feature map."""
        if self.kind == "gem":
            return self._generalized_mean(feature_map)
        # amax is deterministic on CUDA, where adaptive_max_pool2d is not.
        maximum = feature_map.amax((2, 3), keepdim=True)
        if self.kind == "avg+max":
            return maximum + feature_map.mean((2, 3), keepdim=True)
        return maximum

    def _generalized_mean(self, feature_map: torch.Tensor) -> torch.Tensor:
        # eps ** 3 is zero in float16.
        with torch.autocast(feature_map.device.type, enabled=False):
            p = self.p.float()
            powers = feature_map.float().clamp(min=self.eps).pow(p)
            return powers.mean((2, 3), keepdim=True).pow(1 / p).to(feature_map.dtype)

    def extra_repr(self) -> str:
        """Show the kind in ``print(model)``."""
        return self.kind


class ReIDModel(nn.Module):
    """A torchreid backbone with embedding layer, BNNeck, dropout and L2 normalisation on top.

    Layers of the backbone that do not reach its features are removed, so every parameter is trained and
    ``DistributedDataParallel`` needs no search for unused ones. ``state_dict`` names the backbone's weights as
    torchreid does, without a prefix. :func:`build_model` is the usual way to make one.

    Args:
        name: Name of the backbone in torchreid's factory.
        backbone: The model of that name, built with ``loss="triplet"`` (its classifier may have any size).
        embedding_dim: Length of a linear layer between backbone and BNNeck; 0 for none.
        dropout: Probability of dropping a feature in training, after the BNNeck and before the normalisation.
        bnneck: Whether to batch-normalise the features. The neck has a trained weight and no bias at all: a frozen
            parameter would be thawed by ``torchreid.utils.open_all_layers``, which the engine calls every epoch.

    Attributes:
        feature_dim (int): Length of the features.
        input_size (tuple[int, int] | None): The only (height, width) the backbone takes; None if it takes others.
        removed_layers (tuple[str, ...]): Layers of the backbone that did not reach its features.
    """

    def __init__(
        self, name: str, backbone: nn.Module, embedding_dim: int = 0, dropout: float = 0.0, bnneck: bool = True
    ) -> None:
        super().__init__()
        self.name = name
        self.input_size = _REQUIRED_INPUT_SIZE.get(name)
        self.backbone = backbone
        if name in _LAYER_BEFORE_VIEW:
            backbone.get_submodule(_LAYER_BEFORE_VIEW[name]).register_forward_hook(_make_contiguous)
        features = self._trace_backbone()
        self.removed_layers = tuple(_remove_unreached_layers(backbone, features))
        self.feature_dim = features.shape[1]
        self.embedding = _embedding_layer(self.feature_dim, embedding_dim) if embedding_dim else None
        self.feature_dim = embedding_dim or self.feature_dim
        self.neck = _batch_norm_without_bias(self.feature_dim) if bnneck else None
        self.dropout = nn.Dropout(dropout)
        self.register_state_dict_post_hook(_drop_backbone_prefix)
        self.register_load_state_dict_pre_hook(_restore_backbone_prefix)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: (B, 3, H, W).

        Returns:
            (B, ``feature_dim``) float32 rows of unit length, in training as in evaluation.

        Raises:
            InputError: If the backbone does not take images of this size, or a single image is given in training
                to a model with a BNNeck.
        """
        if self.input_size is not None:
            check_input_size(self.name, *images.shape[-2:])
        if self.training and self.neck is not None and images.shape[0] == 1:
            raise InputError("the BNNeck cannot be trained on a batch of one image: use two images or more per batch")
        features = self._backbone_features(images)
        if self.embedding is not None:
            features = self.embedding(features)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.neck is not None:
                features = self.neck(features)
            return F.normalize(self.dropout(features))

    def train(self, mode: bool = True) -> "ReIDModel":
        """Set the mode of all layers, and of the backbone's own flag to evaluation.

        torchreid's models look at that flag, and only there, to choose between features and (logits, features): both
        modes give the same kind of features so.
        """
        super().train(mode)
        self.backbone.training = False
        return self

    def _backbone_features(self, images: torch.Tensor) -> torch.Tensor:
        backbone: Any = self.backbone
        # torchreid's open_specified_layers sets it on the backbone alone.
        if backbone.training:
            backbone.training = False
        # hacnn creates tensors on the device that this flag of its constructor says.
        if getattr(backbone, "use_gpu", images.is_cuda) != images.is_cuda:
            backbone.use_gpu = images.is_cuda
        return backbone(images)

    def _trace_backbone(self) -> torch.Tensor:
        """Features of one black image, (1, D), in evaluation mode: no batch statistics and no random numbers."""
        device = next(self.backbone.parameters()).device
        image = torch.zeros(1, 3, *(self.input_size or _DEFAULT_INPUT_SIZE), device=device)
        self.eval()
        with torch.enable_grad():
            features = self._backbone_features(image)
        self.train()
        return features


class BackboneSummary(NamedTuple):
    """What a backbone of torchreid's factory allows; embedding layer, dropout and BNNeck work with all of them.

    Attributes:
        name: Name in torchreid's factory.
        num_parameters: Trained parameters, BNNeck included.
        feature_dim: Length of the features without an embedding layer.
        input_size: The only (height, width) it takes; None if it takes others.
        has_pooling_choice: Whether it takes every pooling of ``POOLINGS``; if not, only ``"avg"``, which stands for
            its own.
        has_last_stride: Whether ``last_stride`` has an effect.
        has_pretrained_weights: Whether torchreid downloads ImageNet weights for it.
    """

    name: str
    num_parameters: int
    feature_dim: int
    input_size: tuple[int, int] | None
    has_pooling_choice: bool
    has_last_stride: bool
    has_pretrained_weights: bool


def available_backbones() -> list[str]:
    """Names of the models in torchreid's factory, in its order."""
    return list(vars(torchreid.models)["__model_factory"])


def build_model(
    name: str,
    pretrained: bool = True,
    pooling: str = "avg",
    last_stride: int | None = 1,
    embedding_dim: int = 0,
    dropout: float = 0.0,
    bnneck: bool = True,
) -> ReIDModel:
    """Build a model that maps images to unit feature vectors.

    Args:
        name: A backbone of torchreid's factory, see :func:`available_backbones`.
        pretrained: Start from torchreid's ImageNet weights, downloading them if need be. A backbone for which torchreid
            has none starts from random weights, with a warning.
        pooling: ``"avg"`` (the backbone's own), ``"max"``, ``"gem"`` or ``"avg+max"`` (their sum).
        last_stride: Stride of the last stage (``layer4``) of ResNet-like backbones, 1 or 2, or None for torchreid's
            own; no effect on others.
        embedding_dim: Length of a linear layer before the BNNeck; 0 for none.
        dropout: Probability of dropping a feature in training, in [0, 1).
        bnneck: Whether to batch-normalise the features before they are brought to unit length.

    Returns:
        The model, on the CPU and in training mode: (B, 3, H, W) images -> (B, ``model.feature_dim``) float32 unit rows.

    Raises:
        InputError: If the name or a setting is not known, the backbone does not allow the pooling, or the
            pretrained weights cannot be had.

    Examples:
        >>> model = build_model("osnet_x0_25", pretrained=False, pooling="gem")
        >>> model(torch.rand(2, 3, 256, 128)).shape
        torch.Size([2, 512])
    """
    _check_settings(name, pooling, last_stride, embedding_dim, dropout)
    if pretrained and name in _WITHOUT_PRETRAINED_WEIGHTS:
        warnings.warn(f"torchreid has no ImageNet weights for {name}: it starts from random weights", stacklevel=2)
        pretrained = False
    backbone = _pretrained_backbone(name) if pretrained else _torchreid_model(name, pretrained=False)
    if last_stride is not None:
        _set_last_stride(backbone, last_stride)
    if pooling != "avg":
        _replace_pooling(name, backbone, GlobalPooling(pooling))
    return ReIDModel(name, backbone, embedding_dim, dropout, bnneck)


def check_input_size(name: str, height: int, width: int) -> None:
    """Raise :class:`InputError` if the backbone ``name`` does not take images of this size, in pixels."""
    required = _REQUIRED_INPUT_SIZE.get(name, (height, width))
    if required != (height, width):
        raise InputError(
            f"{name} takes images of {required[0]} x {required[1]} pixels only, not {height} x {width}: "
            f"set data.height {required[0]} data.width {required[1]}"
        )


def describe_backbone(name: str) -> BackboneSummary:
    """Build the backbone ``name`` without pretrained weights and tell what it allows.

    Raises:
        InputError: If torchreid has no model of that name.
    """
    model = build_model(name, pretrained=False)
    return BackboneSummary(
        name=name,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        feature_dim=model.feature_dim,
        input_size=model.input_size,
        has_pooling_choice=name not in _WHY_POOLING_IS_FIXED,
        has_last_stride=hasattr(model.backbone, "layer4"),
        has_pretrained_weights=name not in _WITHOUT_PRETRAINED_WEIGHTS,
    )


def load_weights(model: ReIDModel, path: str | os.PathLike[str]) -> list[str]:
    """Load the weights of a checkpoint into a model, in place.

    The file may be a checkpoint of this package or of torchreid (a dictionary with ``"state_dict"``), or a bare state
    dict such as the ImageNet weights of torchvision; a ``module.`` prefix is taken off. Classifiers and other layers
    that do not reach the features are ignored. Layers on top of the backbone (``fc*``, ``embedding``, ``neck`` and the
    exponent of GeM pooling) may be missing from the file: they stay as they are, and a warning names them.
    Half-precision weights become float32. Unless everything fits, nothing is loaded.

    Args:
        model: The model, not wrapped for distributed training.
        path: The file. It is read with ``weights_only=True``: loading it cannot run code.

    Returns:
        Names in ``model.state_dict()`` that the file has no weights for.

    Raises:
        InputError: If the file is missing, is no checkpoint, or belongs to another model.
    """
    checkpoint = load_checkpoint(path)
    weights = find_state_dict(checkpoint, path)
    own = model.state_dict()
    mismatch = _first_mismatch(weights, own, model.removed_layers)
    if mismatch:
        seems_to_be = backbone_named_in(checkpoint)
        is_another = seems_to_be is not None and seems_to_be != model.name
        way_out = f"set model.name {seems_to_be}" if is_another else "give a file of the same model and settings"
        raise InputError(f"{path} does not hold weights of this {model.name} ({mismatch}): {way_out}")
    model.load_state_dict({key: value for key, value in weights.items() if key in own}, strict=False)
    missing = [key for key in own if key not in weights and not key.endswith(".num_batches_tracked")]
    if missing:
        warnings.warn(f"{path} has no weights for {', '.join(missing)}: left as initialised", stacklevel=2)
    return missing


def _check_settings(name: str, pooling: str, last_stride: int | None, embedding_dim: int, dropout: float) -> None:
    names = available_backbones()
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(names)}"
        raise InputError(f"torchreid has no model {name!r}: {hint}")
    if pooling not in POOLINGS:
        raise InputError(f"model.pooling is {pooling!r}: choose one of {', '.join(POOLINGS)}")
    if pooling != "avg" and name in _WHY_POOLING_IS_FIXED:
        raise InputError(
            f"{name} {_WHY_POOLING_IS_FIXED[name]}, so model.pooling cannot be {pooling}: set it to avg "
            "(embedding layer, dropout and BNNeck work with every backbone)"
        )
    if last_stride not in (1, 2, None):
        raise InputError(f"model.last_stride is {last_stride!r}: choose 1 or 2")
    if isinstance(embedding_dim, bool) or not isinstance(embedding_dim, int) or embedding_dim < 0:
        raise InputError(f"model.embedding_dim is {embedding_dim!r}: give a whole number, 0 for no embedding layer")
    if not 0 <= dropout < 1:
        raise InputError(f"model.dropout is {dropout!r}: give a probability from 0 to below 1")


def _torchreid_model(name: str, pretrained: bool) -> nn.Module:
    return torchreid.models.build_model(name, num_classes=1, loss="triplet", pretrained=pretrained, use_gpu=False)


def _pretrained_backbone(name: str) -> nn.Module:
    try:
        with _weights_only_loading():
            return _torchreid_model(name, pretrained=True)
    # Downloads fail in the ways of urllib, requests, gdown and torch, which have no exception in common.
    except Exception as error:
        raise InputError(
            f"the ImageNet weights of {name} could not be had ({_reason(error)}): set model.pretrained False to start "
            "from random weights, and model.load_weights FILE with it to start from a file you have"
        ) from error


@contextlib.contextmanager
def _weights_only_loading() -> Iterator[None]:
    """Let no ``torch.load`` run code, torchreid's included, which asks for full pickles."""
    switches = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in switches}
    os.environ.update(switches)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _set_last_stride(backbone: nn.Module, stride: int) -> None:
    if not hasattr(backbone, "layer4"):
        return
    # Which convolutions carry the stride differs between block types; layer3 has the same blocks, always with stride 2.
    for name, layer in backbone.get_submodule("layer3.0").named_modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            twin: Any = backbone.get_submodule(f"layer4.0.{name}")
            twin.stride = (stride, stride)


def _replace_pooling(name: str, backbone: nn.Module, pooling: nn.Module) -> None:
    if name in _LAYER_BEFORE_POOLING_FUNCTION:
        attribute = _LAYER_BEFORE_POOLING_FUNCTION[name]
        layer = getattr(backbone, attribute)
        layers = layer if isinstance(layer, nn.Sequential) else [layer]
        setattr(backbone, attribute, nn.Sequential(*layers, pooling))
    else:
        setattr(backbone, "global_avgpool" if hasattr(backbone, "global_avgpool") else "avgpool", pooling)


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
    """Replace by ``nn.Identity`` every layer whose parameters have no part in ``features``; return their names."""
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


def _make_contiguous(_module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.contiguous()


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
        if key.startswith(prefix) and name.split(".")[0] not in _ADDED_LAYERS:
            state_dict[f"{prefix}backbone.{name}"] = state_dict.pop(key)


def find_state_dict(checkpoint: Any, path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The weights in what was read from a file: of a checkpoint or bare, without a ``module.`` prefix.

    Raises:
        InputError: If there are none.
    """
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"{path} holds no state dict: give a checkpoint, or a file of torch.save(model.state_dict())")
    return {_OLD_DENSENET_NAME.sub(r"\1\2.", str(key).removeprefix("module.")): weights[key] for key in weights}


def _first_mismatch(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], removed_layers: tuple[str, ...]
) -> str | None:
    for key, value in own.items():
        if key in weights and weights[key].shape != value.shape:
            return f"{key} is {list(weights[key].shape)} in the file and {list(value.shape)} in the model"
    for key in weights:
        is_ignored = _IMAGENET_CLASSIFIER.fullmatch(key) or key.split(".")[0] in removed_layers
        if key not in own and not is_ignored:
            return f"the model has no {key}"
    for key in own:
        if key not in weights and not _may_be_missing(key):
            return f"the file has no {key}"
    return None


def _may_be_missing(key: str) -> bool:
    first, last = key.split(".")[0], key.split(".")[-1]
    # torchreid names its own layers after the pooling fc, fc_fusion and the like; GeM's exponent is p.
    return first in _ADDED_LAYERS or first.startswith("fc") or last in ("p", "num_batches_tracked")


def backbone_named_in(checkpoint: Any) -> str | None:
    """The backbone that a checkpoint's ``"model_name"`` or the text of its ``"config"`` names, if any."""
    if not isinstance(checkpoint, Mapping):
        return None
    name = checkpoint.get("model_name")
    if name is None and isinstance(checkpoint.get("config"), str):
        found = _MODEL_NAME_IN_CONFIG.search(checkpoint["config"])
        name = found and found[1]
    return name if name in available_backbones() else None


def _reason(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", width=120, placeholder=" ...")
