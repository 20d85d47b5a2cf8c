"""Layouts of weights: what the programs of the field call a backbone's layers and what lies on top of them."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..errors import InputError

__all__ = ["LAYOUTS", "POOLING_EXPONENT", "Layout", "Translation", "find_state_dict", "translate"]

POOLING_EXPONENT = "pooling.p"
"""What a translation calls the exponent of GeM pooling, which each backbone keeps under a name of its own."""

OUTER_KEYS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),  # averages, which timm prefers too
    *("state_dict", "model_state_dict", "teacher", "model", "net", "network", "weights", "checkpoint", "module"),
)
"""Where a checkpoint keeps its weights, the first that is there; such a dictionary may hold another one."""

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "encoder.")
"""What DataParallel, torch.compile and Lightning put before every name, each maybe more than once."""


@dataclass(frozen=True)
class Layout:
    """How a program names weights, without the prefixes of wrappers. Names are told by how they begin.

    Attributes:
        name: The programs, for messages.
        mark: The beginning of a name that no layout in the rows below has.
        renamed: (beginning there, beginning here) of all that is taken over; the first that fits a name counts. What
            lies on top of the backbone is called ``embedding``, ``neck`` and ``POOLING_EXPONENT`` here.
        ignored: Beginnings of names here that the features of this package's networks do not depend on.
        stride_1: The beginning of a name here that tells that the last stage has stride 1; empty where it always has,
            None where it has the backbone's own.
        family: Of backbones that are built as that program's, see :func:`~.backbones.find_backbone`.
    """

    name: str
    mark: str
    renamed: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()
    stride_1: str | None = None
    family: str = ""


_AS_IT_IS = ("", "")
_OF_VITS = ("fc.", "head.", "sie_embed", "part")


def _in_order(name: str, first_stage: int) -> tuple[tuple[str, str], ...]:
    """The names of a ResNet that is a sequence of layers."""
    stages = ((f"{name}.{first_stage + number}.", f"layer{number + 1}.") for number in range(4))
    return ((f"{name}.0.", "conv1."), (f"{name}.1.", "bn1."), *stages)


LAYOUTS = (
    Layout(
        "MMT",
        mark="base.3.",
        renamed=(*_in_order("base", first_stage=3), ("feat_bn.", "neck."), ("feat.", "embedding.")),  # without a ReLU
        stride_1="layer1.0.conv3.",
        family="bot",
    ),
    Layout(
        "CAP",
        mark="resnet_conv.",
        renamed=(
            *_in_order("resnet_conv", first_stage=3),  # without a ReLU
            *(("bottleneck.", "neck."), ("global_pool.p", POOLING_EXPONENT)),
        ),
        stride_1="",
        family="bot",
    ),
    Layout(
        "HHCL, Cluster Contrast, SpCL, ICE, ISE or PPLR",
        mark="base.0.",
        renamed=(
            *_in_order("base", first_stage=4),
            *(("feat_bn.", "neck."), ("bnneck.", "neck."), ("feat.", "embedding."), ("gap.p", POOLING_EXPONENT)),
        ),
        stride_1="layer1.0.conv3.",  # depth 50 and above
    ),
    Layout(
        "TransReID with parts",
        mark="b1.0.",
        renamed=(
            *(
                ("b1.0.", "blocks.11."),
                ("b1.1.", "norm."),
                ("base.blocks.11.", "untrained."),
                ("base.norm.", "untrained."),
            ),
            *(("base.", ""), ("bottleneck.", "neck.")),
        ),
        ignored=(*_OF_VITS, "untrained."),
        stride_1="",
    ),
    Layout(
        "BoT or TransReID",
        mark="base.",
        renamed=(("base.", ""), ("bottleneck.", "neck."), ("fcneck.", "embedding.")),
        ignored=_OF_VITS,
        stride_1="",
        family="bot",
    ),
    Layout(
        "fast-reid with an embedding",
        mark="heads.bottleneck.1.",
        renamed=(
            *(("backbone.", ""), ("heads.bottleneck.0.", "embedding."), ("heads.bottleneck.1.", "neck.")),
            # From May to July 2020 a LeakyReLU and a neck came behind that, which no network here has.
            *(("heads.bnneck.", "embedding.leaky relu and neck."), ("heads.pool_layer.p", POOLING_EXPONENT)),
        ),
        stride_1="",
        family="fastreid",
    ),
    Layout(
        "fast-reid",
        mark="heads.",
        renamed=(
            *(("backbone.", ""), ("heads.pool_layer.p", POOLING_EXPONENT), ("heads.bottleneck.0.", "neck.")),
            *(("heads.bnneck.0.", "neck."), ("heads.bnneck.", "neck.")),  # until September 2020
        ),
        stride_1="",
        family="fastreid",
    ),
    Layout("MoCo or LUPerson", mark="encoder_q.", renamed=(("encoder_q.", ""),), ignored=("fc.",)),
    Layout("DINO, TransReID-SSL or PASS", mark="backbone.", renamed=(("backbone.", ""),), ignored=_OF_VITS),
    Layout(
        "TransReID-SSL without labels",
        mark="bottleneck.",
        renamed=(("bottleneck.", "neck."), _AS_IT_IS),
        ignored=_OF_VITS,
    ),
    Layout("this package", mark="neck.", renamed=(_AS_IT_IS,), stride_1=""),
    Layout("this package", mark="embedding.", renamed=(_AS_IT_IS,), stride_1=""),
    Layout("torchreid, torchvision or timm", mark="", renamed=(_AS_IT_IS,)),
)
"""One row a layout; the first whose mark is in a file is the file's."""

