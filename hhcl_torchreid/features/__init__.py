"""From pixels to unit rows."""

from .embedder import Embedder
from .precision import use_precision
from .statistics import estimate_statistics

__all__ = ["Embedder", "estimate_statistics", "use_precision"]
