"""From features to pseudo labels, once per epoch."""

from .base import LABELERS, Images, Labeler, TrueLabels, build_labeler, choose_labeler, keep_apart, register_labeler
from .clusters import PseudoLabeler
from .epoch import label_epoch

__all__ = [
    "LABELERS",
    "Images",
    "Labeler",
    "PseudoLabeler",
    "TrueLabels",
    "build_labeler",
    "choose_labeler",
    "keep_apart",
    "label_epoch",
    "register_labeler",
]
