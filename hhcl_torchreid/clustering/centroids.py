"""Sums and means of the features of each cluster, added up in the order of the rows: the same on every run."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cluster_centroids", "cluster_members", "cluster_sums"]


def cluster_members(labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Sorts the clustered rows by cluster.

    Args:
        labels: (N,) int64 below ``num_clusters``; rows with a negative label belong to no cluster.
        num_clusters: C.

    Returns:
        (M,) int64, the clustered rows of cluster 0, then those of cluster 1, ..., in their own order each; and (C,)
        int64, how many of them each cluster has.
    """
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    return order[(labels < 0).sum() :], counts


@torch.no_grad()
def cluster_sums(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Adds up each cluster's features.

    Args:
        features: (N, D) floating-point rows.
        labels: (N,) int64 below ``num_clusters``; rows with a negative label belong to no cluster.
        num_clusters: C.

    Returns:
        (C, D) float32 sums, zeros for a cluster without a row, and (C,) int64 counts, on the features' device.
    """
    members, counts = cluster_members(labels.to(features.device), num_clusters)
    return torch.segment_reduce(features[members].float(), "sum", lengths=counts, axis=0), counts


def cluster_centroids(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """Gives the mean of each cluster's features, brought to unit length.

    Args:
        features: (N, D) unit rows.
        labels: (N,) int64 below ``num_clusters``; rows with a negative label belong to no cluster.
        num_clusters: C; every cluster must have a row.

    Returns:
        (C, D) float32 unit rows, on the features' device.
    """
    sums, counts = cluster_sums(features, labels, num_clusters)
    return F.normalize(sums / counts[:, None])
