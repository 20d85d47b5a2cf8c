"""Walkers: who passes which camera when, and where each is on the picture."""

import math
from dataclasses import dataclass

import numpy as np

from .figure import Pose, View
from .settings import FootageSettings
from .streams import Stream, choose, random_stream

__all__ = ["Ground", "Visit", "plan_visits"]

VISIT_FRAMES = (50, 200)
PACE = 0.082
"""Standing heights that people walk in a frame: 1.4 m/s for 1.7 m, at 10 frames a second."""
TWO_STEPS = 0.85
"""Standing heights that two steps take them on."""
ASIDE = 0.4
"""Standing heights beside the picture at which a walk begins and ends."""
ROUNDING = 9
"""Frames over which a corner of the way is rounded."""


@dataclass(frozen=True)
class Ground:
    """The flat ground that a camera looks at, and the pinhole through which it does.

    Places on it are (right of the camera's axis, away from the camera), in standing heights.

    Attributes:
        height: rows of the picture, pixels.
        width: columns of the picture, pixels.
    """

    height: int
    width: int

    @property
    def focal(self) -> float:
        """Pixels that a standing height takes at a distance of one."""
        return 0.9 * self.width

    @property
    def depths(self) -> tuple[float, float]:
        """Nearest and farthest distance of people, who are 0.55 and 0.25 of the picture high there."""
        return self.focal / (0.55 * self.height), self.focal / (0.25 * self.height)

    def reach(self, depth: float) -> float:
        """How far to the right the picture ends at a distance."""
        return 0.5 * self.width * depth / self.focal

    def project(self, place: np.ndarray) -> tuple[float, float, float]:
        """Where a person stands in the picture: column and row of the feet, and the standing height, in pixels."""
        size = self.focal / place[1]
        # The row of the horizon, which lies above that of the painted scene, whatever the camera.
        horizon = 0.4 * self.height
        row = horizon + (0.97 * self.height - horizon) * size / (0.55 * self.height)
        return 0.5 * self.width + size * place[0], row, size


@dataclass(frozen=True)
class Visit:
    """One person passing one camera.

    Attributes:
        person: number of the person.
        camera: number of the camera, from 0.
        begin: frame, counted from 0, in which the way begins, beside the picture.
        way: (L, 2) float64, the place on the ground in each frame.
        yaw: (L,) float64, where the person faces, as in :class:`~hhcl_torchreid.rendering.figure.View`.
        phase: (L,) float64, of the walking, as in :class:`~hhcl_torchreid.rendering.figure.Pose`.
        arms: what the arms do.
        vigour: factor on the stride.
    """

    person: int
    camera: int
    begin: int
    way: np.ndarray
    yaw: np.ndarray
    phase: np.ndarray
    arms: str
    vigour: float

    @property
    def end(self) -> int:
        """The frame after the last."""
        return self.begin + len(self.way)

    def depth(self, frame: int) -> float:
        """Distance from the camera, standing heights."""
        return float(self.way[frame - self.begin, 1])

    def pose(self, frame: int) -> Pose:
        """What the person does in a frame."""
        return Pose(float(self.phase[frame - self.begin]), self.arms, self.vigour)

    def view(self, frame: int, ground: Ground, pitch: float, light: float, zoom: int, margin: int) -> View:
        """How the person is seen in a frame, on a drawing ``zoom`` times the picture with a margin at its left."""
        column, row, size = ground.project(self.way[frame - self.begin])
        yaw = float(self.yaw[frame - self.begin])
        return View(yaw, pitch, zoom * column + margin, zoom * row, zoom * size, light)


def plan_visits(settings: FootageSettings) -> list[Visit]:
    """Sends people past cameras.

    Each person passes most cameras one to three times, never two at once, as long as the time lasts.

    Args:
        settings: of the footage.

    Returns:
        The visits, by person and time. Those of a person are the same whatever the number of people.
    """
    return [visit for person in range(1, settings.num_people + 1) for visit in _plan_person(settings, person)]


def _plan_person(settings: FootageSettings, person: int) -> list[Visit]:
    rng = random_stream(settings.seed, Stream.WALK, person)
    times = rng.integers(1, 4, settings.num_cameras) * (rng.random(settings.num_cameras) < 0.85)
    cameras = rng.permutation(np.repeat(np.arange(settings.num_cameras), times))
    ground = Ground(settings.height, settings.width)
    most = min(VISIT_FRAMES[1], settings.num_frames)
    ways = [_choose_way(ground, int(camera), rng, most) for camera in cameras]
    ends = np.cumsum([len(way) for way in ways], dtype=np.int64)
    fitting = int((ends <= settings.num_frames).sum())
    free = settings.num_frames - int(ends[fitting - 1]) if fitting else 0
    waits = np.sort(rng.integers(0, free + 1, fitting))
    return [
        _make_visit(person, int(camera), int(end - len(way) + wait), way, rng)
        for camera, end, wait, way in zip(cameras, ends, waits, ways, strict=False)
    ]


def _choose_way(ground: Ground, camera: int, rng: np.random.Generator, most: int) -> np.ndarray:
    """A way across the picture, in it for 50 to ``most`` frames."""
    while True:
        corners = [_beside(ground, _usual_side(camera) if rng.random() < 0.72 else -_usual_side(camera), rng)]
        for _ in range(rng.integers(0, 4)):
            depth = rng.uniform(*ground.depths)
            corners.append((0.7 * ground.reach(depth) * rng.uniform(-1, 1), depth))
        corners.append(_beside(ground, -np.sign(corners[0][0]) * (1 if rng.random() < 0.8 else -1), rng))
        way = _walk_along(np.array(corners), PACE * rng.uniform(0.8, 1.2))
        if VISIT_FRAMES[0] <= (np.abs(way[:, 0]) < ground.reach(1.0) * way[:, 1]).sum() and len(way) <= most:
            return way


def _usual_side(camera: int) -> int:
    """The side from which most people come, so that cameras see other sides of them."""
    return 1 if camera % 2 else -1


def _beside(ground: Ground, side: float, rng: np.random.Generator) -> tuple[float, float]:
    depth = rng.uniform(*ground.depths)
    return side * (ground.reach(depth) + ASIDE), depth


def _walk_along(corners: np.ndarray, pace: float) -> np.ndarray:
    """Places along a polygon, ``pace`` apart, with its corners rounded."""
    so_far = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    steps = np.arange(0.0, so_far[-1], pace)
    way = np.stack([np.interp(steps, so_far, corners[:, axis]) for axis in (0, 1)], 1)
    padded = np.pad(way, ((ROUNDING // 2, ROUNDING // 2), (0, 0)), "reflect", reflect_type="odd")
    return np.stack([np.convolve(padded[:, axis], np.full(ROUNDING, 1 / ROUNDING), "valid") for axis in (0, 1)], 1)


def _make_visit(person: int, camera: int, begin: int, way: np.ndarray, rng: np.random.Generator) -> Visit:
    steps = np.gradient(way, axis=0)
    walked = np.cumsum(np.linalg.norm(steps, axis=1))
    return Visit(
        person=person,
        camera=camera,
        begin=begin,
        way=way,
        yaw=np.arctan2(steps[:, 0], -steps[:, 1]),
        phase=rng.uniform(0, 2 * math.pi) + 2 * math.pi / TWO_STEPS * walked,
        arms=choose(rng, {"swing": 7, "pockets": 1.5, "phone": 1.5}),
        vigour=rng.uniform(0.7, 1.1),
    )
