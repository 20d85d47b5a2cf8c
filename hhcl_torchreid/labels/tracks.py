"""Tracks of a tracker: parts that show one person each, which of them cannot be one person, and a label for each.

A track is one person, unless the tracker has taken one for another on the way; two tracks of one camera that share a
frame are two people, unless the tracker has put two boxes around one. What follows learns both from the features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..clustering.centroids import cluster_centroids
from ..clustering.linkage import average_linkage
from ..errors import InputError
from ..log import late_progress_bar
from .base import UNKNOWN, Images

__all__ = ["Pieces", "find_pieces", "joined_share", "label_pieces", "none_can_join", "whole_tracks", "without_gaps"]

ROWS_AT_ONCE = 65536
FRAMES_COMPARED = 16
FEWEST_FRAMES = 2
"""What is left on either side of the place where a track is split."""
FEWEST_PAIRS = 10
LIKE_STRANGERS = 0.1
"""A track is split where its two parts differ as much as all but this share of the people seen together do."""
JOINED, ENOUGH_PAIRS = 0.2, 50
"""Of the pairs of tracks seen together, what a clustering may take for one person and still be trusted, as they are
parted afterwards; and how many pairs it takes to say so."""
SAME_BOX = 0.5
"""Two boxes of one frame are one person's if they overlap by more than this share of their union, in most frames."""


@dataclass(frozen=True)
class Pieces:
    """Tracks, those that hold two people in two parts; an image without a track is a piece by itself."""

    of_images: np.ndarray
    """(N,) int64, the piece of each image, 0, 1, ..."""
    order: np.ndarray
    """(N,) int64, the images, piece by piece, in the order of their frames."""
    sizes: np.ndarray
    """(P,) int64, the images of each piece."""
    apart: np.ndarray
    """(A, 2) int64, pairs of pieces that are two people."""

    def __len__(self) -> int:
        return len(self.sizes)

    def thin(self, most: int) -> np.ndarray:
        """Chooses images spread evenly over each piece, at most so many: (M,) int64, ascending."""
        begins = np.cumsum(self.sizes) - self.sizes
        taken = np.minimum(self.sizes, most)
        piece = np.repeat(np.arange(len(self)), taken)
        turn = np.arange(len(piece)) - np.repeat(np.cumsum(taken) - taken, taken)
        position = ((turn + 0.5) * self.sizes[piece] / taken[piece]).astype(np.int64)
        return np.sort(self.order[begins[piece] + position])


