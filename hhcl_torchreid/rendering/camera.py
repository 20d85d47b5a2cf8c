"""Cameras: the scene, light, colours, lens and angle of each, and the pictures it takes."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .scene import paint_scene
from .streams import Stream, random_stream

__all__ = ["LIGHTS", "Camera", "develop", "sample_camera"]


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
    # Every camera has a tint, a brightness and a sharpness of its own, further apart than people are.
    "mixed": _Light(
        exposure=(-0.90, 1.50, 0.08),
        contrast=(0.65, 0.55),
        cast=(0.20, 0.42),
        saturation=(0.65, 1.30),
        gamma=(0.70, 1.40),
        haze=(0, 20),
        blur=(0.0, 0.009),
        noise=(2.0, 7.0),
        resolution=(0.6, 1.0),
        occlusion=(0.05, 0.2),
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
        scene=paint_scene(rng),
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
