"""From pixels to unit rows."""

from .embedder import Embedder
from .precision import use_precision
from .statistics import estimate_statistics, features_by_camera

__all__ = ["Embedder", "estimate_statistics", "features_by_camera", "use_precision"]
