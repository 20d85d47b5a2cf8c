"""Boxes around people, as a tracker or the truth gives them for one camera."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["Boxes", "covered_shares", "overlaps", "true_people"]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one camera, in any order.

    Attributes:
        frame: (N,) int64, the frame that a box stands in, counted from 1.
        track: (N,) int64, the number of its track, at least 0; in the truth that of its person.
        box: (N, 4) float64, left, top, width and height in pixels; the picture's first pixel begins at 0.
        score: (N,) float64, how sure the detector was, as it counts; NaN where that is unknown.
        num_untracked: how many boxes of the file belonged to no track and are left out.
    """

    frame: np.ndarray
    track: np.ndarray
    box: np.ndarray
    score: np.ndarray
    num_untracked: int = 0

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Boxes":
        """Some of the boxes: by a mask, numbers or a slice."""
        return Boxes(self.frame[chosen], self.track[chosen], self.box[chosen], self.score[chosen], self.num_untracked)

    @property
    def ends(self) -> np.ndarray:
        """(N, 2) float64, the right edge and the bottom edge."""
        return self.box[:, :2] + self.box[:, 2:]


def covered_shares(boxes: Boxes) -> np.ndarray:
    """Gives for each box the share of its area that is covered by what stands in front of it.

    Cameras look down: of two people, the one whose feet are lower on the picture is nearer. So a box is covered by the
    boxes of the same frame whose bottom edge lies lower than its own; where they overlap each other, what they cover
    counts once. Of boxes with the same bottom edge none covers the other.

    Args:
        boxes: of one camera.

    Returns:
        (N,) float64, 0 (all of it is seen) to 1; 0 for a box without area.
    """
    shares = np.zeros(len(boxes))
    ends = boxes.ends
    for rows in _frames(boxes.frame):
        if len(rows) > 1:
            shares[rows] = _covered_in_a_frame(boxes.box[rows, :2], ends[rows])
    return shares


def _covered_in_a_frame(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    common_starts, common_ends = np.maximum(starts[:, None], starts), np.minimum(ends[:, None], ends)
    covers = (common_starts < common_ends).all(-1) & (ends[:, None, 1] < ends[:, 1])
    covered = np.where(covers, (common_ends - common_starts).prod(-1), 0.0).sum(1)
    for row in np.flatnonzero(covers.sum(1) > 1):
        covered[row] = _area_of_all(common_starts[row, covers[row]], common_ends[row, covers[row]])
    area = (ends - starts).prod(-1)
    return np.clip(covered / np.where(area > 0, area, np.inf), 0.0, 1.0)


def _area_of_all(starts: np.ndarray, ends: np.ndarray) -> float:
    """The area of rectangles together, on the grid of all their edges."""
    edges = np.sort(np.concatenate([starts, ends]), axis=0)
    inside = (starts[:, None] <= edges[:-1]) & (edges[:-1] < ends[:, None])
    cells = np.diff(edges, axis=0)
    return float(cells[:, 0] @ (inside[:, :, None, 0] & inside[:, None, :, 1]).any(0) @ cells[:, 1])


def overlaps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Gives the intersection over union of every box with every other.

    Args:
        ours: (N, 4) float64, left, top, width, height.
        theirs: (M, 4) float64.

    Returns:
        (N, M) float64, 0 to 1.
    """
    starts = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    ends = np.minimum((ours[:, :2] + ours[:, 2:])[:, None], (theirs[:, :2] + theirs[:, 2:])[None])
    common = np.clip(ends - starts, 0.0, None).prod(-1)
    union = ours[:, 2:].prod(-1)[:, None] + theirs[:, 2:].prod(-1)[None] - common
    return common / np.maximum(union, np.finfo(np.float64).tiny)


def true_people(boxes: Boxes, truth: Boxes, least_overlap: float = 0.5) -> np.ndarray:
    """Finds out whom each box of a tracker shows, where the truth is known.

    In each frame boxes and true boxes are paired one to one so that the sum of their overlaps (intersection over union)
    is largest, over the pairs that overlap enough.

    Args:
        boxes: of one camera's tracker.
        truth: the true boxes of the same camera; their ``track`` is the number of the person.
        least_overlap: what a pair must overlap, 0 to 1.

    Returns:
        (N,) int64, the number of the person, -1 where there is none: a false box, a second box of a person.
    """
    people = np.full(len(boxes), -1, np.int64)
    true_rows = {int(truth.frame[rows[0]]): rows for rows in _frames(truth.frame)}
    for rows in _frames(boxes.frame):
        theirs = true_rows.get(int(boxes.frame[rows[0]]))
        if theirs is None:
            continue
        overlap = overlaps(boxes.box[rows], truth.box[theirs])
        overlap[overlap < least_overlap] = 0.0
        mine, matched = linear_sum_assignment(overlap, maximize=True)
        good = overlap[mine, matched] > 0
        people[rows[mine[good]]] = truth.track[theirs[matched[good]]]
    return people


def _frames(frame: np.ndarray) -> Iterator[np.ndarray]:
    """The row numbers of each frame, frame by frame."""
    if not len(frame):
        return
    order = np.argsort(frame, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(frame[order])) + 1)
