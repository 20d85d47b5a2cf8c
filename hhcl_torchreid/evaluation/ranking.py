"""torchreid's measures of a ranking, some queries at a time."""

import numpy as np
import torchreid
from numpy.typing import NDArray

__all__ = ["evaluate_rank"]

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
        The CMC curve, its first 50 ranks at most, and the mean average precision.

    Raises:
        AssertionError: no query has an image of its person at another camera in the gallery.
    """
    num_queries, num_gallery = distances.shape
    rows = max(1, MEMORY_BUDGET // (BYTES_PER_DISTANCE * num_gallery))
    blocks = [slice(start, start + rows) for start in range(0, num_queries, rows)]
    has_match = _has_match(query_identities, gallery_identities, query_cameras, gallery_cameras)
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
    return np.average(curves, axis=0, weights=weights).astype(np.float32), float(
        np.average(precisions, weights=weights)
    )


def _has_match(
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether the gallery shows a query's person at another camera."""
    cameras: dict[int, set[int]] = {}
    for identity, camera in zip(gallery_identities.tolist(), gallery_cameras.tolist(), strict=True):
        cameras.setdefault(identity, set()).add(camera)
    queries = zip(query_identities.tolist(), query_cameras.tolist(), strict=True)
    return np.array([bool(cameras.get(identity, set()) - {camera}) for identity, camera in queries])
