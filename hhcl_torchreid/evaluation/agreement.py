"""How far pseudo labels agree with the true identities, where those are known, and with the cameras."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["agreement", "camera_agreement"]


def agreement(labels: Tensor, identities: NDArray[np.int64]) -> dict[str, float]:
    """Compares pseudo labels with the truth, of the images that have one.

    Args:
        labels: (N,) int64 on the CPU; an outlier (-1) counts as a cluster of its own.
        identities: (N,) int64; below 0 where not known.

    Returns:
        ``ari`` and ``nmi``; nothing where no identity is known.
    """
    singles = np.where(labels < 0, np.arange(len(labels)) + len(labels), labels)
    known = identities >= 0
    if not known.any():
        return {}
    # It takes a second, for which what knows no identities need not wait.
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "ari": float(adjusted_rand_score(identities[known], singles[known])),
        "nmi": float(normalized_mutual_info_score(identities[known], singles[known])),
    }


def camera_agreement(labels: Tensor, cameras: Tensor) -> dict[str, float]:
    """Looks for clusters that one camera alone fills, the sign of a model that tells cameras apart and not people.

    Args:
        labels: (N,) int64, -1 for outliers, which are in no cluster.
        cameras: (N,) int64 on the same device; -1, unknown, counts as a camera.

    Returns:
        ``one_camera``, their share of the clusters; nothing where all images are of one camera, or in no cluster.
    """
    clustered = labels >= 0
    if not clustered.any() or (cameras == cameras[0]).all():
        return {}
    seen_by = torch.unique(torch.stack([labels, cameras])[:, clustered], dim=1)
    num_cameras = torch.unique_consecutive(seen_by[0], return_counts=True)[1]
    return {"one_camera": float((num_cameras == 1).double().mean())}
