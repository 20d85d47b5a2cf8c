"""torchreid's measures of a ranking, some queries at a time."""

from collections import Counter

import numpy as np
import torchreid
from numpy.typing import NDArray

__all__ = ["can_be_found", "evaluate_rank"]

MAX_RANK = 50

MEMORY_BUDGET = 1 << 30
# torchreid sorts all distances into int64 positions, looks up their identities and compares them.
BYTES_PER_DISTANCE = 24


def evaluate_rank(
    distances: NDArray[np.float32],
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
    use_metric_cuhk03: bool = False,
) -> tuple[NDArray[np.float32], float]:
    """As ``torchreid.metrics.evaluate_rank``, in memory that does not grow with the number of queries.

    Args:
        distances: ``(Q, G)`` float32.
        query_identities: ``(Q,)`` int64.
        gallery_identities: ``(G,)`` int64.
        query_cameras: ``(Q,)`` int64.
        gallery_cameras: ``(G,)`` int64.
        use_metric_cuhk03: draw one gallery image per identity, as CUHK03's protocol does.

    Returns:
        The CMC curve, its first 50 ranks at most, and the mean average precision; of the queries that can be found,
        see :func:`can_be_found`.

    Raises:
        AssertionError: there is none.
    """
    limit = min(MAX_RANK, distances.shape[1])
    if _fewest_candidates(query_identities, gallery_identities, query_cameras, gallery_cameras) < limit:
        distances, gallery_identities, gallery_cameras = _with_strangers(distances, gallery_identities, gallery_cameras)
    num_queries, num_gallery = distances.shape
    rows = max(1, MEMORY_BUDGET // (BYTES_PER_DISTANCE * num_gallery))
    blocks = [slice(start, start + rows) for start in range(0, num_queries, rows)]
    has_match = can_be_found(query_identities, gallery_identities, query_cameras, gallery_cameras)
    # Torchreid averages over the queries that can be found, and refuses where there are none of them.
    counted = [block for block in blocks if has_match[block].any()] or blocks[:1]
    weights = [max(1, int(has_match[block].sum())) for block in counted]
    curves, precisions = zip(
        *(
            torchreid.metrics.evaluate_rank(
                distances[block],
                query_identities[block],
                gallery_identities,
                query_cameras[block],
                gallery_cameras,
                use_metric_cuhk03=use_metric_cuhk03,
            )
            for block in counted
        ),
        strict=True,
    )
    curve = np.average(curves, axis=0, weights=weights)[:limit].astype(np.float32)
    return curve, float(np.average(precisions, weights=weights))


def _fewest_candidates(
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
) -> int:
    """The gallery images that count for the query with the fewest of them."""
    not_counted = Counter(zip(gallery_identities.tolist(), gallery_cameras.tolist(), strict=True))
    queries = zip(query_identities.tolist(), query_cameras.tolist(), strict=True)
    return len(gallery_identities) - max(not_counted[query] for query in queries)


def _with_strangers(
    distances: NDArray[np.float32], identities: NDArray[np.int64], cameras: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """A gallery with nobody's images behind all others: torchreid wants as many candidates for every query."""
    infinite = np.full((len(distances), MAX_RANK), np.inf, distances.dtype)
    strangers = np.full(MAX_RANK, np.iinfo(np.int64).min)
    return (
        np.concatenate([distances, infinite], axis=1),
        np.concatenate([identities, strangers]),
        np.concatenate([cameras, strangers]),
    )


def can_be_found(
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(Q,) bool: whether the gallery shows a query's person at another camera than the query's."""
    cameras: dict[int, set[int]] = {}
    for identity, camera in zip(gallery_identities.tolist(), gallery_cameras.tolist(), strict=True):
        cameras.setdefault(identity, set()).add(camera)
    queries = zip(query_identities.tolist(), query_cameras.tolist(), strict=True)
    return np.array([bool(cameras.get(identity, set()) - {camera}) for identity, camera in queries])
