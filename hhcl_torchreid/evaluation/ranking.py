"""torchreid's measures of a ranking, for many queries at once."""

from collections import Counter

import numpy as np
import torchreid
from numpy.typing import NDArray

from ..log import late_progress_bar

__all__ = ["can_be_found", "evaluate_rank"]

MAX_RANK = 50

MEMORY_BUDGET = 1 << 30
# They are sorted into int64 positions, whose identities and cameras are looked up and compared.
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

    As PyPI has it, without its Cython extension, torchreid walks through every gallery image of every query in Python:
    minutes for Market-1501. CUHK03's protocol, whose sets are small, is still torchreid's own.

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
    labels = (query_identities, gallery_identities, query_cameras, gallery_cameras)
    if use_metric_cuhk03:
        return _by_torchreid(distances, *labels, limit)
    num_queries, num_gallery = distances.shape
    rows = max(1, MEMORY_BUDGET // (BYTES_PER_DISTANCE * num_gallery))
    blocks = [slice(start, start + rows) for start in range(0, num_queries, rows)]
    parts = [
        _hits(distances[block], query_identities[block], gallery_identities, query_cameras[block], gallery_cameras)
        for block in late_progress_bar(blocks, desc="measure rankings", unit="batch")
    ]
    first_hits, precisions = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(precisions):
        raise AssertionError("Error: all query identities do not appear in gallery")  # as torchreid says it
    curve = np.bincount(first_hits, minlength=limit + 1)[1 : limit + 1].cumsum() / len(first_hits)
    return curve.astype(np.float32), float(precisions.mean())


def _hits(
    distances: NDArray[np.float32],
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The place of the first hit, from 1, and the average precision, of the queries that can be found."""
    order = distances.argsort(axis=1)
    is_same = gallery_identities[order] == query_identities[:, None]
    at_own_camera = gallery_cameras[order] == query_cameras[:, None]
    places = (~is_same | ~at_own_camera).cumsum(axis=1, dtype=np.int32)
    queries, columns = (is_same & ~at_own_camera).nonzero()
    places = places[queries, columns]
    found, starts, counts = np.unique(queries, return_index=True, return_counts=True)
    ordinals = np.arange(len(queries)) - np.repeat(starts, counts) + 1
    sums = np.add.reduceat(ordinals / places, starts) if len(found) else np.empty(0)
    return places[starts].astype(np.int64), sums / counts


def _by_torchreid(
    distances: NDArray[np.float32],
    query_identities: NDArray[np.int64],
    gallery_identities: NDArray[np.int64],
    query_cameras: NDArray[np.int64],
    gallery_cameras: NDArray[np.int64],
    limit: int,
) -> tuple[NDArray[np.float32], float]:
    """CUHK03's measures."""
    if _fewest_candidates(query_identities, gallery_identities, query_cameras, gallery_cameras) < limit:
        distances, gallery_identities, gallery_cameras = _with_strangers(distances, gallery_identities, gallery_cameras)
    curve, mean_precision = torchreid.metrics.evaluate_rank(
        distances, query_identities, gallery_identities, query_cameras, gallery_cameras, use_metric_cuhk03=True
    )
    return curve[:limit].astype(np.float32), float(mean_precision)


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
