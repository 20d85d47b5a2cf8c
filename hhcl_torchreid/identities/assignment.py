"""From features and their clusters to identities: how sure each image is, and which other identity it could be."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..clustering.centroids import cluster_centroids
from ..clustering.neighbors import check_features
from ..errors import InputError

__all__ = ["OUTLIER", "Identities", "compare_with_centroids"]

OUTLIER = -1
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Identities:
    """The identity of every image, and how it compares with the identities around it. All tensors on the CPU."""

    identity: Tensor
    """(N,) int64, 0 or more; -1 marks an outlier. A number that nobody has any more is not given again."""
    similarity: Tensor
    """(N,) float32 cosine similarity to the centroid of the image's identity; NaN for outliers."""
    runner_up: Tensor
    """(N,) int64, of all other identities the most similar, for outliers of all identities; -1 where there is none."""
    runner_up_similarity: Tensor
    """(N,) float32 cosine similarity to the centroid of the runner-up; NaN where there is none."""

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def num_identities(self) -> int:
        """Number of identities."""
        return len(self.numbered[0])

    @property
    def numbered(self) -> tuple[Tensor, Tensor]:
        """(C,) int64, the numbers of the C identities, and (N,) int64, the place of each image's among them, or -1."""
        return without_gaps(self.identity)

    @property
    def num_outliers(self) -> int:
        """Number of images without an identity."""
        return int((self.identity == OUTLIER).sum())

    @property
    def largest(self) -> int:
        """Images of the largest identity."""
        return int(torch.bincount(self.identity[self.identity != OUTLIER], minlength=1).max())


@torch.no_grad()
def compare_with_centroids(features: Tensor, labels: Tensor) -> Identities:
    """Compares every image with the centroids of the clusters, each the mean of its images brought to unit length.

    Args:
        features: ``(N, D)`` floating-point unit rows.
        labels: ``(N,)`` int64 clusters, -1 for outliers, as :class:`~hhcl_torchreid.PseudoLabeler` makes.

    Returns:
        Identities, numbered as the labels are.

    Raises:
        InputError: the features are not finite unit rows, or there is not one label for each.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> identities = compare_with_centroids(features, torch.tensor([0, 0, 1, -1]))
        >>> identities.similarity.tolist(), identities.runner_up.tolist()
        ([1.0, 1.0, 1.0, nan], [1, 1, 0, 1])
    """
    features = check_features(features)
    if labels.shape != features.shape[:1]:
        raise InputError(f"{len(features)} features have {len(labels)} labels: give one label for each")
    labels = labels.to(features.device)
    numbers, places = without_gaps(labels)
    own = torch.full(labels.shape, torch.nan, device=features.device)
    other, other_similarity = torch.full_like(labels, OUTLIER), torch.full_like(own, torch.nan)
    if len(numbers):
        centroids = cluster_centroids(features, places, len(numbers))
        for rows in torch.arange(len(features), device=features.device).split(ROWS_AT_ONCE):
            own[rows], other[rows], other_similarity[rows] = _own_and_next(features[rows] @ centroids.T, places[rows])
        other = torch.where(other < 0, OUTLIER, numbers[other])
    return Identities(labels.cpu(), own.cpu(), other.cpu(), other_similarity.cpu())


def without_gaps(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Gives (C,) the numbers that are used, ascending, and (N,) the place of each label among them; -1 stays -1."""
    numbers = labels[labels != OUTLIER].unique()
    return numbers, torch.where(labels == OUTLIER, OUTLIER, torch.searchsorted(numbers, labels))


def _own_and_next(similarities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity to the own identity, the most similar other one and its similarity; ``similarities`` is consumed."""
    is_clustered = labels != OUTLIER
    columns = labels.clamp(min=0).unsqueeze(1)
    own = torch.where(is_clustered, similarities.gather(1, columns).squeeze(1), torch.nan)
    rows = is_clustered.nonzero().squeeze(1)
    similarities[rows, labels[rows]] = -torch.inf
    value, other = similarities.max(dim=1)
    exists = value > -torch.inf
    return own, torch.where(exists, other, OUTLIER), torch.where(exists, value, torch.nan)
