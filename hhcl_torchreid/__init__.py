"""HHCL for torchreid: person re-identification learned from unlabelled images (arXiv 2109.12333)."""

import warnings

with warnings.catch_warnings():
    # What torchreid says when it is imported, of a faster evaluation and old names, would end programs under -W error.
    warnings.simplefilter("ignore")
    import torchreid  # noqa: F401

from .config import get_default_config
from .data import datasets as _datasets  # noqa: F401 (makes the data sets of this package known to torchreid)
from .engine import ImageHHCLEngine
from .features.extractor import FeatureExtractor
from .labels import PseudoLabeler, register_labeler
from .memory import HybridMemory
from .models import build_model, register_backbone

__version__ = "0.1.0"
__all__ = [
    "FeatureExtractor",
    "HybridMemory",
    "ImageHHCLEngine",
    "PseudoLabeler",
    "build_model",
    "get_default_config",
    "register_backbone",
    "register_labeler",
]
