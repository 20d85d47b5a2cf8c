"""Exact search: the gallery's images in the order of their similarity to a query."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..clustering.neighbors import nearest
from ..features.folder import FolderFeatures

__all__ = ["Match", "Ranking", "rank"]


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


def rank(queries: Sequence[Path], features: Tensor, gallery: FolderFeatures, topk: int) -> list[Ranking]:
    """Finds the most similar images of a gallery for every query; a query's own file is not its match.

    Args:
        queries: paths of the Q query images.
        features: (Q, D) float32 unit rows, theirs, on the device of the gallery's.
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
