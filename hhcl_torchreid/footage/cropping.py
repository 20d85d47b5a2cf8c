"""Cutting the people of a video out, as a folder of tracks and a table of them."""

import csv
import os
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from filelock import FileLock

from ..errors import InputError
from ..files import FORMULA, csv_text, ordinary, replacing, writing
from ..log import progress_bar
from .boxes import Boxes, covered_shares
from .mot import LARGEST, read_tracks, write_tracks
from .video import read_frames

__all__ = ["COLUMNS", "CropSummary", "crop_tracks", "tracks_file"]

COLUMNS = ("path", "camera", "track", "frame", "left", "top", "width", "height", "score", "covered")
TABLE = "crops.csv"
QUALITY = 95
"""Of the JPEG files: what a network sees should be the video's losses, not ours."""

Key = tuple[str, int, int]
"""Camera, track and frame: the name of a crop."""
Row = tuple[str, ...]


@dataclass(frozen=True)
class CropSummary:
    """What :func:`crop_tracks` has done.

    Attributes:
        table: the file ``crops.csv``.
        num_crops: crops of this camera that the tracks and filters ask for; all are there now.
        num_tracks: how many tracks they belong to.
        num_made: how many of them were made now; the others were there.
        left_out: how many boxes were left out, by the reason, a clause.
    """

    table: Path
    num_crops: int
    num_tracks: int
    num_made: int
    left_out: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        there = self.num_crops - self.num_made
        lines = [
            f"{self.num_crops:,} crops of {self.num_tracks:,} tracks in {self.table.parent}"
            + (f" ({there:,} were there)" if there else "")
        ]
        lines += [f"left out: {number:,} boxes {reason}" for reason, number in self.left_out.items() if number]
        return "\n".join([*lines, f"{self.table} is the table."])


@dataclass(frozen=True)
class _Crops:
    """The crops of one camera: what the tracker said of each, and where it is cut, (N, 4) left, top, right, bottom."""

    camera: str
    boxes: Boxes
    covered: np.ndarray
    corners: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: np.ndarray) -> "_Crops":
        return _Crops(self.camera, self.boxes[chosen], self.covered[chosen], self.corners[chosen])

    def path(self, row: int) -> PurePosixPath:
        """Where a crop is, below the folder of all."""
        boxes = self.boxes
        return PurePosixPath(self.camera, f"{boxes.track[row]:04d}", f"{boxes.frame[row]:06d}.jpg")

    def rows(self) -> dict[Key, Row]:
        """Their rows of the table."""
        rows = {}
        for number, (frame, track, box, score, covered) in enumerate(
            zip(self.boxes.frame, self.boxes.track, self.boxes.box, self.boxes.score, self.covered, strict=True)
        ):
            sides = [f"{side:.10g}" for side in box]
            known = "" if np.isnan(score) else f"{score:.10g}"
            rows[self.camera, int(track), int(frame)] = (
                *(str(self.path(number)), self.camera, str(track), str(frame)),
                *(*sides, known, f"{covered:.3f}"),
            )
        return rows


