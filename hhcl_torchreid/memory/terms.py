"""The terms of a memory's loss: each owns a block of rows, how they start, its logits and its update."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clustering.centroids import cluster_members
from .camera import given_cameras

__all__ = [
    "MEMORY_MODES",
    "Batch",
    "CentroidMeans",
    "Centroids",
    "HardPrototypes",
    "HardestInstances",
    "Harmonic",
    "MemoryTerm",
    "true_cluster",
]


class Batch:
    """A batch as the update of a term sees it: B samples, without gradients, and what the terms ask of them.

    Args:
        features: (B, D) unit rows.
        labels: (B,) int64 in [0, C), on any device.
        cameras: (B,) int64, on any device; None where no term needs them.

    Attributes:
        features (Tensor): (B, D) float32.
        labels (Tensor): (B,) int64, on the features' device.
    """

    def __init__(self, features: Tensor, labels: Tensor, cameras: Tensor | None = None) -> None:
        self.features = features.detach().float()
        self.labels = labels.to(features.device, non_blocking=True)
        self._labels_as_given, self._cameras_as_given = labels, cameras

    @cached_property
    def cameras(self) -> Tensor:
        """(B,) int64, on the features' device; an InputError where none were given."""
        cameras = given_cameras(self._cameras_as_given, "this memory mode")
        return cameras.to(self.features.device, non_blocking=True)

    @cached_property
    def same_cluster(self) -> Tensor:
        """(B, B) bool: which samples share a cluster."""
        return self.labels[:, None] == self.labels[None, :]

    @cached_property
    def positions(self) -> Tensor:
        """(B,) int64: how many samples of its own cluster stand before each sample."""
        return self.same_cluster.tril(diagonal=-1).sum(dim=1)

    def largest_count(self) -> int:
        """The largest number of samples of one cluster; waits for the GPU if the labels were given there."""
        return int(torch.bincount(self._labels_as_given).max())

    def means(self, same: Tensor) -> Tensor:
        """(B, D): for each sample, the mean of the samples that its row of ``same``, (B, B) bool, marks."""
        weights = same.float()
        return (weights @ self.features) / weights.sum(dim=1, keepdim=True)

    def lowest(self, scores: Tensor) -> Tensor:
        """(B, D): for each sample, the first sample of its cluster with the lowest of the (B,) ``scores``."""
        by_sample = scores.expand_as(self.same_cluster)
        lowest = by_sample.masked_fill(~self.same_cluster, torch.inf).amin(dim=1, keepdim=True)
        return self.features[_first_true(self.same_cluster & (by_sample == lowest))]

    def at(self, positions: Tensor) -> Tensor:
        """(B, D): for each sample, the one at a position, (B,) int64, of its cluster; there must be one."""
        return self.features[_first_true(self.same_cluster & (self.positions[None, :] == positions[:, None]))]


