"""What a tracker would give: the truth, with the mistakes that trackers make."""

from dataclasses import dataclass

import numpy as np

from ..footage import Boxes, covered_shares
from ..footage.boxes import overlaps

__all__ = ["TrackerErrors", "track_people"]


@dataclass(frozen=True)
class TrackerErrors:
    """How often a tracker errs, and how far.

    Attributes:
        jitter: standard deviation of a box's sides, as a share of its height.
        missed: share of the boxes that are not found, for no reason.
        hidden: covered share above which a box is not found.
        patience: frames in a row that a person may be missing before the track ends, and a new one begins.
        broken: chance that a track ends in a frame, and a new one begins.
        crossing: overlap (intersection over union) of two people above which their tracks may be confused.
        switched: chance that two who cross exchange their tracks.
        doubled: chance that a track has a second one beside it, of the same person, for 8 to 25 frames.
        false: chance that a track of nobody, 5 to 15 frames long, begins in a frame.
        shortest: frames that a track must have to be given.
    """

    jitter: float = 0.015
    missed: float = 0.03
    hidden: float = 0.65
    patience: int = 8
    broken: float = 0.001
    crossing: float = 0.3
    switched: float = 0.03
    doubled: float = 0.03
    false: float = 0.01
    shortest: int = 3


def track_people(
    truth: Boxes, size: tuple[int, int], rng: np.random.Generator, errors: TrackerErrors | None = None
) -> Boxes:
    """Gives what a tracker would make of one camera's people.

    Args:
        truth: the true boxes, numbered by person, by frame.
        size: height and width of the picture, pixels.
        rng: stream of the tracker.
        errors: how it errs; None takes the defaults.

    Returns:
        The tracker's boxes, by frame and track; tracks are numbered from 1 as they appear. Scores are 0.3 to 1.
    """
    errors = errors or TrackerErrors()
    covered = covered_shares(truth)
    found = (rng.random(len(truth)) >= errors.missed) & (covered <= errors.hidden)
    boxes = truth[found]
    track = _follow(boxes, rng, errors)
    _switch(boxes, track, rng, errors)
    score = np.clip(0.95 - 0.5 * covered[found] + rng.normal(0, 0.04, len(boxes)), 0.3, 1.0)
    seen = Boxes(boxes.frame, track, _jittered(boxes.box, rng, errors), score)
    extra = [*_doubles(seen, rng, errors), *_nobody(truth, size, rng, errors)]
    return _numbered([seen, *extra], errors.shortest)


def _follow(boxes: Boxes, rng: np.random.Generator, errors: TrackerErrors) -> np.ndarray:
    """A track for each time that a person is followed without a break."""
    order = np.lexsort((boxes.frame, boxes.track))
    gap = np.diff(boxes.frame[order], prepend=0)
    begins = np.diff(boxes.track[order], prepend=-1) != 0
    begins |= (gap > errors.patience) | (rng.random(len(order)) < errors.broken)
    track = np.empty(len(order), np.int64)
    track[order] = np.cumsum(begins)
    return track


def _switch(boxes: Boxes, track: np.ndarray, rng: np.random.Generator, errors: TrackerErrors) -> None:
    """Exchanges the tracks of some people from where they cross, in place."""
    crossing: set[tuple[int, ...]] = set()
    for frame in np.unique(boxes.frame):
        rows = np.flatnonzero(boxes.frame == frame)
        near = np.triu(overlaps(boxes.box[rows], boxes.box[rows]) > errors.crossing, 1)
        before, crossing = crossing, set()
        for one, other in rows[np.argwhere(near)]:
            pair = tuple(sorted((int(boxes.track[one]), int(boxes.track[other]))))
            crossing.add(pair)
            if pair not in before and rng.random() < errors.switched:
                later = boxes.frame >= frame
                masks = [later & (track == track[row]) & (boxes.track == boxes.track[row]) for row in (one, other)]
                track[masks[0]], track[masks[1]] = track[other], track[one]


def _doubles(seen: Boxes, rng: np.random.Generator, errors: TrackerErrors) -> list[Boxes]:
    doubles = []
    for track in np.unique(seen.track):
        if rng.random() < errors.doubled:
            rows = np.flatnonzero(seen.track == track)
            begin = int(rng.integers(0, len(rows)))
            copied = seen[rows[begin : begin + int(rng.integers(8, 26))]]
            box = copied.box + rng.normal(0, 0.04, 4) * copied.box[:, 3:]
            number = np.full(len(copied), -1 - track)
            doubles.append(Boxes(copied.frame, number, _jittered(box, rng, errors), 0.6 * copied.score))
    return doubles


def _nobody(truth: Boxes, size: tuple[int, int], rng: np.random.Generator, errors: TrackerErrors) -> list[Boxes]:
    tracks = []
    height, width = size
    last = int(truth.frame.max(initial=0))
    for begin in (np.flatnonzero(rng.random(last) < errors.false) + 1).tolist():
        tall = height * rng.uniform(0.25, 0.55)
        box = [rng.uniform(0, width - 0.4 * tall), rng.uniform(0, height - tall), 0.4 * tall, tall]
        frame = np.arange(begin, min(begin + int(rng.integers(5, 16)), last + 1))
        sides = _jittered(np.tile(box, (len(frame), 1)), rng, errors)
        number = np.full(len(frame), np.iinfo(np.int64).min + begin)
        tracks.append(Boxes(frame, number, sides, rng.uniform(0.3, 0.6, len(frame))))
    return tracks


def _jittered(box: np.ndarray, rng: np.random.Generator, errors: TrackerErrors) -> np.ndarray:
    return np.round(box + errors.jitter * box[:, 3:] * rng.standard_normal(box.shape), 2)


def _numbered(parts: list[Boxes], shortest: int) -> Boxes:
    frame, track, box, score = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("frame", "track", "box", "score")
    )
    _, number, length = np.unique(track, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(length[number] >= shortest)
    kept = kept[np.lexsort((number[kept], frame[kept]))]
    _, first, number = np.unique(number[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    boxes = Boxes(frame[kept], rank[number], box[kept], np.round(score[kept], 3))
    return boxes[np.lexsort((boxes.track, boxes.frame))]