def crop_tracks(
    video: str | os.PathLike[str],
    tracks: str | os.PathLike[str],
    camera: str,
    out: str | os.PathLike[str],
    every: int = 1,
    min_height: int = 32,
    max_covered: float = 1.0,
) -> CropSummary:
    """Cuts the people that a tracker has found out of a video.

    Writes ``OUT/<camera>/<track>/<frame>.jpg`` and ``OUT/crops.csv``, a row a crop: ``path`` (below ``OUT``, with
    ``/``), ``camera``, ``track``, ``frame``, the tracker's box ``left, top, width, height`` in pixels, as it stands in
    the track file, its ``score`` (empty where unknown) and ``covered``, see
    :func:`~hhcl_torchreid.footage.covered_shares`. A crop is its box, in whole pixels, as far as it is in the picture.

    ``OUT/<camera>.tracks.txt`` keeps the tracker's boxes, for track files with identities.

    Cameras add to a folder, and runs to a camera: rows that are there stay, crops that are there and whole are not made
    again, so a run that was stopped goes on, and ends as if it had not been.

    Args:
        video: the video, decoded a frame at a time, up to the last frame that is needed.
        tracks: the track file, see :func:`~hhcl_torchreid.footage.read_tracks`.
        camera: name of the camera, the first level of the folder.
        out: the folder.
        every: every so many-th frame of the video is kept, the same for all tracks, so that those seen together still
            share frames; of a track that is in none of them, its first.
        min_height: pixels that a crop must be high.
        max_covered: the largest covered share of a box that is kept, 0 to 1.

    Returns:
        What was done.

    Raises:
        InputError: bad options or files, the tracks of another video, nobody left to crop, or another track file's
            crops of this camera in the folder.
    """
    _check_options(camera, every, min_height, max_covered)
    boxes = read_tracks(tracks)
    _, picture = next(read_frames(video))
    _check_same_video(boxes, picture.shape, tracks, video)
    crops, left_out = _choose(boxes, camera, picture.shape, every, min_height, max_covered)
    if not len(crops):
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items() if number)
        raise InputError(
            f"no crop is left of {tracks}: of {len(boxes):,} boxes {reasons}; lower --min-height or raise --max-covered"
        )
    out = Path(out)
    missing = _begin(crops, out)
    _cut(video, crops[missing], out)
    _finish(crops, boxes, out)
    num_tracks = len(np.unique(crops.boxes.track))
    return CropSummary(out / TABLE, len(crops), num_tracks, int(missing.sum()), left_out)


def tracks_file(camera: str) -> str:
    """The name of the file below the crops that keeps all boxes of a camera's tracker, cropped or not."""
    return f"{camera}.tracks.txt"


def _check_options(camera: str, every: int, min_height: int, max_covered: float) -> None:
    odd = not camera or camera.startswith((".", *FORMULA)) or camera != camera.strip() or not camera.isprintable()
    if odd or "/" in camera or "\\" in camera:
        raise InputError(
            f"--camera {camera!r} cannot be the name of a folder: begin it with a letter or digit, without slashes"
        )
    if every < 1:
        raise InputError(f"--every is {every}: give 1 for all frames, or how many there are from one kept to the next")
    if min_height < 1:
        raise InputError(f"--min-height is {min_height}: give at least 1 pixel")
    if not 0 <= max_covered <= 1:
        raise InputError(f"--max-covered is {max_covered}: give a share from 0 to 1")


def _check_same_video(boxes: Boxes, shape: tuple[int, ...], tracks: object, video: object) -> None:
    height, width = shape[:2]
    centre = boxes.box[:, :2] + boxes.box[:, 2:] / 2
    num_outside = int((~((centre >= 0) & (centre < (width, height))).all(1)).sum())
    if 2 * num_outside > len(boxes):
        raise InputError(
            f"{num_outside:,} of {len(boxes):,} boxes of {tracks} lie outside the pictures of {video}, which are "
            f"{width} x {height} pixels: give the video that they were made from, in its own size"
        )


def _choose(
    boxes: Boxes, camera: str, shape: tuple[int, ...], every: int, min_height: int, max_covered: float
) -> tuple[_Crops, dict[str, int]]:
    """The crops to make, by frame and track, and how many boxes are left out why."""
    height, width = shape[:2]
    limits = np.array([width, height, width, height])
    corners = np.clip(np.rint(np.hstack([boxes.box[:, :2], boxes.ends])), 0, limits).astype(np.int64)
    covered = covered_shares(boxes)
    is_between = (boxes.frame - 1) % min(every, LARGEST) != 0
    _, first, track = np.unique(boxes.track, return_index=True, return_inverse=True)
    is_between[first[np.bincount(track, ~is_between) == 0]] = False
    wrong = {
        "between the frames that are kept": is_between,
        "outside the picture": (corners[:, 2:] <= corners[:, :2]).any(1),
        f"less than {min_height} pixels high": corners[:, 3] - corners[:, 1] < min_height,
        f"more than {max_covered:g} covered": covered > max_covered,
    }
    kept = np.ones(len(boxes), bool)
    left_out = {"of no track": boxes.num_untracked}
    for reason, mask in wrong.items():
        left_out[reason] = int((kept & mask).sum())
        kept &= ~mask
    return _Crops(camera, boxes, covered, corners)[kept], left_out


