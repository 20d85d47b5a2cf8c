"""Exact search: the gallery's images in the order of their similarity to a query."""

import os
from collections.abc import Hashable, Sequence
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


def rank(
    queries: Sequence[Path],
    features: Tensor,
    gallery: FolderFeatures,
    topk: int,
    tracks: Sequence[Hashable] | None = None,
) -> list[Ranking]:
    """Finds the most similar images of a gallery for every query; a query's own file is not its match.

    Args:
        queries: paths of the Q query images.
        features: (Q, D) float32 unit rows, theirs, on the device of the gallery's.
        gallery: where to search.
        topk: matches per query; fewer where the gallery is smaller.
        tracks: the track of each image of the gallery, None where it has none. A track is found once, by its most
            similar image, and not by a query that is of it.

    Returns:
        A ranking per query, in their order.
    """
    real_paths = [os.path.realpath(path) for path in gallery.paths]
    tracks = tracks or [None] * len(real_paths)
    own_tracks = dict(zip(real_paths, tracks, strict=True))
    rankings: list[Ranking] = []
    wanted = topk + 1  # one more than asked for, because the query itself may be among them
    while len(rankings) < len(queries):
        rest = slice(len(rankings), len(queries))
        indices, similarities = nearest(features[rest], gallery.features, wanted)
        for query, row, values in zip(queries[rest], indices.tolist(), similarities.tolist(), strict=True):
            own = os.path.realpath(query)
            seen = {own_tracks.get(own)} - {None}
            found = []
            for index, value in zip(row, values, strict=True):
                if real_paths[index] != own and tracks[index] not in seen:
                    found.append(Match(gallery.paths[index], value))
                    seen |= {tracks[index]} - {None}
            if len(found) < topk and len(row) < len(real_paths):
                wanted *= 4  # most of them were of few tracks
                break
            rankings.append(Ranking(query, found[:topk]))
    return rankings
