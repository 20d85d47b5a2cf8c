"""Scenes: the street that a camera looks at, the background of a tracklet in it, and what stands in the way."""

import cv2
import numpy as np

from .streams import Colour, jittered, shaded

__all__ = ["cut_backdrop", "draw_occluder", "paint_scene"]

SCENE_ROWS = 288
SCENE_COLUMNS = 1024

MATERIALS: tuple[Colour, ...] = (
    (150, 148, 142),
    (112, 110, 108),
    (176, 164, 146),
    (138, 92, 72),
    (92, 104, 82),
    (88, 112, 66),
    (198, 198, 194),
    (104, 118, 130),
    (74, 72, 74),
    (160, 134, 104),
)


def paint_scene(rng: np.random.Generator) -> np.ndarray:
    """Paints everything that one camera can see behind people.

    Args:
        rng: stream of the camera.

    Returns:
        (288, 1024, 3) uint8, red-green-blue.
    """
    scene = np.empty((SCENE_ROWS, SCENE_COLUMNS, 3), np.uint8)
    horizon = int(SCENE_ROWS * rng.uniform(0.40, 0.66))
    wall, ground = (jittered(rng, MATERIALS[i], 10) for i in rng.choice(len(MATERIALS), 2, replace=False))
    scene[:horizon] = wall
    scene[horizon:] = ground
    for _ in range(rng.integers(4, 8)):
        _paint_facade(scene, rng, horizon)
    _paint_ground(scene, rng, horizon, ground)
    for _ in range(rng.integers(14, 30)):
        _paint_thing(scene, rng, horizon + 0.25 * rng.random() * (SCENE_ROWS - horizon))
    return _weathered(scene, rng)