class MemoryTerm(ABC):
    """One term of the loss: a cross-entropy over the clusters, against a block of memory rows that it owns.

    A term of one's own writes :meth:`update`, and :meth:`start` or :meth:`logits` where they differ from these; a row
    of :data:`MEMORY_MODES` makes it known. No method may wait for the GPU, and all of them compute in float32.

    Args:
        num_clusters: C.
        momentum: what a row keeps of itself in an update.
        num_instances: images per cluster in a batch.

    Attributes:
        rows_per_cluster (int): the block has ``rows_per_cluster * C`` rows; row k * C + c is the k-th of cluster c.
        weight_argument (str): the argument of ``HybridMemory`` that overrides the term's weight; empty for none.
        needs_cameras (bool): whether the update looks at cameras.
    """

    rows_per_cluster: int = 1
    weight_argument: str = ""
    needs_cameras: bool = False

    def __init__(self, num_clusters: int, momentum: float, num_instances: int) -> None:
        self.num_clusters = num_clusters
        self.momentum = momentum
        self.num_instances = num_instances

    def start(self, centroids: Tensor, features: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Gives the rows that an epoch starts with; the centroids, if a term has no other.

        Args:
            centroids: (C, D) float32 unit rows.
            features: (N, D) float32 unit rows of the training set.
            labels: (N,) int64 in [-1, C), on any device.
            generator: CPU generator for what is random.

        Returns:
            (rows_per_cluster * C, D) float32 unit rows.
        """
        return centroids

    def logits(self, similarities: Tensor, labels: Tensor) -> Tensor:
        """Turns similarities with the term's rows into one number per cluster, which the temperature then divides.

        Args:
            similarities: (B, rows_per_cluster * C) float32.
            labels: (B,) int64, the true clusters.

        Returns:
            (B, C) float32.
        """
        return similarities

    @abstractmethod
    def update(self, rows: Tensor, batch: Batch) -> None:
        """Changes the term's rows in place after a step.

        Args:
            rows: (rows_per_cluster * C, D) float32 unit rows.
            batch: what the loss saw.
        """

    def move(self, rows: Tensor, labels: Tensor, values: Tensor) -> None:
        """Moves rows by momentum, each towards its value. A label that stands twice must have the same value twice."""
        rows[labels] = self.moved(rows[labels], values)

    def moved(self, current: Tensor, values: Tensor) -> Tensor:
        """Gives normalise(m * current + (1 - m) * values)."""
        return F.normalize(self.momentum * current + (1 - self.momentum) * values)


class Centroids(MemoryTerm):
    """Centroids, updated with each sample in batch order (the authors' CM)."""

    weight_argument = "centroid_weight"

    def update(self, rows: Tensor, batch: Batch) -> None:
        """Round t updates every cluster of the batch with its t-th sample, where it has one."""
        for position in range(batch.largest_count()):
            has_sample = batch.same_cluster & (batch.positions == position)
            updated = has_sample.any(dim=1, keepdim=True)
            samples = batch.features[has_sample.int().argmax(dim=1)]
            current = rows[batch.labels]
            rows[batch.labels] = torch.where(updated, self.moved(current, samples), current)


class CentroidMeans(MemoryTerm):
    """Centroids, updated with the mean of the cluster's samples in the batch."""

    weight_argument = "centroid_weight"

    def update(self, rows: Tensor, batch: Batch) -> None:
        """Moves every cluster of the batch once."""
        self.move(rows, batch.labels, batch.means(batch.same_cluster))


class HardPrototypes(MemoryTerm):
    """Prototypes, updated with the sample of the cluster that is least similar to its prototype."""

    weight_argument = "hard_weight"

    def update(self, rows: Tensor, batch: Batch) -> None:
        """Moves every cluster of the batch once."""
        similarities = (batch.features * rows[batch.labels]).sum(dim=1)
        self.move(rows, batch.labels, batch.lowest(similarities))


class HardestInstances(MemoryTerm):
    """Instances: the true cluster's logit is its least similar one, that of another cluster its most similar one.

    They start as random images of the cluster, and its samples in the batch replace them.
    """

    weight_argument = "hard_weight"

    def __init__(self, num_clusters: int, momentum: float, num_instances: int) -> None:
        super().__init__(num_clusters, momentum, num_instances)
        self.rows_per_cluster = num_instances

    def start(self, centroids: Tensor, features: Tensor, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws members of each cluster, with replacement, on the CPU."""
        members, counts = cluster_members(labels, self.num_clusters)
        starts = counts.cumsum(0) - counts
        shape = self.num_instances, self.num_clusters
        uniform = torch.rand(*shape, generator=generator, dtype=torch.float64).to(labels.device)
        return F.normalize(features[members[starts + (uniform * counts).long()].flatten()])

    def logits(self, similarities: Tensor, labels: Tensor) -> Tensor:
        """Picks the hardest instance of every cluster."""
        by_instance = similarities.view(len(labels), self.num_instances, self.num_clusters)
        is_true = true_cluster(labels, self.num_clusters)
        return torch.where(is_true, by_instance.min(dim=1).values, by_instance.max(dim=1).values)

    def update(self, rows: Tensor, batch: Batch) -> None:
        """Puts the samples of a cluster into its rows, in batch order; those past the last row are left out."""
        slots = batch.positions.clamp(max=self.num_instances - 1)
        rows[slots * self.num_clusters + batch.labels] = batch.at(slots)


class Harmonic(MemoryTerm):
    """Prototypes, updated with a sample that is like its camera's others and unlike its prototype (3C's CHD).

    With the unit mean m of the cluster's samples at a sample's camera and the prototype z, s = x·m + 1 and
    d = 1 - x·z, it is the sample of the cluster with the largest s d / (s + d).
    """

    weight_argument = "hard_weight"
    needs_cameras = True

    def update(self, rows: Tensor, batch: Batch) -> None:
        """Moves every cluster of the batch once."""
        same_camera = batch.cameras[:, None] == batch.cameras[None, :]
        of_camera = F.normalize(batch.means(batch.same_cluster & same_camera))
        likeness = (batch.features * of_camera).sum(dim=1) + 1
        distance = 1 - (batch.features * rows[batch.labels]).sum(dim=1)
        # A sample opposite to its camera's mean and equal to its prototype has neither.
        harmonic = likeness * distance / (likeness + distance).clamp(min=torch.finfo(torch.float32).eps)
        self.move(rows, batch.labels, batch.lowest(-harmonic))


MEMORY_MODES: dict[str, list[tuple[float, Callable[[int, float, int], MemoryTerm]]]] = {
    "centroid": [(1.0, Centroids)],
    "hard": [(1.0, HardPrototypes)],
    "hybrid": [(0.5, HardPrototypes), (0.25, CentroidMeans)],
    "hybrid_instances": [(0.5, CentroidMeans), (0.5, HardestInstances)],
    "harmonic": [(1.0, Harmonic)],
}
"""Mode -> the terms of its loss with their weights, in the order of their rows. Add a mode of your own to it."""


def true_cluster(labels: Tensor, num_clusters: int) -> Tensor:
    """(B,) labels -> (B, C) bool, without the check of ``one_hot`` that looks at their values and waits for the GPU."""
    return labels[:, None] == torch.arange(num_clusters, device=labels.device)


def _first_true(mask: Tensor) -> Tensor:
    """(B, B) bool -> (B,) column of the first true entry of each row, ties or not; the last one if none is true."""
    last = mask.shape[1] - 1
    columns = torch.arange(last + 1, device=mask.device).expand_as(mask)
    return columns.masked_fill(~mask, last).amin(dim=1)
