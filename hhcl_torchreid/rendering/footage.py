"""Footage: cameras past which people walk, as videos, with the truth and with what a tracker would make of them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from ..files import replacing_folder
from ..footage import Boxes, write_tracks
from ..log import progress_bar
from .appearance import Person, sample_person
from .camera import Camera, develop, sample_camera
from .figure import Pose, View, draw_person
from .marker import check_same_rendering, write_marker
from .settings import FRAMES_PER_SECOND, FootageSettings
from .streams import Stream, random_stream
from .tracker import track_people
from .tracklet import draw_shadow
from .walkers import Ground, Visit, plan_visits

__all__ = ["render_footage"]

ZOOM = 2
"""People are drawn larger and shrunk: shapes get soft edges, as from a lens."""
TYPICAL_HEIGHT = 0.4
"""Share of the picture's height that people take."""


def render_footage(folder: str | os.PathLike[str], **settings: Any) -> Path:
    """Renders what several cameras see of the same people.

    For each camera, ``c1``, ``c2`` and so on: ``c1.mp4``, the video; ``c1.truth.txt``, the true boxes, numbered by
    person, the same person with the same number at every camera; ``c1.tracks.txt``, what a tracker would give, see
    :func:`~hhcl_torchreid.rendering.track_people`. A true box bounds all of a person, hidden parts too, and is there
    while its middle is in the picture. People are those of the seed: person 7 looks as in ``render_market1501``.

    The same settings give the same text files, byte for byte, and the same pictures. The folder appears when it is
    complete; when it is already there, rendered with the same settings, nothing is done.

    Args:
        folder: what is made.
        **settings: those of :class:`FootageSettings`.

    Returns:
        The folder.

    Raises:
        InputError: a setting is out of range, or the folder exists with other contents or cannot be written.
    """
    checked = FootageSettings(**settings)
    folder = Path(folder)
    if folder.exists():
        check_same_rendering(folder, checked)
        return folder
    visits = plan_visits(checked)
    total = checked.num_cameras * checked.num_frames
    with (
        replacing_folder(folder, option="--footage") as draft,
        progress_bar(total=total, desc="rendering footage", unit="frame") as progress,
    ):
        for camera in range(checked.num_cameras):
            _render_camera(draft / f"c{camera + 1}", camera, visits, checked, progress)
        write_marker(draft, checked)
    return folder


def _render_camera(name: Path, camera: int, visits: list[Visit], settings: FootageSettings, progress: Any) -> None:
    size = settings.height, settings.width
    video = cv2.VideoWriter(f"{name}.mp4", cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_PER_SECOND, size[::-1])
    seen = []
    for picture, boxes in _take(camera, [visit for visit in visits if visit.camera == camera], settings):
        video.write(picture)
        seen += boxes
        progress.update()
    video.release()
    if not os.path.exists(f"{name}.mp4"):
        raise InputError(f"OpenCV cannot write {name}.mp4: install an opencv-python-headless with FFmpeg")
    table = np.array(sorted(seen), np.float64).reshape(-1, 6)
    frame, person = table[:, :2].astype(np.int64).T
    truth = Boxes(frame, person, table[:, 2:], np.ones(len(table)))
    write_tracks(f"{name}.truth.txt", truth, option="--footage")
    tracks = track_people(truth, size, random_stream(settings.seed, Stream.TRACKER, camera))
    write_tracks(f"{name}.tracks.txt", tracks, option="--footage")


def _take(camera: int, visits: list[Visit], settings: FootageSettings) -> Iterator[tuple[np.ndarray, list]]:
    """Each frame: the picture, blue-green-red, and the true boxes (frame, person, left, top, width, height)."""
    ground = Ground(settings.height, settings.width)
    eye = sample_camera(settings.seed, camera, settings.light)
    # Blur is a share of the height of a picture that a person fills.
    eye = replace(eye, blur=TYPICAL_HEIGHT * eye.blur)
    people = {visit.person: sample_person(settings.seed, visit.person) for visit in visits}
    margin = round(0.5 * ZOOM * settings.height)
    stage = _set_stage(eye, random_stream(settings.seed, Stream.SHOT, camera, 0), settings, margin)
    for frame in range(settings.num_frames):
        canvas, boxes = stage.copy(), []
        there = [visit for visit in visits if visit.begin <= frame < visit.end]
        for visit in sorted(there, key=lambda visit: -visit.depth(frame)):
            view = visit.view(frame, ground, eye.pitch, eye.light, ZOOM, margin)
            left, top, right, bottom = _draw(canvas, people[visit.person], visit.pose(frame), view)
            left, right = left - margin, right - margin
            if 0 <= left + right < 2 * ZOOM * settings.width:
                sides = np.array([left, top, right - left, bottom - top]) / ZOOM
                boxes.append((frame + 1, visit.person, *sides.tolist()))
        rng = random_stream(settings.seed, Stream.SHOT, camera, frame + 1)
        exposure = 1 + 0.06 * np.sin(2 * np.pi * (frame / 230 + camera / 3))
        seen = canvas[:, margin : margin + ZOOM * settings.width]
        picture = develop(eye, seen, exposure, settings.height, settings.width, rng)
        yield picture[..., ::-1], boxes


def _set_stage(camera: Camera, rng: np.random.Generator, settings: FootageSettings, margin: int) -> np.ndarray:
    """The camera's part of its scene, with a margin at both sides, in which people are drawn whole too."""
    rows, columns = camera.scene.shape[:2]
    wide = min(columns, round(rows * settings.width / settings.height))
    left = int(rng.integers(0, columns - wide + 1))
    size = ZOOM * settings.width, ZOOM * settings.height
    stage = cv2.resize(camera.scene[:, left : left + wide], size, interpolation=cv2.INTER_LINEAR)
    return cv2.copyMakeBorder(stage, 0, 0, margin, margin, cv2.BORDER_REPLICATE)


def _draw(canvas: np.ndarray, person: Person, pose: Pose, view: View) -> tuple[int, int, int, int]:
    """Draws a person, and tells what it covers: left, top, right, bottom."""
    draw_shadow(canvas, view)
    left, top = max(0, int(view.centre - 0.6 * view.scale)), max(0, int(view.ground - 1.2 * view.scale))
    around = canvas[top : int(view.ground + 0.2 * view.scale), left : int(view.centre + 0.6 * view.scale)]
    before = around.copy()
    draw_person(canvas, person, pose, view)
    changed = cv2.absdiff(around, before).reshape(len(around), -1)
    first, above, wide, high = cv2.boundingRect(changed)
    return left + first // 3, top + above, left + (first + wide + 2) // 3, top + above + high