def _begin(crops: _Crops, out: Path) -> np.ndarray:
    """Says which crops are missing, a mask, and writes down what is being made, for a run that goes on after this."""
    rows, plan = crops.rows(), out / f".{crops.camera}.{TABLE}"
    published, begun = _read_table(out / TABLE), _read_table(plan)
    for key, row in rows.items():
        if key in published and _box(published[key]) != _box(row):
            raise InputError(
                f"{out / TABLE} has another box of camera {key[0]}, track {key[1]}, frame {key[2]} than the track "
                f"file: give footage of its own a --camera of its own, or delete {out / TABLE} and {out / crops.camera}"
            )
    # What a stopped run has made of other boxes than these is no crop of anything: no table will tell of it.
    known = begun | published
    missing = [_box(known.get(key)) != _box(row) or not _is_whole(out / row[0]) for key, row in rows.items()]
    stale = [row for row, is_missing in zip(rows.values(), missing, strict=True) if is_missing]
    stale += [row for key, row in begun.items() if key not in rows and key not in published]
    with writing(out, option="--out"):
        for row in stale:
            # Whatever path the table of a stopped run has: nothing else than a crop of this camera is taken away.
            if PurePosixPath(row[0]).parts[:-2] == (crops.camera,) and ".." not in PurePosixPath(row[0]).parts:
                (out / row[0]).unlink(missing_ok=True)
    if any(missing):
        _write_table(plan, rows)
    return np.array(missing)


def _box(row: Row | None) -> Row | None:
    return row and row[COLUMNS.index("left") : COLUMNS.index("score")]


def _is_whole(path: Path) -> bool:
    """Whether a file begins and ends as a JPEG file does."""
    try:
        with open(path, "rb", opener=ordinary) as file:
            begin = file.read(2)
            file.seek(-2, os.SEEK_END)
            return begin + file.read() == b"\xff\xd8\xff\xd9"
    except OSError:
        return False


def _cut(video: str | os.PathLike[str], crops: _Crops, out: Path) -> None:
    if not len(crops):
        return
    frames = np.unique(crops.boxes.frame)
    by_frame = {
        frame: list(rows) for frame, rows in groupby(range(len(crops)), key=lambda row: int(crops.boxes.frame[row]))
    }
    with progress_bar(total=int(frames[-1]), desc=f"crop {crops.camera}", unit="frame") as progress:
        for number, picture in read_frames(video, frames):
            for row in by_frame[number]:
                left, top, right, bottom = crops.corners[row]
                _, jpeg = cv2.imencode(".jpg", picture[top:bottom, left:right], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                with replacing(out / crops.path(row), "wb", option="--out", is_durable=False) as file:
                    file.write(jpeg.tobytes())
            progress.update(number - progress.n)


def _finish(crops: _Crops, boxes: Boxes, out: Path) -> None:
    table = out / TABLE
    write_tracks(out / tracks_file(crops.camera), boxes)
    # Cameras may be cut at the same time, each by a process of its own.
    with writing(table, option="--out"), FileLock(out / f".{TABLE}.lock"):
        _write_table(table, _read_table(table) | crops.rows())
        (out / f".{crops.camera}.{TABLE}").unlink(missing_ok=True)


def _read_table(path: Path) -> dict[Key, Row]:
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding="utf-8", newline="", opener=ordinary) as file:
            columns, *rows = csv.reader(file)
        if tuple(columns) != COLUMNS:
            raise ValueError
        return {(row[1], int(row[2]), int(row[3])): tuple(row) for row in rows}
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise InputError(
            f"{path} is no table of this program (columns {', '.join(COLUMNS)}): give another --out, or delete it"
        ) from error


def _write_table(path: Path, rows: dict[Key, Row]) -> None:
    with replacing(path, option="--out") as file:
        file.write(csv_text(COLUMNS, [rows[key] for key in sorted(rows)]))
