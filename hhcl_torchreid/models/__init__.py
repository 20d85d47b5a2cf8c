"""Backbones as embedding networks, and their weights."""

from .backbones import Backbone, available_backbones, check_input_size, register_backbone
from .network import POOLINGS, BackboneSummary, ReIDModel, build_model, describe_backbone
from .weights import backbone_named_in, find_state_dict, load_weights

__all__ = [
    "POOLINGS",
    "Backbone",
    "BackboneSummary",
    "ReIDModel",
    "available_backbones",
    "backbone_named_in",
    "build_model",
    "check_input_size",
    "describe_backbone",
    "find_state_dict",
    "load_weights",
    "register_backbone",
]
