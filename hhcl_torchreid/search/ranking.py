"""Exact search: the gallery's images in the order of their similarity to a query."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from .gallery import Gallery

__all__ = ["Match", "Ranking", "nearest", "rank"]


class Match(NamedTuple):
    """An image of the gallery that was found."""

    path: Path
    similarity: float
    """Cosine of the angle between the features, at most 1."""


class Ranking(NamedTuple):
    """What was found for a query."""

    query: Path
    matches: list[Match]
    """The most similar first."""


def rank(queries: Sequence[Path], features: np.ndarray, gallery: Gallery, topk: int) -> list[Ranking]:
    """Finds the most similar images of a gallery for every query; a query's own file is not its match.

    Args:
        queries: paths of the Q query images.
        features: (Q, D) float32 unit rows, theirs.
        gallery: where to search.
        topk: matches per query; fewer where the gallery is smaller.

    Returns:
        A ranking per query, in their order.
    """
    real_paths = [os.path.realpath(path) for path in gallery.paths]
    # One more than asked for, because the query itself may be among them.
    indices, similarities = nearest(features, gallery.features, topk + 1)
    rankings = []
    for query, row, values in zip(queries, indices.tolist(), similarities.tolist(), strict=True):
        own = os.path.realpath(query)
        found = [
            Match(gallery.paths[index], value)
            for index, value in zip(row, values, strict=True)
            if real_paths[index] != own
        ]
        rankings.append(Ranking(query, found[:topk]))
    return rankings


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` most similar gallery rows of every query, by inner product; every pair is compared.

    Args:
        queries: (Q, D) float32.
        gallery: (N, D) float32.
        k: rows wanted; at most N are given.

    Returns:
        (Q, min(k, N)) int64 row numbers and float32 inner products, the most similar first.
    """
    similarities, indices = faiss.knn(queries, gallery, min(k, len(gallery)), metric=faiss.METRIC_INNER_PRODUCT)
    return indices, similarities
