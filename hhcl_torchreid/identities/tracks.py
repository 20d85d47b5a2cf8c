"""The identities of tracks: a table, and track files in which a person has one number at all cameras."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..clustering.centroids import cluster_centroids
from ..files import csv_text, replacing, writing
from .assignment import OUTLIER, Identities
from .crops import Crops

__all__ = ["COLUMNS", "TrackOfIdentity", "tracks_of", "write_tracks"]

COLUMNS = (
    *("camera", "track", "first_frame", "last_frame", "images"),
    *("identity", "similarity", "runner_up", "runner_up_similarity"),
)
OPTION = "the folder of the results"


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
    centroids = torch.zeros(0, means.shape[1])
    if identities.num_identities:
        centroids = cluster_centroids(crops.features, identities.identity, identities.num_identities).cpu()
    for track, similarities in zip(tracks, means @ F.normalize(centroids).T, strict=True):
        own = float(similarities[track.identity]) if track.identity != OUTLIER else None
        if track.identity != OUTLIER:
            similarities[track.identity] = -torch.inf
        others = len(similarities) - (track.identity != OUTLIER)
        runner_up = int(similarities.argmax()) if others else OUTLIER
        first, last = (crops.sightings[track.images[place]].frame for place in (0, -1))
        yield (
            *(track.camera, track.track, *("" if frame < 0 else frame for frame in (first, last)), len(track.images)),
            "outlier" if track.identity == OUTLIER else track.identity,
            "" if own is None else f"{own:.4f}",
            *(("", "") if runner_up == OUTLIER else (runner_up, f"{float(similarities[runner_up]):.4f}")),
        )
