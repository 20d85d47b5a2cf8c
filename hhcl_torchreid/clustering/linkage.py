"""Average linkage on a sparse graph of similarities, in which some points may never come together."""

import heapq
from collections.abc import Iterable

import numpy as np
from scipy import sparse

__all__ = ["average_linkage"]


def average_linkage(similarities: sparse.csr_matrix, apart: Iterable[tuple[int, int]]) -> np.ndarray:
    """Joins the two most similar clusters again and again, until none that may be joined have any similarity.

    The similarity of two clusters is the mean over all pairs of their points; pairs that the graph does not store count
    0. Two clusters are never joined if a point of one must stay apart from a point of the other. Memory and time grow
    with the pairs stored, not with the square of the points.

    Args:
        similarities: ``(N, N)``, symmetric, at least 0; the diagonal is not looked at.
        apart: pairs of points.

    Returns:
        ``(N,)`` int64 clusters, numbered by their lowest point.

    References:
        Sokal, Michener: A statistical method for evaluating systematic relationships, 1958. The cannot-links are those
        of Davidson, Ravi: Agglomerative Hierarchical Clustering with Constraints, PKDD 2005.

    Example:
        >>> chain = sparse.csr_matrix(np.array([[0, 0.9, 0.5], [0.9, 0, 0.8], [0.5, 0.8, 0]]))
        >>> average_linkage(chain, []).tolist(), average_linkage(chain, [(0, 1)]).tolist()
        ([0, 0, 0], [0, 1, 1])
    """
    num_points = similarities.shape[0]
    forbidden: list[set[int]] = [set() for _ in range(num_points)]
    for one, other in apart:
        forbidden[one].add(other)
        forbidden[other].add(one)
    pairs = sparse.triu(similarities, k=1).tocoo()
    sums: list[dict[int, float]] = [{} for _ in range(num_points)]
    for one, other, value in zip(pairs.row.tolist(), pairs.col.tolist(), pairs.data.tolist(), strict=True):
        if value > 0 and other not in forbidden[one]:
            sums[one][other] = sums[other][one] = value
    members = [[point] for point in range(num_points)]
    waiting = [(-value, one, other) for one, row in enumerate(sums) for other, value in row.items() if one < other]
    heapq.heapify(waiting)
    while waiting:
        value, one, other = heapq.heappop(waiting)
        # A cluster that has grown since stands in the queue again, with its new similarities.
        if other not in sums[one] or -value != sums[one][other] / (len(members[one]) * len(members[other])):
            continue
        if len(members[one]) + len(sums[one]) < len(members[other]) + len(sums[other]):
            one, other = other, one
        _join(one, other, sums, forbidden)
        members[one] += members[other]
        members[other] = []
        for near, total in sums[one].items():
            mean = total / (len(members[one]) * len(members[near]))
            heapq.heappush(waiting, (-mean, min(one, near), max(one, near)))
    return _numbered(members)


def _join(one: int, other: int, sums: list[dict[int, float]], forbidden: list[set[int]]) -> None:
    """Makes ``other`` a part of ``one``: similarities add up, and what is forbidden to either is to both."""
    for near, value in sums[other].items():
        del sums[near][other]
        if near != one:
            sums[one][near] = sums[near][one] = sums[one].get(near, 0.0) + value
    sums[other].clear()
    for far in forbidden[other]:
        forbidden[far].discard(other)
        forbidden[far].add(one)
        if sums[one].pop(far, None) is not None:
            del sums[far][one]
    forbidden[one] |= forbidden[other]
    for far in forbidden[one] & sums[one].keys():
        del sums[one][far], sums[far][one]


def _numbered(members: list[list[int]]) -> np.ndarray:
    labels = np.empty(len(members), np.int64)
    clusters = sorted((cluster for cluster in members if cluster), key=min)
    for number, cluster in enumerate(clusters):
        labels[cluster] = number
    return labels
