"""Backbones as embedding networks, and their weights."""

from .backbones import (
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    available_backbones,
    check_input_size,
    find_backbone,
    register_backbone,
)
from .network import POOLINGS, BackboneSummary, GlobalPooling, ReIDModel, build_model, describe_backbone
from .weights import backbone_named_in, find_state_dict, load_weights

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "POOLINGS",
    "Backbone",
    "BackboneSummary",
    "GlobalPooling",
    "ReIDModel",
    "available_backbones",
    "backbone_named_in",
    "build_model",
    "check_input_size",
    "describe_backbone",
    "find_backbone",
    "find_state_dict",
    "load_weights",
    "register_backbone",
]
