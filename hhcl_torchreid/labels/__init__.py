"""From features to pseudo labels, once per epoch."""

from .base import LABELERS, Images, Labeler, TrueLabels, build_labeler, register_labeler
from .clusters import PseudoLabeler

__all__ = [
    "LABELERS",
    "Images",
    "Labeler",
    "PseudoLabeler",
    "TrueLabels",
    "build_labeler",
    "register_labeler",
]
