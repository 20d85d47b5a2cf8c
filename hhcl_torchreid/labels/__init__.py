"""From features to pseudo labels, once per epoch."""

from .base import LABELERS, Images, Labeler, TrueLabels, build_labeler, choose_labeler, keep_apart, register_labeler
from .cameras import UNLIKE_CAMERAS, camera_share
from .clusters import PseudoLabeler
from .corrections import Answers, CorrectedLabeler, combine_answers, correct_labels
from .epoch import label_epoch

__all__ = [
    "LABELERS",
    "UNLIKE_CAMERAS",
    "Answers",
    "CorrectedLabeler",
    "Images",
    "Labeler",
    "PseudoLabeler",
    "TrueLabels",
    "build_labeler",
    "camera_share",
    "choose_labeler",
    "combine_answers",
    "correct_labels",
    "keep_apart",
    "label_epoch",
    "register_labeler",
]
