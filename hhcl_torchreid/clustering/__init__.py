"""From features to pseudo labels: neighbours, k-reciprocal Jaccard graph, DBSCAN. Knows nothing of images."""

from .dbscan import dbscan
from .neighbors import k_nearest_neighbors
from .reciprocal import jaccard_graph
from .reranking import re_ranking

__all__ = ["dbscan", "jaccard_graph", "k_nearest_neighbors", "re_ranking"]