def find_pieces(features: Tensor, images: Images) -> Pieces:
    """Splits the tracks that hold two people, and finds the pairs that cannot be one.

    A track is split at the place where the means of what is before and behind it are least alike, if they are as unlike
    as two people seen together are (but for the ``LIKE_STRANGERS`` most alike of those); where fewer than
    ``FEWEST_PAIRS`` pairs of tracks are seen together nothing is known of that, and no track is split.

    Args:
        features: ``(N, D)`` unit rows.
        images: of the same N images; some have a track.

    Raises:
        InputError: all images are of one track, or all tracks share a frame, so that none can be joined.
    """
    whole = whole_tracks(images)
    if len(whole) == 1:
        raise InputError("all images are of one track, so there is nobody to tell it from: give images of more tracks")
    if none_can_join(whole):
        raise InputError(
            f"each two of the {len(whole)} tracks share a frame, so that no two can be one person: give tracks of more "
            "cameras or times, or set cluster.tracks to off"
        )
    if len(whole.apart) < FEWEST_PAIRS:
        return whole
    centroids = cluster_centroids(features, torch.from_numpy(whole.of_images), len(whole)).cpu()
    first, second = torch.from_numpy(whole.apart).T
    strangers = 1 - (centroids[first] * centroids[second]).sum(1)
    limit = float(torch.quantile(strangers[:: 1 + len(strangers) // 100_000], LIKE_STRANGERS))
    later_parts = _later_parts(features, whole, limit)
    if not later_parts.any():
        return whole
    split = np.unique(2 * whole.of_images + later_parts, return_inverse=True)[1].reshape(-1)
    return _pieces(split, images)


def none_can_join(pieces: Pieces) -> bool:
    """Whether each two pieces are two people, as where there is one alone."""
    return 2 * len(pieces.apart) == len(pieces) * (len(pieces) - 1)


def whole_tracks(images: Images) -> Pieces:
    """Takes tracks as they are, none of them split."""
    tracks = images.tracks.numpy().copy()
    alone = tracks == UNKNOWN
    tracks[alone] = tracks.max() + 1 + np.arange(alone.sum())
    return _pieces(np.unique(tracks, return_inverse=True)[1].reshape(-1), images)


def _pieces(of_images: np.ndarray, images: Images) -> Pieces:
    order = np.lexsort((np.arange(len(of_images)), images.frames.numpy(), of_images))
    return Pieces(of_images, order, np.bincount(of_images), _simultaneous(of_images, images))


def _simultaneous(of_images: np.ndarray, images: Images) -> np.ndarray:
    """(A, 2) pairs of pieces that share a frame of a camera, but for those that are two boxes of one person."""
    cameras, frames = images.cameras.numpy(), images.frames.numpy()
    known = np.flatnonzero((frames != UNKNOWN) & (images.tracks.numpy() != UNKNOWN))
    known = known[np.lexsort((frames[known], cameras[known]))]
    moments = np.unique(np.stack([cameras[known], frames[known]]), axis=1, return_inverse=True)[1].reshape(-1)
    num_pieces = int(of_images.max()) + 1
    pairs, doubled = [np.empty(0, np.int64)], [np.empty(0, bool)]
    for step in range(1, int(np.bincount(moments, minlength=1).max())):
        together = np.flatnonzero(moments[step:] == moments[:-step])
        one, other = known[together], known[together + step]
        low, high = np.sort([of_images[one], of_images[other]], axis=0)
        pairs.append((low * num_pieces + high)[low != high])
        doubled.append(_are_one_box(images.boxes, one, other)[low != high])
    found, pair, shared = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    is_two = np.bincount(pair.reshape(-1), np.concatenate(doubled), len(found)) <= shared / 2
    return np.stack(np.divmod(found[is_two], num_pieces), axis=1)


def _are_one_box(boxes: Tensor | None, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the boxes of two images overlap so much that they show one person; never where they are not known."""
    if boxes is None:
        return np.zeros(len(one), bool)
    first, second = boxes.numpy()[one], boxes.numpy()[other]
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(first[:, 2:], axis=1) + np.prod(second[:, 2:], axis=1) - common
    return common > SAME_BOX * union


def _later_parts(features: Tensor, pieces: Pieces, limit: float) -> np.ndarray:
    """(N,) bool, the images behind the place where their track is split."""
    behind = np.zeros(len(features), bool)
    begins = np.cumsum(pieces.sizes) - pieces.sizes
    long = np.flatnonzero(pieces.sizes >= 2 * FEWEST_FRAMES)
    parts = np.array_split(long, 1 + len(long) // 1024)
    for some in late_progress_bar(parts, desc="split tracks", unit="batch"):
        if not len(some):
            continue
        taken = np.minimum(pieces.sizes[some], FRAMES_COMPARED)
        turns = np.minimum(np.arange(FRAMES_COMPARED), taken[:, None] - 1)
        positions = ((turns + 0.5) * (pieces.sizes[some] / taken)[:, None]).astype(np.int64)
        rows = features[torch.from_numpy(pieces.order[begins[some, None] + positions]).to(features.device)].float()
        unlike, places = (numbers.cpu().numpy() for numbers in _best_place(rows, torch.from_numpy(taken)))
        for number in np.flatnonzero(unlike >= limit):
            piece, place = some[number], places[number]
            # Halfway between the last image compared of one part and the first of the other.
            cut = (positions[number, place - 1] + positions[number, place] + 1) // 2
            behind[pieces.order[begins[piece] + cut : begins[piece] + pieces.sizes[piece]]] = True
    return behind


def _best_place(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Where the means of what is before and behind are least alike.

    Args:
        rows: (B, L, D) unit rows.
        lengths: (B,) how many of the L count.

    Returns:
        (B,) how unlike they are there, and (B,) int64, how many rows are before it.
    """
    lengths = lengths.to(rows.device)
    counts = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    sums = (rows * (counts <= lengths[:, None])[:, :, None]).cumsum(1)
    similarity = torch.nn.functional.cosine_similarity(sums, sums[:, -1:] - sums, dim=2)
    allowed = (counts >= FEWEST_FRAMES) & (counts <= lengths[:, None] - FEWEST_FRAMES)
    unlike, best = (1 - similarity).masked_fill(~allowed, -1.0).max(dim=1)
    return unlike, best + 1


def label_pieces(pieces: Pieces, chosen: np.ndarray, labels: np.ndarray, graph: Tensor) -> np.ndarray:
    """Gives every piece the label that most of its chosen images have, and parts the clusters of two people.

    A cluster in which two pieces must stay apart is taken apart and put together again by average linkage of the mean
    Jaccard similarities between its pieces, which never joins those two.

    Args:
        pieces: of N images.
        chosen: ``(M,)`` int64, the images that were clustered.
        labels: ``(M,)`` int64, their clusters, -1 for outliers.
        graph: ``(M, M)`` sparse CSR Jaccard distances between them.

    Returns:
        ``(N,)`` int64 labels 0, 1, ... without gaps; -1 for the images of a piece of which all chosen are outliers.
    """
    piece = pieces.of_images[chosen]
    of_pieces = _most_frequent(piece, labels, len(pieces))
    one, other = pieces.apart.T
    inside = pieces.apart[(of_pieces[one] == of_pieces[other]) & (of_pieces[one] >= 0)]
    if not len(inside):
        return without_gaps(of_pieces[pieces.of_images])
    next_label = int(labels.max(initial=-1)) + 1
    broken, num_inside = np.unique(of_pieces[inside[:, 0]], return_counts=True)
    inside = inside[of_pieces[inside[:, 0]].argsort(kind="stable")]
    # Sorted by cluster, so that each broken one is a block of rows and columns.
    members = np.flatnonzero(np.isin(of_pieces, broken))
    members = members[of_pieces[members].argsort(kind="stable")]
    place = np.full(len(pieces), -1)
    place[members] = np.arange(len(members))
    similarities = _mean_similarities(graph, piece, place, of_pieces)
    bounds = np.searchsorted(of_pieces[members], broken), np.searchsorted(of_pieces[members], broken, side="right")
    for begin, end, pairs in zip(*bounds, np.split(inside, np.cumsum(num_inside)[:-1]), strict=True):
        block = similarities[begin:end, begin:end]
        parts = average_linkage(block, (place[pairs] - begin).tolist())
        of_pieces[members[begin:end]] = next_label + parts
        next_label += int(parts.max()) + 1
    return without_gaps(of_pieces[pieces.of_images])


def joined_share(pieces: Pieces, chosen: np.ndarray, labels: np.ndarray) -> float:
    """Of the pairs that are two people, how many a clustering takes for one: free truth, before it is put right.

    Args:
        pieces: of N images.
        chosen: ``(M,)`` int64, the images that were clustered.
        labels: ``(M,)`` int64, their clusters, -1 for outliers.

    Returns:
        The share, 0 to 1; NaN where no two are known to be two people.
    """
    if not len(pieces.apart):
        return float("nan")
    one, other = _most_frequent(pieces.of_images[chosen], labels, len(pieces))[pieces.apart].T
    return float(((one == other) & (one >= 0)).mean())


def _most_frequent(groups: np.ndarray, labels: np.ndarray, num_groups: int) -> np.ndarray:
    """The label that most members of each group have, the lowest of several; -1 where all members are outliers."""
    clustered = labels >= 0
    num_labels = int(labels.max(initial=-1)) + 1
    found, votes = np.unique(groups[clustered] * num_labels + labels[clustered], return_counts=True)
    winner = np.full(num_groups, -1)
    # The last of several assignments stays: the one of most votes, and of the lowest label among those.
    order = np.lexsort((-found, votes))
    winner[found[order] // max(num_labels, 1)] = found[order] % max(num_labels, 1)
    return winner


def _mean_similarities(graph: Tensor, piece: np.ndarray, place: np.ndarray, of_pieces: np.ndarray) -> sparse.csr_matrix:
    """Mean Jaccard similarities between the pieces that have a place, 0 for those of different clusters."""
    distances, columns, rows = (
        part.cpu().numpy() for part in (graph.values(), graph.col_indices(), graph.crow_indices())
    )
    places, clusters = place[piece], of_pieces[piece]
    size = int(place.max()) + 1
    sums = sparse.csr_matrix((size, size))
    for begin in range(0, len(piece), ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, len(piece))
        row = np.repeat(np.arange(begin, end), np.diff(rows[begin : end + 1]))
        column, distance = columns[rows[begin] : rows[end]], distances[rows[begin] : rows[end]]
        kept = (places[row] >= 0) & (clusters[row] == clusters[column])
        entries = 1 - distance[kept].astype(np.float64), (places[row[kept]], places[column[kept]])
        sums += sparse.csr_matrix(entries, shape=(size, size))
    counts = np.bincount(places[places >= 0], minlength=size)
    shares = sparse.diags(1 / np.maximum(counts, 1))
    return (shares @ sums @ shares).tocsr()


def without_gaps(labels: np.ndarray) -> np.ndarray:
    """Numbers the labels anew, 0, 1, ... by the first image of each."""
    names, first, place = np.unique(labels, return_index=True, return_inverse=True)
    first[names < 0] = -1
    numbers = np.argsort(np.argsort(first))
    return (numbers - (names[0] < 0))[place.reshape(-1)]
