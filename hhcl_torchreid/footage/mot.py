"""Track files: MOTChallenge's text, as most trackers write it.

Reference:
    Leal-Taixe et al. MOTChallenge 2015: Towards a Benchmark for Multi-Target Tracking. arXiv:1504.01942.
"""

import math
import os
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import ordinary, replacing
from .boxes import Boxes

__all__ = ["read_tracks", "write_tracks"]

COLUMNS = "frame, track, left, top, width, height, score"
LARGEST = 2**31
"""What a number is below, of frames, tracks and pixels."""


def read_tracks(path: str | os.PathLike[str]) -> Boxes:
    """Reads a track file: a line a box, ``frame, track, left, top, width, height, score, ...``.

    Frames are counted from 1. Columns are parted by commas, or else by spaces or tabs; the score may be missing, or -1
    where it is unknown; what comes after it is not read. A track number below 0 says that a box belongs to no track:
    such boxes are counted and left out. Empty lines are passed over.

    Args:
        path: the file.

    Returns:
        The boxes, by frame and track.

    Raises:
        InputError: no such file, no text, a line without these numbers, two boxes of a track in one frame, no track.
    """
    lines = _read_lines(Path(path))
    values = [_read_box(line, f"line {number} of {path}") for number, line in lines]
    table = np.array(values, np.float64).reshape(-1, 7)
    tracked = table[table[:, 1] >= 0]
    if not len(tracked):
        raise InputError(
            f"{path} holds no person: none of its {len(table)} boxes belongs to a track; give a tracker's file"
        )
    tracked = tracked[np.lexsort((tracked[:, 1], tracked[:, 0]))]
    frame, track = tracked[:, 0].astype(np.int64), tracked[:, 1].astype(np.int64)
    twice = np.flatnonzero((np.diff(frame) == 0) & (np.diff(track) == 0))
    if len(twice):
        raise InputError(
            f"{path} has two boxes of track {track[twice[0]]} in frame {frame[twice[0]]}: a track is one person, so "
            "give every person and every camera tracks of their own"
        )
    return Boxes(frame, track, tracked[:, 2:6], tracked[:, 6], len(table) - len(tracked))


def write_tracks(path: str | os.PathLike[str], boxes: Boxes, option: str = "--out") -> None:
    """Writes a track file that :func:`read_tracks` and MOTChallenge's programs read.

    Args:
        path: the file; replaced if it exists.
        boxes: what to write, by frame and track; unknown scores become -1.
        option: the setting that chose the place.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path, option=option) as file:
        for row in np.lexsort((boxes.track, boxes.frame)):
            score = boxes.score[row]
            sides = (f"{side:.10g}" for side in (*boxes.box[row], -1 if np.isnan(score) else score))
            file.write(f"{boxes.frame[row]},{boxes.track[row]},{','.join(sides)},-1,-1,-1\n")


def _read_lines(path: Path) -> list[tuple[int, str]]:
    try:
        with open(path, "rb", opener=ordinary) as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read the tracks in {path}: {error.strerror or error}; give a tracker's file"
        ) from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is no text: give a tracker's file, with lines of {COLUMNS}")
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _read_box(line: str, place: str) -> tuple[float, ...]:
    words = line.split(",") if "," in line else line.split()
    if len(words) < 6:
        raise InputError(f"{place} has {len(words)} columns: give at least six, {COLUMNS.removesuffix(', score')}")
    try:
        values = [float(word) for word in words[:6]]
        score = float(words[6]) if len(words) > 6 and words[6].strip() else math.nan
    except ValueError:
        values, score = [math.nan], math.nan
    # Neither NaN nor infinity is smaller.
    if not all(abs(value) < LARGEST for value in values) or not (values[0].is_integer() and values[1].is_integer()):
        raise InputError(f"{place} holds no box: give numbers for {COLUMNS}, whole ones for frame and track")
    if values[0] < 1:
        raise InputError(f"{place} has frame {values[0]:.0f}, but frames are counted from 1: add 1 to all, if it is so")
    return (*values, score if math.isfinite(score) and score != -1 else math.nan)
