"""How good a model is, judged by its own features and clusters where there are no labels to test it on."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..clustering.centroids import cluster_sums
from ..clustering.precision import in_float32

__all__ = ["self_retrieval"]

ROWS_AT_ONCE = 4096


@torch.no_grad()
@in_float32()
def self_retrieval(features: Tensor, labels: Tensor, cameras: np.ndarray) -> float:
    """Share of the images that find their own cluster again at another camera.

    An image does if it is more similar to the centroid of its cluster's images at the *other* cameras than to the
    centroid of any other cluster. An outlier does not, nor does an image whose cluster is at one camera only. Where all
    images are of one camera, its cluster's *other images* take the place of those at other cameras.

    It is a rank-1 score with pseudo labels for identities, so it shares their mistakes: it says when a model gets worse
    or collapses, but it cannot tell two good models apart (docs/best_epoch.md shows how far it goes).

    Args:
        features: (N, D) unit rows.
        labels: (N,) int64, clusters 0, 1, ...; -1 marks outliers.
        cameras: (N,) int.

    Returns:
        The share, in [0, 1]; 0 where there are fewer than two clusters.
    """
    num_clusters = int(labels.max()) + 1
    if num_clusters < 2:
        return 0.0
    clustered = torch.nonzero(labels >= 0).flatten().to(features.device)
    labels = labels.to(features.device)[clustered]
    rows = features[clustered].float()
    tracks = _tracks(labels, torch.from_numpy(np.unique(cameras, return_inverse=True)[1]).to(labels.device), clustered)
    sums, sizes = cluster_sums(rows, labels, num_clusters)
    track_sums, track_sizes = cluster_sums(rows, tracks, int(tracks.max()) + 1)
    centroids = normalize(sums)
    has_others = sizes[labels] > track_sizes[tracks]
    found = 0
    for chunk in torch.nonzero(has_others).flatten().split(ROWS_AT_ONCE):
        own, track = labels[chunk], tracks[chunk]
        similarities = rows[chunk] @ centroids.T
        similarities.scatter_(1, own[:, None], -torch.inf)
        others = normalize(sums[own] - track_sums[track])
        found += int(((rows[chunk] * others).sum(dim=1) > similarities.max(dim=1).values).sum())
    return found / len(features)


def _tracks(labels: Tensor, cameras: Tensor, clustered: Tensor) -> Tensor:
    """Numbers the pairs of a cluster and a camera; with a single camera every image is a pair of its own."""
    if cameras.max() == 0:
        return torch.arange(len(labels), device=labels.device)
    return torch.unique(labels * (cameras.max() + 1) + cameras[clustered], return_inverse=True)[1]
