"""The demo data: rendered people in the layout of Market-1501, and the torchreid data set that renders itself.

Importing this module registers the data set ``synthetic`` with torchreid.
"""

import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torchreid
from tqdm import tqdm

from ..errors import InputError
from . import LIGHTS, render_distractor, render_tracklet, sample_camera
from .streams import Stream, random_stream

__all__ = ["MARKET1501_SIZE", "RenderingSettings", "SyntheticMarket", "render_market1501"]

RENDERER_VERSION = 3
"""Rises with every change that changes pictures, so that data of two renderers are never taken for one another."""

MARKET_FOLDER = "Market-1501-v15.09.15"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
MARKER = "rendering.json"
NUM_CAMERAS = 6
MAX_IDENTITIES = 1501
FRAMES_BETWEEN_BOXES = 25
WORTH_A_WORKER = 200
"""Images below which a further process costs more time than it saves."""

MARKET1501_SIZE: dict[str, Any] = {
    "num_train_ids": 751,
    "num_test_ids": 750,
    "images_per_tracklet": (2, 6),
    "cameras_per_person": (3, 6),
    "num_distractors": 2798,
    "num_train_images": 12936,
    "num_query_images": 3368,
    "num_gallery_images": 15913,
}
"""Arguments of `render_market1501` that give exactly as many identities and images as Market-1501 has."""


@dataclass(frozen=True)
class RenderingSettings:
    """Everything a rendering depends on; the defaults are the demo's. `render_market1501` explains each."""

    num_train_ids: int = 120
    num_test_ids: int = 50
    images_per_tracklet: tuple[int, int] = (3, 4)
    cameras_per_person: tuple[int, int] = (5, 6)
    num_distractors: int = 100
    num_train_images: int | None = None
    num_query_images: int | None = None
    num_gallery_images: int | None = None
    height: int = 128
    width: int = 64
    seed: int = 0
    light: str = "dusk"

    def __post_init__(self):
        """Checks the settings; raises `InputError` for those no data set can be made of."""
        self._check_at_least("num_train_ids", 1)
        self._check_at_least("num_test_ids", 1)
        self._check_at_least("num_distractors", 0)
        self._check_at_least("height", 32)
        self._check_at_least("width", 16)
        self._check_at_least("seed", 0)
        self._check_range("images_per_tracklet", 1, 50)
        self._check_range("cameras_per_person", 2, NUM_CAMERAS)
        if self.light not in LIGHTS:
            raise InputError(f"light is {self.light!r}: choose one of {', '.join(LIGHTS)}.")
        identities = self.num_train_ids + self.num_test_ids
        if identities > MAX_IDENTITIES:
            raise InputError(
                f"num_train_ids + num_test_ids is {identities}, but Market-1501's layout has room for {MAX_IDENTITIES} "
                "identities: ask for fewer."
            )

    def _check_at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}: give a whole number of at least {least}.")

    def _check_range(self, name: str, least: int, most: int) -> None:
        low, high = getattr(self, name)
        if not least <= low <= high <= most:
            raise InputError(
                f"{name} is ({low}, {high}): give (lowest, highest) with {least} <= lowest <= highest <= {most}."
            )


@dataclass(frozen=True)
class _Tracklet:
    """Files to write for one person at one camera; file i holds frame i. Person 0 stands for distractors."""

    person: int
    camera: int
    files: tuple[str, ...]
    first_frame: int = 0


