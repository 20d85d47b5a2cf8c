"""From pixels to unit rows."""

from .by_camera import SeenByCameras, features_by_camera
from .embedder import Embedder
from .precision import use_precision
from .statistics import estimate_statistics

__all__ = ["Embedder", "SeenByCameras", "estimate_statistics", "features_by_camera", "use_precision"]
