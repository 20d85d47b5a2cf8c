"""The writer: renders people into the layout of Market-1501."""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import joblib

from ..errors import InputError
from ..files import remove_leftovers
from ..log import progress_bar
from .camera import sample_camera
from .marker import check_same_rendering, write_marker
from .plan import SUBSETS, Tracklet, plan_tracklets
from .settings import NUM_CAMERAS, RenderingSettings
from .tracklet import render_distractor, render_tracklet

__all__ = ["MARKET_FOLDER", "render_market1501"]

MARKET_FOLDER = "Market-1501-v15.09.15"
WORTH_A_WORKER = 200
"""Images below which a further process costs more time than it saves."""


def render_market1501(root: str | os.PathLike[str], *, workers: int | None = None, **settings: Any) -> Path:
    """Renders a re-identification data set in Market-1501's layout, readable by ``torchreid.data.datasets.Market1501``.

    The same settings give the same files, bit for bit, whatever ``workers`` is. People and cameras are those of the
    seed: person 7 of a small rendering looks as in a large one. The folder appears under its name only when it is
    complete; when it is already there, rendered with the same settings, nothing is done.

    Args:
        root: folder in which ``Market-1501-v15.09.15`` is made; made itself if missing.
        workers: processes that render; None takes as many as there are processors and work for.
        **settings: those of :class:`RenderingSettings`.

    Returns:
        The folder ``<root>/Market-1501-v15.09.15``.

    Raises:
        InputError: if a setting is out of range, the totals cannot be reached within the ranges, ``root`` cannot be
            written, or the folder exists with other contents.

    Example:
        >>> from hhcl_torchreid.rendering import MARKET1501_SIZE, render_market1501
        >>> render_market1501("reid-data/synthetic_market")  # doctest: +SKIP
        >>> render_market1501("reid-data/market_sized", **MARKET1501_SIZE)  # doctest: +SKIP
    """
    checked = RenderingSettings(**settings)
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: give at least 1, or None for as many as there are processors")
    folder = Path(root) / MARKET_FOLDER
    if folder.exists():
        check_same_rendering(folder, checked)
        return folder
    tracklets = list(plan_tracklets(checked))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _render_then_publish(tracklets, folder, checked, workers)
    except OSError as error:
        raise InputError(f"cannot render into {root} ({error.strerror or error}): choose a root with room") from error
    return folder


def _render_then_publish(
    tracklets: list[Tracklet], folder: Path, settings: RenderingSettings, workers: int | None
) -> None:
    """Renders under a passing name, then renames: an interrupted rendering is never taken for a data set."""
    remove_leftovers(folder)
    workshop = Path(tempfile.mkdtemp(f".{os.getpid()}.tmp", f".{folder.name}.", folder.parent))
    try:
        draft = workshop / MARKET_FOLDER
        for subset in SUBSETS:
            (draft / subset).mkdir(parents=True)
        _render_all(tracklets, draft, settings, workers)
        write_marker(draft, settings)
        try:
            draft.rename(folder)
        except OSError:
            # Another process (a second rank, another experiment) was faster: its rendering is as good, if the same.
            if not folder.exists():
                raise
            check_same_rendering(folder, settings)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _render_all(tracklets: list[Tracklet], folder: Path, settings: RenderingSettings, workers: int | None) -> None:
    num_images = sum(len(tracklet.files) for tracklet in tracklets)
    if workers is None:
        workers = max(1, min(joblib.cpu_count(), num_images // WORTH_A_WORKER))
    write = partial(_write_tracklet, folder, settings)
    with progress_bar(total=num_images, desc=f"rendering {folder.parent.parent.name}", unit="image") as progress:
        if workers == 1:
            for tracklet in tracklets:
                progress.update(write(tracklet))
            return
        for camera in range(NUM_CAMERAS):
            sample_camera(settings.seed, camera, settings.light)  # forked workers inherit the painted scenes
        with ProcessPoolExecutor(workers, _process_context(), _prepare_worker, (os.getpid(),)) as pool:
            try:
                for written in pool.map(write, tracklets, chunksize=8):
                    progress.update(written)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # nobody wants what has not begun
                raise


def _write_tracklet(folder: Path, settings: RenderingSettings, tracklet: Tracklet) -> int:
    seed, height, width, light = settings.seed, settings.height, settings.width, settings.light
    quality = sample_camera(seed, tracklet.camera, light).quality
    if tracklet.person == 0:
        frames = [render_distractor(seed, tracklet.index, tracklet.camera, height, width, light)]
    else:
        frames = render_tracklet(seed, tracklet.person, tracklet.camera, len(tracklet.files), height, width, light)
    for file, frame in zip(tracklet.files, frames, strict=True):
        _, jpeg = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        (folder / file).write_bytes(jpeg.tobytes())
    return len(frames)


def _process_context():
    # Forking, as PyTorch's loaders do on Linux, spares scripts the `if __name__ == "__main__"` that spawning needs.
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def _prepare_worker(parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cv2.setNumThreads(0)
    # Ctrl-C reaches all processes of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with(parent: int) -> None:
    """A process that was killed cannot end its workers, and they would wait for it for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
