"""Backbones as embedding networks, and their weights."""

from .backbones import Backbone, available_backbones, check_input_size, find_backbone, register_backbone
from .ics import ConvolutionalStem
from .layouts import find_state_dict
from .network import POOLINGS, BackboneSummary, ReIDModel, build_model, describe_backbone
from .timm import timm_backbone
from .weights import LoadedWeights, backbone_named_in, load_from, load_weights, settings_seen_in

__all__ = [
    "POOLINGS",
    "Backbone",
    "BackboneSummary",
    "ConvolutionalStem",
    "LoadedWeights",
    "ReIDModel",
    "available_backbones",
    "backbone_named_in",
    "build_model",
    "check_input_size",
    "describe_backbone",
    "find_backbone",
    "find_state_dict",
    "load_from",
    "load_weights",
    "register_backbone",
    "settings_seen_in",
    "timm_backbone",
]