def render_market1501(
    root: str | os.PathLike[str],
    num_train_ids: int = RenderingSettings.num_train_ids,
    num_test_ids: int = RenderingSettings.num_test_ids,
    images_per_tracklet: tuple[int, int] = RenderingSettings.images_per_tracklet,
    cameras_per_person: tuple[int, int] = RenderingSettings.cameras_per_person,
    num_distractors: int = RenderingSettings.num_distractors,
    num_train_images: int | None = None,
    num_query_images: int | None = None,
    num_gallery_images: int | None = None,
    height: int = RenderingSettings.height,
    width: int = RenderingSettings.width,
    seed: int = RenderingSettings.seed,
    light: str = RenderingSettings.light,
    workers: int | None = None,
) -> Path:
    """Renders a re-identification data set in Market-1501's layout, readable by ``torchreid.data.datasets.Market1501``.

    The same arguments give the same files, bit for bit, whatever ``workers`` is. People and cameras are those of the
    seed: person 7 of a small rendering looks as in a large one. The folder appears under its name only when it is
    complete; when it is already there, rendered with the same arguments, nothing is done.

    Args:
        root: folder in which ``Market-1501-v15.09.15`` is made; made itself if missing.
        num_train_ids: identities of the training set; they are numbered from 1.
        num_test_ids: identities of query and gallery, numbered after those; at most 1,501 in all.
        images_per_tracklet: fewest and most images of one person at one camera (in the test set: in the gallery).
        cameras_per_person: fewest and most cameras, of six, that see a person; at least 2.
        num_distractors: gallery images of nobody (identity 0): background and cut-off passers-by.
        num_train_images: exact size of the training set; None leaves it to the ranges above.
        num_query_images: likewise of the query set, one image per test identity and camera.
        num_gallery_images: likewise of the gallery, distractors included.
        height: rows of an image, pixels.
        width: columns of an image, pixels.
        seed: seed of the people, cameras and frames, at least 0.
        light: ``"day"`` or ``"dusk"``: how dark it is, and how much the cameras differ.
        workers: processes that render; None takes as many as there are processors and work for.

    Returns:
        The folder ``<root>/Market-1501-v15.09.15``.

    Raises:
        InputError: if an argument is out of range, the totals cannot be reached within the ranges, ``root`` cannot be
            written, or the folder exists with other contents.

    Example:
        >>> from hhcl_torchreid.rendering.market1501 import MARKET1501_SIZE, render_market1501
        >>> render_market1501("reid-data/synthetic_market")  # doctest: +SKIP
        >>> render_market1501("reid-data/market_sized", **MARKET1501_SIZE)  # doctest: +SKIP
    """
    settings = RenderingSettings(
        num_train_ids=num_train_ids,
        num_test_ids=num_test_ids,
        images_per_tracklet=_pair(images_per_tracklet, "images_per_tracklet"),
        cameras_per_person=_pair(cameras_per_person, "cameras_per_person"),
        num_distractors=num_distractors,
        num_train_images=num_train_images,
        num_query_images=num_query_images,
        num_gallery_images=num_gallery_images,
        height=height,
        width=width,
        seed=seed,
        light=light,
    )
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: give at least 1, or None for as many as there are processors.")
    folder = Path(root) / MARKET_FOLDER
    if folder.exists():
        _check_same_rendering(folder, settings)
        return folder
    tracklets = list(_plan(settings))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _render_then_publish(tracklets, folder, settings, workers)
    except OSError as error:
        raise InputError(f"cannot render into {root} ({error.strerror or error}): choose a root with room.") from error
    return folder


def _pair(limits: Sequence[int], name: str) -> tuple[int, int]:
    try:
        low, high = limits
    except (TypeError, ValueError):
        raise InputError(f"{name} is {limits!r}: give two whole numbers, (lowest, highest).") from None
    return low, high


# --- what to render -----------------------------------------------------------------------------------------------


def _plan(settings: RenderingSettings) -> Iterator[_Tracklet]:
    """Lists the tracklets of training set, test set and distractors."""
    num_train, num_test = settings.num_train_ids, settings.num_test_ids
    for person, camera, count in _encounters(settings, range(1, num_train + 1), None, settings.num_train_images):
        names = _frame_names(settings.seed, person, camera, count)
        yield _Tracklet(person, camera, tuple(f"{TRAIN}/{name}" for name in names))
    wanted = settings.num_gallery_images
    gallery_total = None if wanted is None else wanted - settings.num_distractors
    testers = range(num_train + 1, num_train + num_test + 1)
    for person, camera, count in _encounters(settings, testers, settings.num_query_images, gallery_total):
        names = _frame_names(settings.seed, person, camera, count + 1)
        asked = (person + camera) % (count + 1)
        files = [f"{GALLERY}/{name}" for name in names]
        files[asked] = f"{QUERY}/{names[asked][:-6]}00.jpg"
        yield _Tracklet(person, camera, tuple(files))
    for index in range(settings.num_distractors):
        camera = index % NUM_CAMERAS
        yield _Tracklet(0, camera, (f"{GALLERY}/0000_c{camera + 1}s1_{index + 1:06d}_01.jpg",), first_frame=index)


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
    for person, rng, seen_by in zip(people, streams, num_cameras.tolist(), strict=True):
        cameras = rng.permutation(NUM_CAMERAS)[:seen_by]
        pairs += [(person, camera) for camera in sorted(cameras.tolist())]
        counts += rng.integers(fewest, most + 1, NUM_CAMERAS).tolist()[:seen_by]
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
            f"to {highest}, not {total} (the gallery's distractors apart); change it or the ranges."
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


# --- rendering it -------------------------------------------------------------------------------------------------


