"""From features to pseudo labels: neighbours, k-reciprocal Jaccard graph, DBSCAN. Knows nothing of images."""

from hhcl_torchreid.clustering.dbscan import dbscan
from hhcl_torchreid.clustering.neighbors import k_nearest_neighbors
from hhcl_torchreid.clustering.reciprocal import jaccard_graph
from hhcl_torchreid.clustering.reranking import re_ranking

__all__ = ["dbscan", "jaccard_graph", "k_nearest_neighbors", "re_ranking"]
