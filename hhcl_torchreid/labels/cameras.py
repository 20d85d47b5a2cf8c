"""How much of what tells features apart is the cameras' doing."""

import torch
from torch import Tensor

from ..clustering.centroids import cluster_sums
from .base import UNKNOWN, Images

__all__ = ["UNLIKE_CAMERAS", "camera_share"]

UNLIKE_CAMERAS = 0.03
"""From this share on, statistics of each camera's own gained in what was measured (docs/benchmarks.md, "Cameras")."""


@torch.no_grad()
def camera_share(features: Tensor, images: Images) -> float:
    """Gives the share of the features' variance that lies between the cameras' means.

    What people put there by chance, who are not the same at every camera, is taken off: the share that cameras would
    have which had drawn their tracks, or where none are known their images, at random.

    Args:
        features: (N, D) unit rows.
        images: the N images.

    Returns:
        0 to 1; 0 where there are no two cameras.
    """
    cameras = images.cameras.unique(return_inverse=True)[1]
    num_cameras = int(cameras.max()) + 1
    units = torch.where(images.tracks == UNKNOWN, -1 - torch.arange(len(images)), images.tracks).unique()
    if not 2 <= num_cameras < len(units):
        return 0.0
    sums, counts = cluster_sums(features, cameras, num_cameras)
    # Of unit rows: the squared length of a mean is what is left of 1.
    common = float((sums.sum(0) / len(features)).square().sum())
    between = float((sums.square().sum(1) / counts).sum()) / len(features)
    by_chance = (num_cameras - 1) / (len(units) - 1)
    return max(0.0, (between - common) / max(1 - common, 1e-12) - by_chance)
