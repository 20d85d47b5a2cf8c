"""The memory of cluster centroids and hard instances, and the contrastive loss against it (sections 3.3 and 4.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["MEMORY_MODES", "HybridMemory", "cluster_centroids"]

# mode -> (hard_weight, centroid_weight); None where the mode has no such term
MEMORY_MODES: dict[str, tuple[float | None, float | None]] = {
    "centroid": (None, 1.0),
    "hard": (1.0, None),
    "hybrid": (0.5, 0.25),
    "hybrid_instances": (0.5, 0.5),
}


class HybridMemory(nn.Module):
    r"""Contrasts a batch with one memory row (or more) per cluster, and moves those rows towards the batch.

    All rows are unit vectors. With :math:`\mathrm{update}(r, v) = \mathrm{normalise}(m\,r + (1 - m)\,v)`, the modes are

    - ``"centroid"`` (the authors' CM): C centroids, updated with each sample in batch order.
    - ``"hard"`` (CMhard): C prototypes, updated with the sample of the cluster that is least similar to its prototype.
    - ``"hybrid"`` (CMhybrid): C hard prototypes, then C centroids; the centroids are updated with the batch mean of the
      cluster. Loss: ``hard_weight * CE(hard) + centroid_weight * CE(centroid)``.
    - ``"hybrid_instances"`` (CMhybrid_v2, the paper's section 4.3): C centroids, then ``num_instances`` blocks of C
      instance rows. The instances of a cluster are replaced by its samples in the batch; the logit of the true cluster
      is its least similar instance, that of every other cluster its most similar one. Loss: ``hard_weight *
      CE(instances) + centroid_weight * CE(centroid)``.

    Everything is computed in float32, under autocast too. The work is a few matrix products: nothing here waits for the
    GPU, but for ``update`` in mode ``"centroid"`` when it is given labels that live there (hand it labels on the CPU).

    Reference:
        Hu, Zhu, He. Hard-sample Guided Hybrid Contrast Learning for Unsupervised Person Re-Identification. IC-NIDC
        2021. arXiv 2109.12333.

    Args:
        num_clusters (int): number of clusters, C.
        num_features (int): length of a feature vector, D.
        mode (str): one of the four above.
        temperature (float): divides the similarities.
        momentum (float): m, what a row keeps of itself in an update, in [0, 1].
        num_instances (int): instance rows per cluster (mode ``"hybrid_instances"`` only).
        hard_weight (float, optional): weight of the hard term. Default: 1 for ``"hard"``, else 0.5.
        centroid_weight (float, optional): weight of the centroid term. Default: 1 for ``"centroid"``, 0.25 for
            ``"hybrid"`` (what the authors' published models were trained with), 0.5 for ``"hybrid_instances"``.
        label_smoothing (float): the authors' smoothing: 1 - ε on the true cluster and ε / k on each of the k = C // 50
            highest logits; with k <= 1, ε / C on all.

    Attributes:
        features (Tensor): the memory, float32, (C, D), (2C, D) or ((1 + num_instances) C, D); zeros until
            :meth:`rebuild` or an assignment fills it.

    Raises:
        InputError: an unknown mode, a number out of range, or a weight for a term that the mode does not have.

    Examples::

        memory = HybridMemory(num_clusters=500, num_features=2048)
        memory.rebuild(features, labels)            # of the whole training set; -1 marks outliers
        loss = memory(batch_features, batch_labels)
        loss.backward()
        memory.update(batch_features, batch_labels)
    """

    features: Tensor

    def __init__(
        self,
        num_clusters: int,
        num_features: int,
        mode: str = "hybrid",
        temperature: float = 0.05,
        momentum: float = 0.1,
        num_instances: int = 16,
        hard_weight: float | None = None,
        centroid_weight: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if num_clusters < 1 or num_features < 1 or num_instances < 1:
            raise InputError(
                f"a memory needs at least one cluster, feature and instance, not {num_clusters} clusters, "
                f"{num_features} features, {num_instances} instances"
            )
        if temperature <= 0 or not 0 <= momentum <= 1 or not 0 <= label_smoothing < 1:
            raise InputError(
                f"temperature must be above 0, momentum in [0, 1] and label_smoothing in [0, 1), not {temperature}, "
                f"{momentum} and {label_smoothing}"
            )
        self.num_clusters = num_clusters
        self.mode = mode
        self.temperature = temperature
        self.momentum = momentum
        self.num_instances = num_instances
        self.label_smoothing = label_smoothing
        self.hard_weight, self.centroid_weight = _resolve_weights(mode, hard_weight, centroid_weight)
        blocks = {"hybrid": 2, "hybrid_instances": 1 + num_instances}.get(mode, 1)
        self.register_buffer("features", torch.zeros(blocks * num_clusters, num_features))

    def extra_repr(self) -> str:
        """Shows the settings in ``print(memory)``."""
        return (
            f"num_clusters={self.num_clusters}, mode={self.mode!r}, temperature={self.temperature}, "
            f"momentum={self.momentum}, hard_weight={self.hard_weight}, centroid_weight={self.centroid_weight}"
        )

    @torch.no_grad()
    def rebuild(self, features: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> None:
        """Fills the memory from the features of a whole training set, at the start of an epoch.

        Args:
            features: (N, D) unit rows.
            labels: (N,) int64 in [-1, C), -1 for outliers, each cluster present.
            generator: CPU generator for the random instances of ``"hybrid_instances"``.
        """
        features = features.float()
        centroids = cluster_centroids(features, labels, self.num_clusters)
        if self.mode == "hybrid":
            rows = centroids.repeat(2, 1)
        elif self.mode == "hybrid_instances":
            instances = _draw_instances(labels, self.num_clusters, self.num_instances, generator)
            rows = torch.cat([centroids, F.normalize(features[instances.flatten()])])
        else:
            rows = centroids
        self.features = rows.to(self.features.device)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Contrastive loss of a batch against the memory, which stays as it is.

        Args:
            features: (B, D) unit rows; gradients flow back to them.
            labels: (B,) int64 in [0, C).

        Returns:
            The mean loss of the batch, a float32 scalar.
        """
        labels = labels.to(features.device, non_blocking=True)
        with torch.autocast(features.device.type, enabled=False):
            similarities = features.float() @ self.features.T
            if self.mode == "hybrid":
                hard, centroid = similarities.chunk(2, dim=1)
                return self._cross_entropy(hard, labels, self.hard_weight) + self._cross_entropy(
                    centroid, labels, self.centroid_weight
                )
            if self.mode == "hybrid_instances":
                centroid, instances = similarities.split([self.num_clusters, self.num_instances * self.num_clusters], 1)
                hardest = self._hardest_instances(instances, labels)
                return self._cross_entropy(hardest, labels, self.hard_weight) + self._cross_entropy(
                    centroid, labels, self.centroid_weight
                )
            return self._cross_entropy(similarities, labels, self.hard_weight + self.centroid_weight)

    def _hardest_instances(self, similarities: Tensor, labels: Tensor) -> Tensor:
        """(B, K * C) similarities with the instance rows -> (B, C): lowest for the true cluster, else highest."""
        by_instance = similarities.view(len(labels), self.num_instances, self.num_clusters)
        return torch.where(self._is_true_cluster(labels), by_instance.min(dim=1).values, by_instance.max(dim=1).values)

    def _is_true_cluster(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, C) bool, without the check of ``one_hot`` that looks at their values."""
        return labels[:, None] == torch.arange(self.num_clusters, device=labels.device)

    def _cross_entropy(self, similarities: Tensor, labels: Tensor, weight: float) -> Tensor:
        logits = similarities / self.temperature
        num_smoothed = self.num_clusters // 50
        if self.label_smoothing == 0 or num_smoothed <= 1:
            return weight * F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        targets = self._is_true_cluster(labels) * (1 - self.label_smoothing)
        highest = logits.detach().topk(num_smoothed, dim=1).indices
        targets = targets.scatter_add(1, highest, torch.full_like(logits, self.label_smoothing / num_smoothed))
        return weight * F.cross_entropy(logits, targets)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Moves the rows of the clusters in a batch towards the batch; call it after the loss.

        Args:
            features: (B, D) unit rows, those that the loss saw.
            labels: (B,) int64 in [0, C). In mode ``"hybrid_instances"`` the first ``num_instances`` samples of a
                cluster are kept where a batch has more.
        """
        features = features.detach().float()
        labels_there = labels.to(features.device, non_blocking=True)
        with torch.autocast(features.device.type, enabled=False):
            same_cluster = labels_there[:, None] == labels_there[None, :]
            if self.mode == "centroid":
                self._update_one_by_one(features, labels_there, same_cluster, rounds=_largest_count(labels))
            elif self.mode == "hard":
                self._update_rows(labels_there, self._hardest_samples(features, labels_there, same_cluster))
            elif self.mode == "hybrid":
                self._update_rows(labels_there, self._hardest_samples(features, labels_there, same_cluster))
                self._update_rows(labels_there + self.num_clusters, _batch_means(features, same_cluster))
            else:
                self._update_rows(labels_there, _batch_means(features, same_cluster))
                self._replace_instances(features, labels_there, same_cluster)

    def _update_rows(self, rows: Tensor, values: Tensor) -> None:
        """Updates each row with its value. A row that stands twice has the same value twice."""
        self.features[rows] = F.normalize(self.momentum * self.features[rows] + (1 - self.momentum) * values)

    def _update_one_by_one(self, features: Tensor, labels: Tensor, same_cluster: Tensor, rounds: int) -> None:
        """Round t updates every cluster of the batch with its t-th sample, where it has one."""
        positions = _positions_within_cluster(same_cluster)
        for position in range(rounds):
            has_sample = same_cluster & (positions == position)
            updated = has_sample.any(dim=1, keepdim=True)
            samples = features[has_sample.int().argmax(dim=1)]
            current = self.features[labels]
            moved = F.normalize(self.momentum * current + (1 - self.momentum) * samples)
            self.features[labels] = torch.where(updated, moved, current)

    def _hardest_samples(self, features: Tensor, labels: Tensor, same_cluster: Tensor) -> Tensor:
        """(B, D): for each sample, the first one of its cluster that is least similar to the cluster's row."""
        similarities = (features * self.features[labels]).sum(dim=1).expand_as(same_cluster)
        lowest = similarities.masked_fill(~same_cluster, torch.inf).amin(dim=1, keepdim=True)
        return features[_first_true(same_cluster & (similarities == lowest))]

    def _replace_instances(self, features: Tensor, labels: Tensor, same_cluster: Tensor) -> None:
        positions = _positions_within_cluster(same_cluster)
        slots = positions.clamp(max=self.num_instances - 1)
        samples = features[_first_true(same_cluster & (positions[None, :] == slots[:, None]))]
        self.features[(slots + 1) * self.num_clusters + labels] = samples


@torch.no_grad()
def cluster_centroids(features: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    """The normalised mean of each cluster's features.

    Args:
        features: (N, D) unit rows.
        labels: (N,) int64 in [-1, C); rows labelled -1 belong to no cluster.
        num_clusters: C; every cluster must have a row.

    Returns:
        (C, D) float32 unit rows. Summed in the order of the rows, so the same on every run.
    """
    members, counts, _ = _group_by_cluster(labels.to(features.device), num_clusters)
    return F.normalize(torch.segment_reduce(features[members].float(), "mean", lengths=counts, axis=0))


def _group_by_cluster(labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the clustered rows sorted by cluster, and each cluster's count and start in them."""
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels[labels >= 0], minlength=num_clusters)
    members = order[(labels < 0).sum() :]
    return members, counts, counts.cumsum(0) - counts


def _draw_instances(labels: Tensor, num_clusters: int, num_instances: int, generator: torch.Generator | None) -> Tensor:
    """(num_instances, C) indices: random members of each cluster, with replacement, drawn on the CPU."""
    members, counts, starts = _group_by_cluster(labels, num_clusters)
    uniform = torch.rand(num_instances, num_clusters, generator=generator, dtype=torch.float64).to(labels.device)
    return members[starts + (uniform * counts).long()]


def _batch_means(features: Tensor, same_cluster: Tensor) -> Tensor:
    """(B, D): for each sample, the mean of its cluster's samples in the batch."""
    weights = same_cluster.float()
    return (weights @ features) / weights.sum(dim=1, keepdim=True)


def _positions_within_cluster(same_cluster: Tensor) -> Tensor:
    """(B,): how many samples of the same cluster stand before each sample of the batch."""
    return same_cluster.tril(diagonal=-1).sum(dim=1)


def _first_true(mask: Tensor) -> Tensor:
    """(B, B) bool -> (B,) column of the first true entry of each row, ties or not; the last one if none is true."""
    last = mask.shape[1] - 1
    columns = torch.arange(last + 1, device=mask.device).expand_as(mask)
    return columns.masked_fill(~mask, last).amin(dim=1)


def _largest_count(labels: Tensor) -> int:
    """The largest number of samples that share a label; waits for the GPU if the labels are there."""
    return int(torch.bincount(labels).max())


def _resolve_weights(mode: str, hard: float | None, centroid: float | None) -> tuple[float, float]:
    if mode not in MEMORY_MODES:
        raise InputError(f"unknown memory mode {mode!r}: choose one of {', '.join(MEMORY_MODES)}")
    resolved = []
    for name, given, own in zip(("hard_weight", "centroid_weight"), (hard, centroid), MEMORY_MODES[mode], strict=True):
        if own is None and given is not None:
            raise InputError(f"memory mode {mode!r} has no term for {name}: leave it out, or use mode 'hybrid'")
        resolved.append(0.0 if own is None else own if given is None else float(given))
    return resolved[0], resolved[1]
