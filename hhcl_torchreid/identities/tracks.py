"""The identities of tracks: a table, and track files in which a person has one number at all cameras."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..clustering.centroids import cluster_centroids
from ..errors import InputError
from ..files import csv_text, replacing, visible, writing
from ..footage import Boxes, read_tracks, tracks_file
from ..footage import write_tracks as write_track_file
from .assignment import OUTLIER, Identities
from .crops import Crops

__all__ = ["COLUMNS", "TrackOfIdentity", "check_mot_folder", "tracks_of", "write_mot", "write_tracks"]

COLUMNS = (
    *("camera", "track", "first_frame", "last_frame", "images"),
    *("identity", "similarity", "runner_up", "runner_up_similarity"),
)
OPTION = "the folder of the results"
MOT_OPTION = "--mot-out"
OURS = ".identities"
"""Marks a folder of track files that hold identities: another's may be what a tracker has found."""


class TrackOfIdentity(NamedTuple):
    """A track, or of one that was split, the part that shows one identity."""

    camera: str
    track: str
    images: list[int]
    """Numbers of its images, in the order of their frames."""
    identity: int
    """-1 for an outlier."""


def tracks_of(crops: Crops, identities: Identities) -> list[TrackOfIdentity]:
    """Lists the tracks that are known, by camera, name and first frame.

    Args:
        crops: the images.
        identities: of the same images.
    """
    parts: dict[tuple[str, str, int], list[int]] = {}
    for image, (seen, identity) in enumerate(zip(crops.sightings, identities.identity.tolist(), strict=True)):
        if seen.track:
            parts.setdefault((seen.camera, seen.track, identity), []).append(image)
    frame = [seen.frame for seen in crops.sightings]
    found = [
        TrackOfIdentity(camera, track, sorted(images, key=lambda image: (frame[image], image)), identity)
        for (camera, track, identity), images in parts.items()
    ]
    return sorted(found, key=lambda part: (part.camera, _natural(part.track), frame[part.images[0]], part.identity))


def _natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 2**63, name)


def write_tracks(path: str | Path, crops: Crops, identities: Identities) -> None:
    """Writes one line per track; a track that was split has one for each of its identities. Without tracks, no file.

    Similarities are those of the mean of the track's features, brought to unit length. The identity is a number or
    ``outlier``; frames are empty where they are not known.

    Args:
        path: the CSV file, UTF-8; one of an earlier assignment goes.
        crops: the images.
        identities: of the same images.

    Raises:
        InputError: it cannot be written.
    """
    tracks = tracks_of(crops, identities)
    if not tracks:
        with writing(path, option=OPTION):
            Path(path).unlink(missing_ok=True)
        return
    with replacing(path, option=OPTION) as file:
        file.write(csv_text(COLUMNS, _rows(tracks, crops, identities)))


def _rows(tracks: Sequence[TrackOfIdentity], crops: Crops, identities: Identities) -> Iterator[tuple[object, ...]]:
    of_track = torch.full((len(crops.paths),), -1)
    for number, track in enumerate(tracks):
        of_track[track.images] = number
    means = cluster_centroids(crops.features, of_track, len(tracks)).cpu()
    numbers, places = identities.numbered
    centroids = torch.zeros(0, means.shape[1])
    if len(numbers):
        centroids = cluster_centroids(crops.features, places, len(numbers)).cpu()
    place_of = {number: place for place, number in enumerate(numbers.tolist())}
    for track, similarities in zip(tracks, means @ F.normalize(centroids).T, strict=True):
        own = None
        if track.identity != OUTLIER:
            own = float(similarities[place_of[track.identity]])
            similarities[place_of[track.identity]] = -torch.inf
        others = len(similarities) - (track.identity != OUTLIER)
        best = int(similarities.argmax()) if others else OUTLIER
        runner_up = int(numbers[best]) if others else OUTLIER
        first, last = (crops.sightings[track.images[place]].frame for place in (0, -1))
        yield (
            *(track.camera, track.track, *("" if frame < 0 else frame for frame in (first, last)), len(track.images)),
            "outlier" if track.identity == OUTLIER else track.identity,
            "" if own is None else f"{own:.4f}",
            *(("", "") if runner_up == OUTLIER else (runner_up, f"{float(similarities[best]):.4f}")),
        )


def check_mot_folder(folder: str | Path) -> None:
    """Keeps track files that this program has not written from being replaced.

    Args:
        folder: where :func:`write_mot` is to write.

    Raises:
        InputError: it holds such files.
    """
    others = sorted(path.name for path in Path(folder).glob("*.txt"))
    if others and not Path(folder, OURS).exists():
        raise InputError(
            f"{MOT_OPTION} {folder} holds {visible(others[0])}, which may be a tracker's: choose a folder without any"
        )


def write_mot(folder: str | Path, crops: Crops, identities: Identities) -> list[Path]:
    """Writes a track file per camera, in which an identity has the same number at all of them.

    The boxes are those of the tracker, from ``CROPS/<camera>.tracks.txt`` where
    :func:`~hhcl_torchreid.footage.crop_tracks` has left it, else those of the table of crops. The number is the
    identity's plus 1, as track files count; -1 where there is none: outliers, and tracks of which there is no crop.

    Args:
        folder: where the files go, ``<camera>.txt``.
        crops: the images.
        identities: of the same images.

    Returns:
        The files.

    Raises:
        InputError: no tracks, tracks without boxes or frames, or a file that cannot be read or written, or that
            is not of this program.
    """
    check_mot_folder(folder)
    parts: dict[str, dict[str, list[TrackOfIdentity]]] = {}
    for part in tracks_of(crops, identities):
        parts.setdefault(part.camera, {}).setdefault(part.track, []).append(part)
    if not parts:
        raise InputError(
            f"no tracks are known in {crops.root}, so there is no track file to write: leave --mot-out out"
        )
    written = []
    for camera, tracks in parts.items():
        kept = crops.root / tracks_file(camera)
        boxes = read_tracks(kept) if os.path.lexists(kept) else _boxes_of(camera, tracks, crops)
        numbers = np.full(len(boxes), OUTLIER)
        for name, own in tracks.items():
            # A track that was split changes its identity at the first crop of the later part.
            begins = [crops.sightings[part.images[0]].frame for part in own]
            rows = np.flatnonzero(boxes.track == int(name)) if name.isdecimal() else np.empty(0, np.int64)
            place = np.maximum(np.searchsorted(begins, boxes.frame[rows], side="right") - 1, 0)
            numbers[rows] = np.array([part.identity for part in own])[place]
        numbers[numbers != OUTLIER] += 1
        with replacing(Path(folder, OURS), option=MOT_OPTION) as mark:
            mark.write("The track files here hold identities.\n")
        written.append(Path(folder, f"{camera or 'camera'}.txt"))
        write_track_file(written[-1], replace(boxes, track=numbers), option=MOT_OPTION)
    return written


def _boxes_of(camera: str, tracks: Mapping[str, Sequence[TrackOfIdentity]], crops: Crops) -> Boxes:
    rows = []
    for name, parts in tracks.items():
        for seen in (crops.sightings[image] for part in parts for image in part.images):
            if seen.box is None or seen.frame < 0 or not name.isdecimal():
                raise InputError(
                    f"track {name!r} of camera {camera!r} has no box, no frame or no number, so no track file can hold "
                    "it: give the table of crops the columns frame, left, top, width and height, or leave --mot-out out"
                )
            rows.append((seen.frame, int(name), *seen.box))
    table = np.array(rows, np.float64)
    frame, track = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    return Boxes(frame, track, table[:, 2:], np.full(len(table), np.nan))
