"""What a folder tells of where and when each crop was taken: camera, track and frame, by table, name or folder."""

import csv
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import InputError
from ..files import expanded, ordinary, visible
from .folder import camera_names, compile_expression

__all__ = ["TABLE", "Sighting", "find_sightings", "warn_of_folders_like_tracks"]

logger = logging.getLogger(__name__)

TABLE = "crops.csv"
"""The table beside the crops; ``tools/crop_tracks.py`` writes one, and so can anybody."""

SIDES = ("left", "top", "width", "height")
UNKNOWN_FRAME = -1
MOST_CAMERAS = 8  # fewer folders than this are cameras, however few images each holds
LARGEST_FRAME = 2**53  # what a spreadsheet still counts exactly

_NAMED = "the tracks' expression (data.track_regex or --track-regex)"
_AS_IN = r"as in '^(?P<camera>[^/]+)/(?P<track>[^/]+)/(?P<frame>\d+)'"


class Sighting(NamedTuple):
    """Where and when a crop was taken."""

    camera: str
    track: str = ""
    """Its name, which counts within its camera; empty where it is not known."""
    frame: int = UNKNOWN_FRAME
    """Of the camera's video; -1 where it is not known."""
    box: tuple[float, ...] | None = None
    """Left, top, width and height in that frame, pixels; None where they are not known."""


def find_sightings(
    paths: Sequence[Path], root: str | os.PathLike[str], camera_regex: str = "", track_regex: str = ""
) -> list[Sighting | None]:
    """Finds out where and when each image of a folder was taken.

    An expression comes first, then the folder's ``crops.csv`` (UTF-8; columns path, relative to the folder, camera,
    track and, if known, frame, left, top, width, height; others are not looked at), then the first folder level, which
    names the camera.

    Args:
        paths: images under ``root``.
        root: the folder that they were found in.
        camera_regex: a regular expression whose first group is the camera, searched for in the relative path.
        track_regex: likewise, with groups named ``camera``, ``track`` and, if known, ``frame``.

    Returns:
        One for each path; None for an image that ``crops.csv`` does not name.

    Raises:
        InputError: two sources at once; an expression without the groups, or that a path does not match; a table that
            is none, or with missing files, doubled rows or frames that are no numbers; two boxes of a track in a frame.
    """
    root = expanded(root)
    relative = [path.relative_to(root).as_posix() for path in paths]
    if camera_regex and track_regex:
        raise InputError("a camera's and a track's expression are both given: give the latter alone, with all groups")
    if track_regex:
        found = dict(zip(relative, _match_all(relative, track_regex), strict=True))
    elif os.path.lexists(root / TABLE):  # a pipe, or a link that leads nowhere, is no reason to do without it
        if camera_regex:
            raise InputError(
                f"the cameras' expression is {camera_regex!r}, and {root / TABLE} names cameras too: leave the "
                "expression out, or move the table away"
            )
        found = _read_table(root)
    else:
        return [Sighting(name) for name in camera_names(paths, root, camera_regex)]
    _refuse_two_in_one_frame(found)
    return [found.get(name) for name in relative]


def _match_all(paths: Sequence[str], pattern: str) -> list[Sighting]:
    expression = compile_expression(pattern, _NAMED)
    missing = {"camera", "track"} - expression.groupindex.keys()
    if missing:
        raise InputError(
            f"{_NAMED} {pattern!r} has no group named {' and '.join(sorted(missing))}: name them, {_AS_IN}"
        )
    found = []
    for path in paths:
        match = expression.search(path)
        if match is None or match["track"] is None:
            raise InputError(f"{_NAMED} {pattern!r} finds no track in {visible(path)!r}: it must match every image")
        frame = match["frame"] if "frame" in expression.groupindex else None
        found.append(Sighting(match["camera"] or "", match["track"], _frame(frame or "", f"{_NAMED} in {path!r}")))
    return found


def _read_table(root: Path) -> dict[str, Sighting]:
    path = root / TABLE
    found: dict[str, Sighting] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="", opener=ordinary) as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(rows.fieldnames or (), path)
            for row in rows:
                name, camera, track = (row[column] for column in ("path", "camera", "track"))
                if name is None or camera is None or track is None:
                    raise InputError(f"{path}, line {rows.line_num}, is cut off: give path, camera and track")
                if not (root / name).is_file():
                    name = name.replace("\\", "/")  # written on Windows
                name = PurePosixPath(name).as_posix()
                if name in found:
                    raise InputError(f"{path} names {visible(name)} twice, in line {rows.line_num} too: keep one row")
                frame = _frame(row.get("frame") or "", f"{path}, line {rows.line_num},")
                found[name] = Sighting(camera, track, frame, _box(row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): make it a table in UTF-8, with commas") from error
    if not found:
        raise InputError(f"{path} names no image: give it a row for every image, or move it away")
    gone = [name for name in found if not (root / name).is_file()]
    if gone:
        raise InputError(
            f"{len(gone)} of the {len(found)} images in {path} are not there, such as {visible(gone[0])!r}: its paths "
            f"are relative to {root}; take the rows of removed files away"
        )
    return found


def _check_columns(names: Sequence[str], path: Path) -> None:
    missing = [name for name in ("path", "camera", "track") if name not in names]
    if missing:
        raise InputError(f"{path} has no column {' and '.join(missing)}: its first line must name the columns")
    twice = [name for name in ("path", "camera", "track", "frame", *SIDES) if names.count(name) > 1]
    if twice:
        raise InputError(f"{path} has two columns {' and '.join(twice)}: keep one of each")


def _frame(text: str, where: str) -> int:
    if not text.strip():
        return UNKNOWN_FRAME
    try:
        number = float(text)
        frame = int(number)
    except (ValueError, OverflowError):
        number, frame = 0.5, 0
    if frame != number or not 0 <= frame < LARGEST_FRAME:
        raise InputError(f"{where} has the frame {text!r}: give whole numbers, 0 or more, or leave all of them out")
    return frame


def _box(row: dict[str, str | None]) -> tuple[float, ...] | None:
    try:
        box = tuple(float(row[side] or "") for side in SIDES)
    except (KeyError, ValueError):
        return None
    return box if all(map(math.isfinite, box)) else None


def _refuse_two_in_one_frame(found: dict[str, Sighting]) -> None:
    taken: dict[tuple[str, str, int], str] = {}
    for path, (camera, track, frame, _) in found.items():
        first = taken.setdefault((camera, track, frame), path)
        if track and frame != UNKNOWN_FRAME and first != path:
            raise InputError(
                f"track {track!r} of camera {camera!r} is in frame {frame} twice, {visible(first)} and "
                f"{visible(path)}: a track is at one place at a time; keep one of them"
            )


def warn_of_folders_like_tracks(sightings: Sequence[Sighting | None], root: str | os.PathLike[str]) -> None:
    """Says it where the folders that were taken for cameras hold so few images each that they may be tracks."""
    known = [sighting for sighting in sightings if sighting]
    if any(sighting.track for sighting in known):
        return
    images = Counter(sighting.camera for sighting in known)
    each = len(known) / len(images)
    if len(images) > max(MOST_CAMERAS, each):
        logger.warning(
            f"{root} seems to have {len(images)} cameras with {each:.0f} images each. If its folders are tracks, or "
            f"people, say so by data.track_regex (--track-regex), {_AS_IN}, or by a table, {TABLE}"
        )
