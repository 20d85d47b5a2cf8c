"""How good a model is: by labelled test images, and by its own clusters where there are none."""

from .agreement import agreement, camera_agreement
from .engine import RetrievalEngine
from .retrieval import findable_targets
from .self_retrieval import self_retrieval
from .track_separation import track_separation

__all__ = ["RetrievalEngine", "agreement", "camera_agreement", "findable_targets", "self_retrieval", "track_separation"]
