"""What a batch is contrasted with."""

from ..clustering.centroids import cluster_centroids
from .hybrid import HybridMemory
from .terms import MEMORY_MODES, Batch, MemoryTerm

__all__ = ["MEMORY_MODES", "Batch", "HybridMemory", "MemoryTerm", "cluster_centroids"]
