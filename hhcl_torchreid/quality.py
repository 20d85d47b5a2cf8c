"""How good a model is, judged by its own features and clusters where there are no labels to test it on."""

import numpy as np
import torch
from torch import Tensor

from .memory import cluster_centroids

__all__ = ["self_retrieval"]

ROWS_AT_ONCE = 4096


@torch.no_grad()
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
    labels = labels.to(features.device)
    num_clusters = int(labels.max()) + 1
    clustered = torch.nonzero(labels >= 0).flatten()
    if num_clusters < 2:
        return 0.0
    centroids = cluster_centroids(features, labels, num_clusters)
    groups = torch.from_numpy(np.unique(cameras, return_inverse=True)[1]).to(labels.device)
    if groups.max() == 0:
        groups = torch.arange(len(labels), device=labels.device)
    found = 0
    for images, others in zip(
        clustered.split(ROWS_AT_ONCE),
        _centroids_at_other_cameras(features[clustered].float(), labels[clustered], groups[clustered]).split(
            ROWS_AT_ONCE
        ),
        strict=True,
    ):
        rows = features[images].float()
        similarities = rows @ centroids.T
        similarities.scatter_(1, labels[images, None], -torch.inf)
        found += int(((rows * others).sum(dim=1) > similarities.max(dim=1).values).sum())
    return found / len(labels)


def _centroids_at_other_cameras(features: Tensor, labels: Tensor, cameras: Tensor) -> Tensor:
    """(M, D) unit rows: for each image, that of its cluster's images at other cameras; NaN where there are none."""
    _, tracks = torch.unique(labels * (cameras.max() + 1) + cameras, return_inverse=True)
    cluster_sums, cluster_sizes = _sums(features, labels)
    track_sums, track_sizes = _sums(features, tracks)
    others = torch.nn.functional.normalize(cluster_sums[labels] - track_sums[tracks])
    return torch.where((cluster_sizes[labels] > track_sizes[tracks])[:, None], others, torch.nan)


def _sums(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the rows of each label, in the order of the rows, and their number."""
    sizes = torch.bincount(labels)
    return torch.segment_reduce(features[labels.argsort(stable=True)], "sum", lengths=sizes, axis=0), sizes