def _paint_facade(scene: np.ndarray, rng: np.random.Generator, horizon: int) -> None:
    left, width = int(rng.integers(-60, SCENE_COLUMNS)), int(rng.integers(90, 320))
    colour = jittered(rng, MATERIALS[rng.integers(len(MATERIALS))], 18)
    top = int(rng.integers(-40, horizon // 2))
    cv2.rectangle(scene, (left, top), (left + width, horizon), colour, -1)
    pitch_across, pitch_down = int(rng.integers(18, 60)), int(rng.integers(20, 60))
    inset = shaded(colour, rng.choice([0.55, 0.75, 1.25]))
    for column in range(left + 6, left + width - 8, pitch_across):
        for row in range(top + 6, horizon - 8, pitch_down):
            corner = (min(column + int(0.62 * pitch_across), left + width), min(row + int(0.6 * pitch_down), horizon))
            cv2.rectangle(scene, (column, row), corner, inset, -1)


def _paint_ground(scene: np.ndarray, rng: np.random.Generator, horizon: int, ground: Colour) -> None:
    line = shaded(ground, rng.choice([0.75, 0.85, 1.15]))
    vanishing = (int(rng.integers(0, SCENE_COLUMNS)), horizon - 30)
    for column in range(-3 * SCENE_COLUMNS, 4 * SCENE_COLUMNS, int(rng.integers(60, 240))):
        start = (vanishing[0] + (column - vanishing[0]) // 8, horizon)
        cv2.line(scene, start, (column, SCENE_ROWS + 60), line, 1, cv2.LINE_AA)
    row, step = float(horizon), rng.uniform(3, 9)
    while row < SCENE_ROWS:
        cv2.line(scene, (0, int(row)), (SCENE_COLUMNS, int(row)), line, 1)
        row, step = row + step, step * 1.35


def _paint_thing(picture: np.ndarray, rng: np.random.Generator, foot: float, size: float = 1.0) -> None:
    """Paints a tree, pole, sign, box, wheel or bench standing on row ``foot``."""
    column, base = int(rng.integers(0, picture.shape[1])), int(foot)
    colour = _muted(rng)
    kind = rng.integers(6)
    tall, wide = int(size * rng.uniform(30, 130)), int(size * rng.uniform(8, 60))
    if kind == 0:
        leaf = jittered(rng, (64, 104, 52), 16)
        cv2.line(picture, (column, base), (column, base - tall), (72, 56, 44), max(2, wide // 8))
        for _ in range(14):
            centre = (column + int(rng.normal(0, wide * 0.5)), base - tall + int(rng.normal(0, tall * 0.22)))
            cv2.circle(
                picture, centre, int(rng.uniform(5, 16) * size), shaded(leaf, rng.uniform(0.6, 1.3)), -1, cv2.LINE_AA
            )
    elif kind == 1:
        cv2.rectangle(picture, (column, base - 2 * tall), (column + max(2, wide // 7), base), colour, -1)
    elif kind == 2:
        cv2.rectangle(picture, (column, base - tall), (column + wide, base - tall // 2), colour, -1)
        cv2.rectangle(picture, (column, base - tall), (column + wide, base - tall // 2), shaded(colour, 0.5), 2)
    elif kind == 3:
        cv2.rectangle(picture, (column, base - tall // 2), (column + wide, base), colour, -1)
        cv2.rectangle(
            picture, (column, base - tall // 2), (column + wide, base - tall // 2 + 4), shaded(colour, 1.3), -1
        )
    elif kind == 4:
        radius = max(4, tall // 6)
        for shift in (0, int(2.4 * radius)):
            cv2.circle(picture, (column + shift, base - radius), radius, (34, 34, 38), 2, cv2.LINE_AA)
        cv2.line(picture, (column, base - radius), (column + int(2.4 * radius), base - int(2.1 * radius)), colour, 2)
    else:
        roof = (column + wide, base - tall // 3)
        cv2.ellipse(picture, roof, (wide, tall // 4), 0, 180, 360, shaded(colour, 0.8), -1, cv2.LINE_AA)
        cv2.rectangle(
            picture, (column - wide // 3, base - tall // 3), (column + 2 * wide + wide // 3, base), colour, -1
        )


def _muted(rng: np.random.Generator) -> Colour:
    # Streets are greyer than clothes; now and then something is painted.
    vivid = 1.0 if rng.random() < 0.15 else 0.35
    colour = rng.uniform(30, 215, 3)
    red, green, blue = (vivid * colour + (1 - vivid) * colour.mean()).tolist()
    return red, green, blue


def _weathered(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = picture.shape[:2]
    patches = rng.normal(1.0, 0.09, (9, 24, 1)) + rng.normal(0.0, 0.025, (9, 24, 3))
    specks = rng.normal(1.0, 0.07, (rows // 2, columns // 2)).astype(np.float32)
    stains = cv2.resize(patches.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    grain = cv2.resize(specks, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture * stains * grain[..., None], 0, 255).astype(np.uint8)


def cut_backdrop(scene: np.ndarray, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Cuts the background of one tracklet out of a camera's scene and clutters it.

    Args:
        scene: what the camera can see, (288, 1024, 3) uint8.
        rng: stream of the tracklet.
        rows: height of the cut, pixels.
        columns: width of the cut, pixels.

    Returns:
        (rows, columns, 3) uint8, red-green-blue.
    """
    high = int(SCENE_ROWS * rng.uniform(0.55, 1.0))
    wide = min(SCENE_COLUMNS, max(8, int(high * columns / rows * rng.uniform(0.8, 1.25))))
    top = int(rng.integers(0, SCENE_ROWS - high + 1))
    left = int(rng.integers(0, SCENE_COLUMNS - wide + 1))
    cut = scene[top : top + high, left : left + wide]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    cut = cv2.resize(np.ascontiguousarray(cut), (columns, rows), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(1, 6)):
        _paint_thing(cut, rng, rows * rng.uniform(0.35, 0.9), size=rows / SCENE_ROWS)
    corners = rng.uniform(0.62, 1.25, (2, 2, 1)) * rng.uniform(0.9, 1.1, (1, 1, 3))
    shading = cv2.resize(corners.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(cut * shading, 0, 255).astype(np.uint8)


def draw_occluder(canvas: np.ndarray, kind: str, colour: Colour, place: float) -> None:
    """Paints what stands between camera and person, in place.

    Args:
        canvas: (H, W, 3) uint8, red-green-blue.
        kind: ``pole``, ``bush``, ``rail`` or ``car``.
        colour: its colour.
        place: where it stands, 0 (left edge) to 1 (right edge).
    """
    rows, columns = canvas.shape[:2]
    middle = int(place * columns)
    if kind == "pole":
        half = columns // 14
        cv2.rectangle(canvas, (middle - half, 0), (middle + half, rows), colour, -1)
        cv2.rectangle(canvas, (middle - half, 0), (middle - half // 2, rows), shaded(colour, 1.25), -1)
    elif kind == "bush":
        for step in range(9):
            centre = (middle + (step % 3 - 1) * columns // 6, rows - (step // 3) * rows // 11)
            leaf = shaded((58, 96, 48), 0.75 + 0.09 * (step * 5 % 7))
            cv2.circle(canvas, centre, columns // 6, leaf, -1, cv2.LINE_AA)
    elif kind == "rail":
        for height in (0.62, 0.74, 0.86):
            cv2.line(canvas, (0, int(height * rows)), (columns, int(height * rows)), colour, max(2, rows // 60))
        cv2.rectangle(canvas, (middle, int(0.6 * rows)), (middle + columns // 16, rows), colour, -1)
    else:
        side = 1 if place > 0.5 else -1
        centre = (columns // 2 + side * columns // 2, rows)
        cv2.ellipse(canvas, centre, (int(0.75 * columns), rows // 4), 0, 180, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(canvas, centre, (columns // 2, rows // 6), 0, 180, 360, shaded(colour, 0.55), -1, cv2.LINE_AA)
