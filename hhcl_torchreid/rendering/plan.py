"""The plan of a data set: who is seen by which camera how often, and the files that this fills."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .settings import NUM_CAMERAS, RenderingSettings
from .streams import Stream, random_stream

__all__ = ["SUBSETS", "Tracklet", "plan_tracklets"]

SUBSETS = TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
"""Folders of Market-1501's layout."""

FRAMES_BETWEEN_BOXES = 25


@dataclass(frozen=True)
class Tracklet:
    """Files to write for one person at one camera.

    Attributes:
        person: number of the person; 0 stands for a distractor.
        camera: number of the camera, from 0.
        files: path of each frame, below the data set's folder.
        index: number of the distractor, 0 for a person.
    """

    person: int
    camera: int
    files: tuple[str, ...]
    index: int = 0


def plan_tracklets(settings: RenderingSettings) -> Iterator[Tracklet]:
    """Lists the tracklets of training set, test set and distractors.

    Args:
        settings: of the data set.

    Yields:
        The tracklets, always the same for the same settings; no file is named twice.

    Raises:
        InputError: totals that cannot be reached within the settings' ranges.
    """
    num_train, num_test = settings.num_train_ids, settings.num_test_ids
    for person, camera, count in _encounters(settings, range(1, num_train + 1), None, settings.num_train_images):
        names = _frame_names(settings.seed, person, camera, count)
        yield Tracklet(person, camera, tuple(f"{TRAIN}/{name}" for name in names))
    wanted = settings.num_gallery_images
    gallery_total = None if wanted is None else wanted - settings.num_distractors
    testers = range(num_train + 1, num_train + num_test + 1)
    for person, camera, count in _encounters(settings, testers, settings.num_query_images, gallery_total):
        names = _frame_names(settings.seed, person, camera, count + 1)
        asked = (person + camera) % (count + 1)
        files = [f"{GALLERY}/{name}" for name in names]
        files[asked] = f"{QUERY}/{names[asked][:-6]}00.jpg"
        yield Tracklet(person, camera, tuple(files))
    for index in range(settings.num_distractors):
        camera = index % NUM_CAMERAS
        yield Tracklet(0, camera, (f"{GALLERY}/0000_c{camera + 1}s1_{index + 1:06d}_01.jpg",), index=index)


def _encounters(
    settings: RenderingSettings, people: range, num_tracklets: int | None, num_images: int | None
) -> list[tuple[int, int, int]]:
    """Draws who is seen where and how often, (person, camera, number of images), with the exact totals if given."""
    streams = [random_stream(settings.seed, Stream.PLAN, person) for person in people]
    fewest, most = settings.cameras_per_person
    num_cameras = np.array([rng.integers(fewest, most + 1) for rng in streams])
    tuner = random_stream(settings.seed, Stream.PLAN, 0, people.start)
    num_cameras = _fit_total(num_cameras, settings.cameras_per_person, num_tracklets, "num_query_images", tuner)
    pairs, counts = [], []
    fewest, most = settings.images_per_tracklet
    shares = np.array(settings.camera_shares or [1] * NUM_CAMERAS)
    for person, rng, seen_by in zip(people, streams, num_cameras.tolist(), strict=True):
        cameras = np.sort(rng.permutation(NUM_CAMERAS)[:seen_by])
        pairs += [(person, camera) for camera in cameras.tolist()]
        drawn = rng.integers(fewest, most + 1, NUM_CAMERAS)[:seen_by] * shares[cameras]
        counts += np.maximum(np.rint(drawn).astype(int), fewest).tolist()
    name = "num_train_images" if people.start == 1 else "num_gallery_images"
    counts = _fit_total(np.array(counts), settings.images_per_tracklet, num_images, name, tuner).tolist()
    return [(person, camera, count) for (person, camera), count in zip(pairs, counts, strict=True)]


def _fit_total(
    counts: np.ndarray, limits: tuple[int, int], total: int | None, name: str, rng: np.random.Generator
) -> np.ndarray:
    """Moves random counts by ones, within the limits, until they sum to ``total`` (None: leaves them)."""
    if total is None:
        return counts
    lowest, highest = limits[0] * len(counts), limits[1] * len(counts)
    if not lowest <= total <= highest:
        raise InputError(
            f"{name} cannot be reached: {len(counts)} draws of {limits[0]} to {limits[1]} sum to {lowest} "
            f"to {highest}, not {total} (the gallery's distractors apart); change it or the ranges"
        )
    counts = counts.copy()
    while missing := total - int(counts.sum()):
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero(counts != limits[1 if missing > 0 else 0])
        counts[rng.permutation(movable)[: abs(missing)]] += step
    return counts


def _frame_names(seed: int, person: int, camera: int, count: int) -> list[str]:
    rng = random_stream(seed, Stream.PLAN, person, camera)
    sequence, start = int(rng.integers(1, 4)), int(rng.integers(1, 90_000))
    times = [start + FRAMES_BETWEEN_BOXES * frame for frame in range(count)]
    boxes = rng.integers(1, 6, 64).tolist()
    return [
        f"{person:04d}_c{camera + 1}s{sequence}_{time:06d}_{boxes[frame]:02d}.jpg" for frame, time in enumerate(times)
    ]