def _render_then_publish(
    tracklets: list[_Tracklet], folder: Path, settings: RenderingSettings, workers: int | None
) -> None:
    """Renders under a passing name, then renames: an interrupted rendering is never taken for a data set."""
    workshop = Path(tempfile.mkdtemp(prefix=".rendering-", dir=folder.parent))
    try:
        draft = workshop / MARKET_FOLDER
        for subset in (TRAIN, QUERY, GALLERY):
            (draft / subset).mkdir(parents=True)
        _render_all(tracklets, draft, settings, workers)
        (draft / MARKER).write_text(json.dumps(_marker(settings), indent=2) + "\n")
        try:
            draft.rename(folder)
        except OSError:
            # Another process (a second rank, another experiment) was faster: its rendering is as good, if the same.
            if not folder.exists():
                raise
            _check_same_rendering(folder, settings)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _render_all(tracklets: list[_Tracklet], folder: Path, settings: RenderingSettings, workers: int | None) -> None:
    num_images = sum(len(tracklet.files) for tracklet in tracklets)
    if workers is None:
        workers = max(1, min(_num_processors(), num_images // WORTH_A_WORKER))
    write = partial(_write_tracklet, folder, settings)
    # Disabled "None" means: silent unless a person watches the terminal.
    with tqdm(total=num_images, desc=f"rendering {folder.parent.parent.name}", unit="image", disable=None) as progress:
        if workers == 1:
            for tracklet in tracklets:
                progress.update(write(tracklet))
            return
        for camera in range(NUM_CAMERAS):
            sample_camera(settings.seed, camera, settings.light)  # forked workers inherit the painted scenes
        with ProcessPoolExecutor(workers, _process_context(), _one_thread_per_process) as pool:
            for written in pool.map(write, tracklets, chunksize=8):
                progress.update(written)


def _write_tracklet(folder: Path, settings: RenderingSettings, tracklet: _Tracklet) -> int:
    seed, height, width, light = settings.seed, settings.height, settings.width, settings.light
    quality = sample_camera(seed, tracklet.camera, light).quality
    if tracklet.person == 0:
        frames = [render_distractor(seed, tracklet.first_frame, tracklet.camera, height, width, light)]
    else:
        frames = render_tracklet(seed, tracklet.person, tracklet.camera, len(tracklet.files), height, width, light)
    for file, frame in zip(tracklet.files, frames, strict=True):
        _, jpeg = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        (folder / file).write_bytes(jpeg.tobytes())
    return len(frames)


def _process_context():
    # Forking, as PyTorch's loaders do on Linux, spares scripts the `if __name__ == "__main__"` that spawning needs.
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def _one_thread_per_process() -> None:
    cv2.setNumThreads(0)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


# --- knowing it again -----------------------------------------------------------------------------------------------


def _marker(settings: RenderingSettings) -> dict:
    return {"renderer": RENDERER_VERSION, "arguments": json.loads(json.dumps(asdict(settings)))}


def _read_marker(folder: Path) -> dict:
    """Reads what `folder` was rendered with; raises `InputError` where it was not rendered, or by another version."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        version, _ = marker["renderer"], marker["arguments"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} was not made by this renderer (it has no readable {MARKER}): choose another root, or delete it."
        ) from error
    if version != RENDERER_VERSION:
        raise InputError(
            f"{folder} was rendered by version {version} of the renderer, this is version {RENDERER_VERSION}: "
            "delete it to have it rendered again, or choose another root."
        )
    return marker


def _differences(marker: dict, settings: RenderingSettings) -> str:
    ours = _marker(settings)["arguments"]
    theirs = marker["arguments"]
    names = [field.name for field in fields(settings) if theirs.get(field.name) != ours[field.name]]
    return ", ".join(f"{name} = {theirs.get(name)} instead of {ours[name]}" for name in names)


def _check_same_rendering(folder: Path, settings: RenderingSettings) -> None:
    differences = _differences(_read_marker(folder), settings)
    if differences:
        raise InputError(f"{folder} was rendered with {differences}: choose another root, or delete it.")


class SyntheticMarket(torchreid.data.datasets.Market1501):
    """Rendered people, read as Market-1501; renders the demo on first use, as torchreid's own data sets download.

    Registered with torchreid as ``synthetic``. A folder rendered earlier with other arguments is used as it is, and
    said to be: that is how to train on another size or seed.

    Args:
        root: folder of the data sets; this one lives in ``<root>/synthetic_market``.
        market1501_500k: accepted for torchreid's sake; it is about the real Market-1501.
        **kwargs: passed on to ``torchreid.data.datasets.Market1501``.

    Raises:
        InputError: if the folder cannot be written or holds something else.

    Example:
        >>> import torchreid, hhcl_torchreid.data.datasets
        >>> datamanager = torchreid.data.ImageDataManager(root="reid-data", sources="synthetic")  # doctest: +SKIP
    """

    dataset_dir = "synthetic_market"
    dataset_url = None

    def __init__(self, root: str = "", market1501_500k: bool = False, **kwargs):
        self._tells = kwargs.get("verbose", True)
        super().__init__(root=root, **kwargs)

    def download_dataset(self, dataset_dir: str, dataset_url: str | None) -> None:
        """Renders the demo into ``dataset_dir`` unless a complete rendering is there already.

        Args:
            dataset_dir: folder that holds, or will hold, ``Market-1501-v15.09.15``.
            dataset_url: ignored.

        Raises:
            InputError: if the folder cannot be written or holds something else.
        """
        if re.search(r"[-\d]+_c\d", dataset_dir):
            raise InputError(
                f"torchreid would read a person and a camera out of the folder name {dataset_dir}: choose a root "
                "without a number followed by _c and a digit."
            )
        folder = Path(dataset_dir) / MARKET_FOLDER
        if not folder.exists():
            render_market1501(dataset_dir)
            return
        differences = _differences(_read_marker(folder), RenderingSettings())
        if differences and self._tells:
            print(f"=> {folder} is not the demo: rendered with {differences}")


def _register() -> None:
    # torchreid refuses a name it knows: a reloaded module or a notebook cell run twice must not fail for that.
    try:
        torchreid.data.register_image_dataset("synthetic", SyntheticMarket)
    except ValueError as error:
        if "already exists" not in str(error):
            raise


_register()
