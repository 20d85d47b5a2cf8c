"""How far pseudo labels agree with the true identities, where those are known."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

__all__ = ["agreement"]


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
    return {
        "ari": float(adjusted_rand_score(identities[known], singles[known])),
        "nmi": float(normalized_mutual_info_score(identities[known], singles[known])),
    }
