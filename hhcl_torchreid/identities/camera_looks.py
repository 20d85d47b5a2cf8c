"""What the images of a camera have in common, whoever is on them: features can be compared without it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clustering.centroids import cluster_sums
from .assignment import OUTLIER

__all__ = ["camera_looks", "without_looks"]

FEW_PEOPLE = 2
"""Identities of a camera that count as much as the guess that it looks as all cameras do."""


def camera_looks(features: Tensor, cameras: Tensor, places: Tensor, num_cameras: int) -> Tensor:
    """Gives the mean feature of each camera; nearer to that of all images, the fewer identities it has seen.

    Args:
        features: ``(N, D)`` unit rows.
        cameras: ``(N,)`` int64 below ``num_cameras``.
        places: ``(N,)`` int64 identities, -1 for outliers.
        num_cameras: K; a camera without an image looks as all do.

    Returns:
        ``(K, D)`` float32.
    """
    cameras, places = cameras.to(features.device), places.to(features.device)
    sums, counts = cluster_sums(features, cameras, num_cameras)
    seen = torch.stack([cameras, places])[:, places != OUTLIER].unique(dim=1)[0]
    people = torch.bincount(seen, minlength=num_cameras)[:, None]
    everywhere = features.mean(0)
    own = sums / counts.clamp(min=1)[:, None]
    return torch.lerp(everywhere.expand_as(sums), own, people / (people + FEW_PEOPLE))


def without_looks(features: Tensor, looks: Tensor, cameras: Tensor) -> Tensor:
    """Takes out of ``(N, D)`` unit rows what ``(K, D)`` looks say of their ``(N,)`` cameras; gives unit rows."""
    return F.normalize(features - looks[cameras.to(features.device)])
