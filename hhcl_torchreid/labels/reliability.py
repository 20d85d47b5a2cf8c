"""Which clusters and images to believe: SpCL's test of a clustering by a tighter and a looser one."""

import torch
from torch import Tensor

__all__ = ["reliable_labels"]


def reliable_labels(
    tight: Tensor, normal: Tensor, loose: Tensor, independence_limit: float | None = None
) -> tuple[Tensor, float]:
    """Keeps of the ``normal`` clusters what a tighter and a looser clustering agree with.

    Agreement of an image is the intersection over union of its clusters in two clusterings. A cluster is independent
    if a looser eps does not merge it with others: its least disagreement is at most the limit. An image belongs to its
    cluster's compact part if a tighter eps does not split it off: it disagrees no more than the cluster's best image.

    Args:
        tight: ``(N,)`` labels with a smaller eps, -1 for outliers.
        normal: ``(N,)`` labels to choose from.
        loose: ``(N,)`` labels with a larger eps.
        independence_limit: the largest disagreement of an independent cluster; None takes the one that nine tenths of
            the clusters stay below.

    Returns:
        ``(N,)`` int64 labels, numbered anew without gaps, images of unreliable clusters and images left alone in theirs
        as outliers; and the limit, to be passed on in later epochs.

    References:
        Ge, Zhu, Chen, Zhao, Li: Self-paced Contrastive Learning with Hybrid Memory, NeurIPS 2020, section 3.3.
    """
    clusters = normal.clamp(min=0)
    num_clusters = int(normal.max()) + 1
    is_clustered = normal >= 0
    if num_clusters == 0:
        return normal.clone(), 1.0 if independence_limit is None else independence_limit
    independence = _disagreement(normal, loose)
    compactness = _disagreement(normal, tight)

    def least_in_cluster(values: Tensor) -> Tensor:
        start = torch.full((num_clusters,), torch.inf, dtype=values.dtype, device=values.device)
        return start.scatter_reduce_(0, normal[is_clustered], values[is_clustered], "amin")

    cluster_independence, cluster_compactness = least_in_cluster(independence), least_in_cluster(compactness)
    if independence_limit is None:
        ninth_tenth = min(num_clusters - 1, round(0.9 * num_clusters))
        independence_limit = float(cluster_independence.sort().values[ninth_tenth])
    is_reliable = is_clustered & (cluster_independence[clusters] <= independence_limit)
    is_reliable &= compactness <= cluster_compactness[clusters]
    return _renumber(torch.where(is_reliable, normal, -1), num_clusters), independence_limit


def _disagreement(labels: Tensor, others: Tensor) -> Tensor:
    """One minus the intersection over union of every image's clusters in two clusterings."""
    # An outlier is a cluster of its own.
    alone = torch.arange(len(labels), device=labels.device) + len(labels)
    labels, others = torch.where(labels < 0, alone, labels), torch.where(others < 0, alone, others)

    def sizes(keys: Tensor) -> Tensor:
        _, inverse, counts = keys.unique(return_inverse=True, return_counts=True)
        return counts[inverse].double()

    intersection = sizes(labels * (2 * len(labels)) + others)
    return 1 - intersection / (sizes(labels) + sizes(others) - intersection)


def _renumber(labels: Tensor, num_clusters: int) -> Tensor:
    """Drops clusters of fewer than two images and closes the gaps in the numbers."""
    sizes = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    stays = sizes >= 2
    numbers = torch.where(stays, stays.cumsum(0) - 1, -1)
    return torch.where(labels >= 0, numbers[labels.clamp(min=0)], -1)
