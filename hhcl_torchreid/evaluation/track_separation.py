"""How good a model is, judged by a tracker's tracks: free truth of who is the same and who is not."""

import numpy as np
import torch
from torch import Tensor

from ..clustering.centroids import cluster_centroids
from ..clustering.precision import in_float32
from ..labels import Images
from ..labels.tracks import whole_tracks

__all__ = ["track_separation"]

FEWEST_IMAGES = 4
FEWEST_PAIRS = 10


@torch.no_grad()
@in_float32()
def track_separation(features: Tensor, images: Images) -> float | None:
    """How far the similarity of a track's two halves lies above that of two people seen together.

    Every track of four images or more is halved in time, and a half is the mean of its features. Two halves of a track
    are one person; a half of one track and the other half of another that shares a frame with it are two. The measure
    is the difference of the means of the two kinds of similarity, in units of their spread.

    Args:
        features: (N, D) unit rows.
        images: the N images.

    Returns:
        d', 0 where the two kinds are alike; None where fewer than ten pairs of tracks are seen together.

    References:
        Green, Swets: Signal Detection Theory and Psychophysics, 1966, for the measure d'.
    """
    tracks = whole_tracks(images)
    long = tracks.sizes >= FEWEST_IMAGES
    apart = tracks.apart[long[tracks.apart].all(axis=1)]
    if len(apart) < FEWEST_PAIRS:
        return None
    number = np.where(long, np.cumsum(long) - 1, -1)
    begins = np.cumsum(tracks.sizes) - tracks.sizes
    piece = np.repeat(np.arange(len(tracks)), tracks.sizes)
    is_later = np.arange(len(tracks.order)) - begins[piece] >= tracks.sizes[piece] // 2
    halves = np.empty(len(tracks.order), np.int64)
    halves[tracks.order] = np.where(long[piece], 2 * number[piece] + is_later, -1)
    means = cluster_centroids(features, torch.from_numpy(halves), 2 * int(long.sum()))
    first, second = means[0::2], means[1::2]
    one, other = torch.from_numpy(number[apart]).T.to(features.device)
    same = (first * second).sum(1)
    different = torch.cat([(first[one] * second[other]).sum(1), (first[other] * second[one]).sum(1)])
    spread = ((same.var(correction=0) + different.var(correction=0)) / 2).sqrt()
    return float((same.mean() - different.mean()) / spread.clamp(min=torch.finfo(torch.float32).tiny))
