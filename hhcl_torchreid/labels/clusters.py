"""From features to pseudo labels, once per epoch, with what an engineer wants to know about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import distributed
from ..clustering.dbscan import dbscan
from ..clustering.neighbors import agree_on_copies, check_features, search
from ..clustering.reciprocal import graph_from_neighbors
from ..errors import InputError
from ..profiling import PeakMemory, Stopwatch

__all__ = ["ClusteringStatistics", "PseudoLabeler", "reliable_labels"]


@dataclass(frozen=True)
class ClusteringStatistics:
    """What one clustering found, and what it took."""

    num_clusters: int
    num_outliers: int
    largest_cluster: int
    """Images in the largest cluster."""
    seconds: dict[str, float]
    """Wall-clock seconds of the stages ``"neighbors"``, ``"graph"`` (in the main process) and ``"dbscan"``."""
    peak_memory: int
    """Bytes held at most, beyond those held before, as the features are: on a GPU by PyTorch, else by the process."""

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of all stages."""
        return sum(self.seconds.values())


class PseudoLabeler:
    """Labels images by clustering their features: k-reciprocal Jaccard distances, then DBSCAN.

    In a run of several processes (:mod:`~hhcl_torchreid.distributed`) all of them call it, with the same features: each
    searches the neighbours of its own part of the images, the main process makes the labels, and all get them.

    Args:
        eps: DBSCAN's largest distance between neighbours, below 1; 0.45 suits Market-1501, 0.6 DukeMTMC-reID, 0.7
            MSMT17. Three values turn on SpCL's reliability test, see :func:`reliable_labels`: the middle one clusters,
            the tighter and the looser one vote.
        min_samples: images within eps, the image itself included, that make a core image.
        k1: nearest neighbours among which reciprocal ones are sought.
        k2: nearest neighbours whose encodings are averaged.
        knn: back end of the neighbour search, ``"auto"``, ``"faiss"`` or ``"torch"``.

    Attributes:
        statistics: :class:`ClusteringStatistics` of the latest call; None before the first.
        independence_limit: with three eps, the limit that the first call has found; set it when training resumes.

    Raises:
        InputError: eps is neither one nor three numbers between 0 and 1.

    References:
        Hu, Zhu, He: Hard-sample Guided Hybrid Contrast Learning for Unsupervised Person Re-Identification, 2021,
        section 3.1.

    Example:
        >>> features = torch.nn.functional.normalize(torch.eye(2).repeat_interleave(8, dim=0), dim=1)
        >>> labeler = PseudoLabeler(eps=0.6)
        >>> labeler(features).tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
        >>> labeler.statistics.num_clusters
        2
    """

    def __init__(
        self,
        eps: float | Sequence[float] = 0.6,
        min_samples: int = 4,
        k1: int = 30,
        k2: int = 6,
        knn: str = "auto",
    ) -> None:
        self.eps = tuple(sorted(eps)) if isinstance(eps, Sequence) else (float(eps),)
        if len(self.eps) not in (1, 3) or not all(0 < value < 1 for value in self.eps):
            raise InputError(f"eps = {eps} must be one number between 0 and 1, or three of them.")
        self.min_samples, self.k1, self.k2, self.knn = min_samples, k1, k2, knn
        self.statistics: ClusteringStatistics | None = None
        self.independence_limit: float | None = None

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Label ``(N, D)`` unit rows.

        Returns:
            ``(N,)`` int64 labels on the features' device, clusters 0, 1, ...; -1 marks an outlier.

        Raises:
            InputError: the features are not finite unit rows, or memory is too short.
        """
        memory, watch = PeakMemory(features.device), Stopwatch(features.device)
        features = check_features(features)
        of_ranks = distributed.parts(len(features))
        found = search(features, self.k1, self.knn, rows=of_ranks[distributed.rank()])
        neighbors, similarities = (distributed.gather_rows(rows, of_ranks) for rows in found)
        neighbors = agree_on_copies(features, neighbors, similarities)
        watch.lap("neighbors")

        def label() -> Tensor:
            graph = graph_from_neighbors(features, neighbors, similarities, self.k2, max_distance=self.eps[-1])
            watch.lap("graph")
            return self._cluster(graph).cpu()

        labels = distributed.from_main(label).to(features.device)
        watch.lap("dbscan")
        self.statistics = _describe(labels, watch.seconds, memory.bytes())
        return labels

    def _cluster(self, graph: Tensor) -> Tensor:
        if len(self.eps) == 1:
            return dbscan(graph, self.eps[0], self.min_samples)
        tight, normal, loose = (dbscan(graph, eps, self.min_samples) for eps in self.eps)
        labels, self.independence_limit = reliable_labels(tight, normal, loose, self.independence_limit)
        return labels


def reliable_labels(
    tight: Tensor, normal: Tensor, loose: Tensor, independence_limit: float | None = None
) -> tuple[Tensor, float]:
    """Keep of the ``normal`` clusters what a tighter and a looser clustering agree with.

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
    """Drop clusters of fewer than two images and close the gaps in the numbers."""
    sizes = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    stays = sizes >= 2
    numbers = torch.where(stays, stays.cumsum(0) - 1, -1)
    return torch.where(labels >= 0, numbers[labels.clamp(min=0)], -1)


def _describe(labels: Tensor, seconds: dict[str, float], peak_memory: int) -> ClusteringStatistics:
    sizes = torch.bincount(labels[labels >= 0])
    return ClusteringStatistics(
        num_clusters=len(sizes),
        num_outliers=int((labels < 0).sum()),
        largest_cluster=int(sizes.max()) if len(sizes) else 0,
        seconds=seconds,
        peak_memory=peak_memory,
    )
