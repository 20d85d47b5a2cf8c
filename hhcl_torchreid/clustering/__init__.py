"""From features to pseudo labels: neighbours, k-reciprocal Jaccard graph, DBSCAN. Knows nothing of images."""