_INSIDE = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.BN_T\."), "."),
)
"""What is renamed within a name: torchvision's DenseNet files date from when a module's name could hold a dot, and SpCL
with labels of another data set keeps batch norm for both, of which the target's counts."""

_OF_THE_SOURCE = ".BN_S."


class Translation(NamedTuple):
    """Weights by the names of this package."""

    layout: Layout
    weights: dict[str, torch.Tensor]
    skipped: list[str]
    """Names in the file that have no counterpart."""


def find_state_dict(checkpoint: Any, path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Finds the weights in what was read from a file: bare, or under the outer key of any program.

    Args:
        checkpoint: What the file holds.
        path: The file, for messages.

    Returns:
        The weights, by the file's own names.

    Raises:
        InputError: If there are none.
    """
    weights = checkpoint
    while isinstance(weights, Mapping):
        inner = next((weights[key] for key in OUTER_KEYS if isinstance(weights.get(key), Mapping)), None)
        if inner is None:
            break
        weights = inner
    tensors = {str(key): value for key, value in weights.items() if isinstance(value, torch.Tensor)}
    if 2 * len(tensors) < len(weights):  # an epoch or the like may stand among them
        raise InputError(f"{path} holds no state dict: give a checkpoint, or a file of torch.save(model.state_dict())")
    return tensors


def translate(weights: Mapping[str, torch.Tensor], known: Collection[str]) -> Translation:
    """Gives weights the names of this package, whatever the layout of their file.

    Args:
        weights: From :func:`find_state_dict`.
        known: The names of the network that they may be for. A file that has most of them is taken as it is, so that
            a network may call its own layers as others call their wrappers.

    Returns:
        The weights, their layout and what was left out.
    """
    is_ours = 2 * sum(name in weights for name in known) > len(known)
    names = {key: key for key in weights} if is_ours else _unwrapped(weights)
    rows = [row for row in LAYOUTS if not is_ours or _AS_IT_IS in row.renamed]
    layout = next(row for row in rows if not row.mark or any(name.startswith(row.mark) for name in names.values()))
    here = {key: name if is_ours and name in known else _renamed(name, layout) for key, name in names.items()}
    taken = {name: weights[key] for key, name in here.items() if name is not None}
    return Translation(layout, taken, [key for key in weights if here.get(key) is None])


def _unwrapped(keys: Collection[str]) -> dict[str, str]:
    """The names without what most of them begin with, if that is a wrapper's; the others are of no network."""
    names = {key: key for key in keys}
    while True:
        counts = {prefix: sum(name.startswith(prefix) for name in names.values()) for prefix in WRAPPERS}
        prefix = max(counts, key=lambda wrapper: counts[wrapper])
        if 2 * counts[prefix] <= len(names):
            return names
        names = {key: name.removeprefix(prefix) for key, name in names.items() if name.startswith(prefix)}


def _renamed(name: str, layout: Layout) -> str | None:
    start = next((start for start in layout.renamed if name.startswith(start[0])), None)
    if start is None or _OF_THE_SOURCE in name:
        return None
    there, here = start
    renamed = here + name.removeprefix(there)
    for pattern, replacement in _INSIDE:
        renamed = pattern.sub(replacement, renamed)
    return None if renamed.startswith(layout.ignored) else renamed
