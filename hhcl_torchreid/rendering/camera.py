"""Cameras: the scene each one sees, its light, colours, lens and angle, and what stands in its way."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .streams import Colour, Stream, jittered, random_stream, shaded

__all__ = ["LIGHTS", "Camera", "cut_backdrop", "develop", "draw_occluder", "sample_camera"]

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


@dataclass(frozen=True)
class Camera:
    """One camera of a network.

    Attributes:
        scene: (288, 1024, 3) uint8, everything the camera can see behind people.
        colour_matrix: (3, 4) float32, white balance, saturation, contrast and exposure as one affine map of RGB.
        tone_curve: (256,) uint8, the sensor's response.
        yaw: the side from which people are usually seen, radians as in ``View``.
        pitch: how far the camera looks down, radians.
        light: where the light comes from, -1 (left) to 1 (right).
        blur: radius of the lens blur, as a share of the picture's height.
        noise: standard deviation of the sensor noise, in units of 0 to 255.
        resolution: share of the lines that survive, 1 for all.
        vignette: share of the brightness lost in the corners.
        quality: JPEG quality, 1 to 100.
        occluder: what stands in front of people: ``pole``, ``bush``, ``rail`` or ``car``.
        occlusion: share of the tracklets in which some frames are occluded.
    """

    scene: np.ndarray
    colour_matrix: np.ndarray
    tone_curve: np.ndarray
    yaw: float
    pitch: float
    light: float
    blur: float
    noise: float
    resolution: float
    vignette: float
    quality: int
    occluder: str
    occlusion: float


@dataclass(frozen=True)
class _Light:
    """The ranges in which the cameras of a network differ at one time of the day.

    Exposure is in stops as (least, range, jitter), contrast as (least, range); the others are (least, most).
    ``gains`` are red, green and blue of the light that all cameras share.
    """

    exposure: tuple[float, float, float]
    contrast: tuple[float, float]
    cast: tuple[float, float]
    saturation: tuple[float, float]
    gamma: tuple[float, float]
    haze: tuple[float, float]
    blur: tuple[float, float]
    noise: tuple[float, float]
    resolution: tuple[float, float]
    occlusion: tuple[float, float]
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


LIGHTS = {
    # Sun and shade set the cameras apart.
    "day": _Light(
        exposure=(-0.40, 0.65, 0.06),
        contrast=(0.84, 0.32),
        cast=(0.06, 0.12),
        saturation=(0.75, 1.15),
        gamma=(0.85, 1.18),
        haze=(0, 14),
        blur=(0.0, 0.0085),
        noise=(1.5, 7.0),
        resolution=(0.5, 1.0),
        occlusion=(0.05, 0.3),
    ),
    # All cameras see the same dark, bluish light, and differ less.
    "dusk": _Light(
        exposure=(-0.10, 0.14, 0.02),
        contrast=(0.96, 0.08),
        cast=(0.01, 0.025),
        saturation=(0.92, 1.05),
        gamma=(1.3, 1.4),
        haze=(8, 14),
        blur=(0.0, 0.004),
        noise=(5.0, 9.0),
        resolution=(0.75, 1.0),
        occlusion=(0.03, 0.12),
        gains=(0.40, 0.46, 0.68),
    ),
}


@lru_cache(maxsize=32)
def sample_camera(seed: int, index: int, light: str = "day") -> Camera:
    """Builds camera number ``index``.

    Colour casts, exposures and viewpoints of one seed's cameras are spread evenly before they are jittered: six
    independent draws would now and then give six cameras that agree.

    Args:
        seed: seed of the whole rendering, at least 0.
        index: number of the camera, at least 0.
        light: a time of the day, one of ``LIGHTS``; scenes and angles are the same at any.

    Returns:
        Always the same camera for the same arguments (a shared object: leave its arrays as they are).
    """
    ring = random_stream(seed, Stream.CAMERA_RING)
    cast_start, exposure_start, contrast_start, yaw_start = ring.random(4)
    rng = random_stream(seed, Stream.CAMERA, index)
    cast = 2 * math.pi * (cast_start + index * 0.381966 + rng.normal(0, 0.04))
    ranges = LIGHTS[light]
    darkest, stops, jitter = ranges.exposure
    exposure = 2 ** (darkest + stops * ((exposure_start + index * 0.618034) % 1) + rng.normal(0, jitter))
    flattest, spread = ranges.contrast
    contrast = flattest + spread * ((contrast_start + index * 0.7549) % 1)
    return Camera(
        scene=_paint_scene(rng),
        colour_matrix=np.array(ranges.gains, np.float32)[:, None]
        * _colour_matrix(cast, rng.uniform(*ranges.cast), rng.uniform(*ranges.saturation), exposure, contrast),
        tone_curve=_tone_curve(rng.uniform(*ranges.gamma), rng.uniform(*ranges.haze)),
        yaw=2 * math.pi * (yaw_start + index / 3 + 0.5 * (index // 3 % 2) / 3) + rng.normal(0, 0.15),
        pitch=rng.uniform(0.05, 0.32),
        light=rng.uniform(-1, 1),
        blur=rng.uniform(*ranges.blur),
        noise=rng.uniform(*ranges.noise),
        resolution=rng.uniform(*ranges.resolution),
        vignette=rng.uniform(0.0, 0.3),
        quality=int(rng.integers(72, 94)),
        occluder=str(rng.choice(["pole", "bush", "rail", "car"])),
        occlusion=rng.uniform(*ranges.occlusion),
    )


def _colour_matrix(cast: float, strength: float, saturation: float, exposure: float, contrast: float) -> np.ndarray:
    gains = np.exp(strength * np.cos(cast + np.array([0.0, 2.0944, 4.1888])))
    grey = np.full((3, 3), 1 / 3)
    mixing = exposure * contrast * np.diag(gains) @ (saturation * np.eye(3) + (1 - saturation) * grey)
    lift = np.full((3, 1), 110 * (1 - contrast) * exposure)
    return np.hstack([mixing, lift]).astype(np.float32)


def _tone_curve(gamma: float, haze: float) -> np.ndarray:
    ramp = np.linspace(0, 1, 256) ** gamma
    return np.rint(haze + (255 - haze) * ramp).astype(np.uint8)


# --- scenes -----------------------------------------------------------------------------------------------------


def _paint_scene(rng: np.random.Generator) -> np.ndarray:
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


def cut_backdrop(camera: Camera, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Cuts the background of one tracklet out of the camera's scene and clutters it.

    Args:
        camera: the camera.
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
    cut = camera.scene[top : top + high, left : left + wide]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    cut = cv2.resize(np.ascontiguousarray(cut), (columns, rows), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(1, 6)):
        _paint_thing(cut, rng, rows * rng.uniform(0.35, 0.9), size=rows / SCENE_ROWS)
    corners = rng.uniform(0.62, 1.25, (2, 2, 1)) * rng.uniform(0.9, 1.1, (1, 1, 3))
    shading = cv2.resize(corners.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(cut * shading, 0, 255).astype(np.uint8)


# --- pictures ---------------------------------------------------------------------------------------------------


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


def develop(camera: Camera, light: np.ndarray, exposure: float, height: int, width: int, rng) -> np.ndarray:
    """Turns what is in front of the camera into the picture it takes.

    Args:
        camera: the camera.
        light: (H, W, 3) uint8, red-green-blue, as drawn.
        exposure: factor on the brightness, about 1, of this very picture.
        height: rows of the picture.
        width: columns of the picture.
        rng: stream of the frame, for the sensor noise.

    Returns:
        (height, width, 3) uint8, red-green-blue.
    """
    lines = max(8, round(camera.resolution * height)), max(4, round(camera.resolution * width))
    picture = cv2.resize(light, lines[::-1], interpolation=cv2.INTER_AREA)
    picture = cv2.transform(picture, camera.colour_matrix * exposure)
    picture = cv2.LUT(picture, camera.tone_curve)
    if lines != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    if camera.blur * height > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), camera.blur * height)
    noise = rng.standard_normal((height, width, 3), np.float32) * np.float32(camera.noise)
    noise += picture * _vignette(camera.vignette, height, width)
    return np.clip(noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _vignette(loss: float, height: int, width: int) -> np.ndarray:
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return (1 - 0.5 * loss * (down**2 + across**2))[..., None]
