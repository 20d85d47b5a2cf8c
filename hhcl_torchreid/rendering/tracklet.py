"""Tracklets: one person walking past one camera, a few frames long, before a background of its own."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .appearance import Person, sample_person
from .camera import Camera, develop, sample_camera
from .figure import Pose, View, draw_person
from .scene import cut_backdrop, draw_occluder
from .streams import Colour, Stream, choose, jittered, random_stream

__all__ = ["draw_shadow", "render_distractor", "render_tracklet"]

DRAWING_ROWS = 256
MARGIN = 16
PASSERS_BY = 1_000_000
"""People of these numbers and above walk through backgrounds and have no identity in any data set."""


@dataclass(frozen=True)
class _Walk:
    """What all frames of a tracklet share."""

    backdrop: np.ndarray
    yaw: float
    turn: float
    phase: float
    pace: float
    arms: str
    vigour: float
    scale: float
    centre: float
    ground: float
    drift: float
    exposure: float
    occluded: range
    occluder_colour: Colour
    occluder_place: float


def render_tracklet(
    seed: int, person: int, camera: int, num_frames: int, height: int = 128, width: int = 64, light: str = "day"
) -> list[np.ndarray]:
    """Renders the frames in which one camera sees one person.

    Args:
        seed: seed of the whole rendering, at least 0.
        person: number of the person, at least 0.
        camera: number of the camera, at least 0.
        num_frames: how many frames. Frame i is the same whatever their number.
        height: rows of a frame, pixels.
        width: columns of a frame, pixels.
        light: a time of the day, one of ``LIGHTS``.

    Returns:
        ``num_frames`` arrays (height, width, 3) uint8, red-green-blue.
    """
    who, eye = sample_person(seed, person), sample_camera(seed, camera, light)
    rows, columns = _drawing_size(height, width)
    walk = _begin_walk(eye, random_stream(seed, Stream.TRACKLET, person, camera), rows, columns)
    frames = []
    for frame in range(num_frames):
        rng = random_stream(seed, Stream.FRAME, person, camera, frame)
        frames.append(
            develop(eye, _draw_frame(who, eye, walk, frame, rng, rows, columns), walk.exposure, height, width, rng)
        )
    return frames


def render_distractor(
    seed: int, index: int, camera: int, height: int = 128, width: int = 64, light: str = "day"
) -> np.ndarray:
    """Renders a box in which a detector erred: background, or a passer-by cut off.

    Args:
        seed: seed of the whole rendering, at least 0.
        index: number of the distractor, at least 0.
        camera: number of the camera, at least 0.
        height: rows, pixels.
        width: columns, pixels.
        light: a time of the day, one of ``LIGHTS``.

    Returns:
        (height, width, 3) uint8, red-green-blue.
    """
    eye = sample_camera(seed, camera, light)
    rng = random_stream(seed, Stream.DISTRACTOR, index)
    rows, columns = _drawing_size(height, width)
    picture = cut_backdrop(eye.scene, rng, rows, columns)
    if rng.random() < 0.5:
        zoom = rng.uniform(1.2, 2.2) * rows
        view = View(
            yaw=rng.uniform(0, 2 * math.pi),
            pitch=eye.pitch,
            centre=columns * rng.uniform(-0.1, 1.1),
            ground=rows * rng.uniform(0.7, 1.6),
            scale=zoom,
            light=eye.light,
        )
        draw_person(picture, sample_person(seed, PASSERS_BY + index), Pose(rng.uniform(0, 2 * math.pi)), view)
    return develop(eye, picture, rng.uniform(0.85, 1.2), height, width, rng)


def _drawing_size(height: int, width: int) -> tuple[int, int]:
    # Small pictures are drawn larger and shrunk: shapes get soft edges, as from a lens, and look alike at every size.
    rows = max(height, DRAWING_ROWS)
    return rows, round(rows * width / height)


def _begin_walk(camera: Camera, rng: np.random.Generator, rows: int, columns: int) -> _Walk:
    backdrop = cut_backdrop(camera.scene, rng, rows + 2 * MARGIN, columns + 2 * MARGIN)
    if rng.random() < 0.12:
        _draw_passer_by(backdrop, camera, rng)
    usual = rng.random() < 0.72
    yaw = camera.yaw + (rng.normal(0, 0.28) if usual else rng.uniform(0, 2 * math.pi))
    begin = int(rng.integers(0, 5))
    is_occluded = rng.random() < camera.occlusion
    return _Walk(
        backdrop=backdrop,
        yaw=yaw,
        turn=rng.normal(0, 0.03),
        phase=rng.uniform(0, 2 * math.pi),
        pace=rng.uniform(0.35, 0.9),
        arms=choose(rng, {"swing": 7, "pockets": 1.5, "phone": 1.5}),
        vigour=0.1 if rng.random() < 0.1 else rng.uniform(0.7, 1.1),
        scale=rows * rng.uniform(0.80, 0.95),
        centre=columns * rng.uniform(0.44, 0.56),
        ground=rows * rng.uniform(0.955, 0.985),
        drift=rng.normal(0, 0.012),
        exposure=rng.uniform(0.87, 1.15),
        occluded=range(begin, begin + int(rng.integers(1, 4)) if is_occluded else begin),
        occluder_colour=jittered(rng, (112, 112, 112), 40),
        occluder_place=rng.uniform(0.1, 0.9),
    )


def _draw_passer_by(backdrop: np.ndarray, camera: Camera, rng: np.random.Generator) -> None:
    rows, columns = backdrop.shape[:2]
    view = View(
        yaw=rng.uniform(0, 2 * math.pi),
        pitch=camera.pitch,
        centre=columns * (0.5 + rng.choice([-1, 1]) * rng.uniform(0.28, 0.48)),
        ground=rows * rng.uniform(0.72, 0.9),
        scale=rows * rng.uniform(0.45, 0.7),
        light=camera.light,
    )
    stranger = sample_person(int(rng.integers(2**31)), PASSERS_BY)
    draw_person(backdrop, stranger, Pose(rng.uniform(0, 2 * math.pi)), view)


def _draw_frame(
    person: Person, camera: Camera, walk: _Walk, frame: int, rng: np.random.Generator, rows: int, columns: int
) -> np.ndarray:
    shift_down, shift_across = rng.integers(-5, 6, 2).tolist()
    top, left = MARGIN + shift_down, MARGIN + shift_across
    canvas = walk.backdrop[top : top + rows, left : left + columns].copy()
    view = View(
        yaw=walk.yaw + walk.turn * frame + rng.normal(0, 0.03),
        pitch=camera.pitch,
        centre=walk.centre + columns * walk.drift * frame - shift_across + rng.normal(0, 0.006 * rows),
        ground=walk.ground - shift_down,
        scale=walk.scale * (1 + rng.normal(0, 0.012)),
        light=camera.light,
    )
    draw_shadow(canvas, view)
    draw_person(canvas, person, Pose(walk.phase + walk.pace * frame, walk.arms, walk.vigour), view)
    if frame in walk.occluded:
        place = walk.occluder_place + 0.03 * frame
        draw_occluder(canvas, camera.occluder, walk.occluder_colour, place)
    return canvas


def draw_shadow(canvas: np.ndarray, view: View) -> None:
    """Paints the shadow under a person, in place.

    Args:
        canvas: (H, W, 3) uint8, red-green-blue; parts outside are cut off.
        view: where the person stands.
    """
    column, row = int(view.centre - 0.08 * view.light * view.scale), int(view.ground - 0.012 * view.scale)
    wide, flat = int(0.17 * view.scale), int(0.024 * view.scale)
    top = max(0, row - flat)
    strip = canvas[top : row + flat + 1]
    shade = np.zeros(strip.shape[:2], np.uint8)
    cv2.ellipse(shade, (column, row - top), (wide, flat), 0, 0, 360, 1, -1)
    strip[shade > 0] //= 2
