"""HHCL for torchreid: person re-identification learned from unlabelled images (arXiv 2109.12333)."""

from .config import get_default_config
from .data import datasets as _datasets  # noqa: F401 (makes the data sets of this package known to torchreid)
from .engine import ImageHHCLEngine
from .features.extractor import FeatureExtractor
from .labels.clusters import PseudoLabeler
from .memory.hybrid import HybridMemory
from .models.network import build_model

__version__ = "0.1.0"
__all__ = ["FeatureExtractor", "HybridMemory", "ImageHHCLEngine", "PseudoLabeler", "build_model", "get_default_config"]
