"""What a batch is contrasted with."""

from .hybrid import MEMORY_MODES, HybridMemory, cluster_centroids

__all__ = ["MEMORY_MODES", "HybridMemory", "cluster_centroids"]
