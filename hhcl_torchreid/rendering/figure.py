"""Drawing a person: a walking figure of solid parts, turned to any side, projected and painted from back to front."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .appearance import Person
from .streams import Colour, shaded

__all__ = ["Pose", "View", "draw_person"]

SUBPIXEL_BITS = 4
ANKLE = 0.035
THIGH = 0.232
SHIN = 0.222
UPPER_ARM = 0.165
FOREARM = 0.150

Point = tuple[float, float]
Joint = tuple[float, float, float]
Levels = list[tuple[float, float, float]]
"""Elliptic slices of a solid, top first: (up, half width, half depth) in units of the standing height."""
Part = tuple[float, Callable[[], None]]


@dataclass(frozen=True)
class Pose:
    """What a person does in one frame.

    Attributes:
        phase: walking phase in radians; 2 pi is two steps.
        arms: ``swing``, ``pockets`` or ``phone``.
        vigour: factor on the stride; 0 stands still.
    """

    phase: float
    arms: str = "swing"
    vigour: float = 1.0


@dataclass(frozen=True)
class View:
    """Where a person stands in the picture and from which side it is seen.

    Attributes:
        yaw: direction the person faces, radians: 0 to the camera, pi / 2 to the right of the picture, pi away.
        pitch: how far the camera looks down, radians.
        centre: column of the body's axis, pixels.
        ground: row of the feet, pixels.
        scale: standing height, pixels.
        light: side the light comes from, -1 (left) to 1 (right).
    """

    yaw: float
    pitch: float
    centre: float
    ground: float
    scale: float
    light: float

    def project(self, side: float, up: float, forward: float) -> Point:
        """Maps a point of the body (units of the standing height) to (column, row) in pixels."""
        column = side * math.cos(self.yaw) + forward * math.sin(self.yaw)
        row = self.nearness(side, forward) * math.sin(self.pitch) - up * math.cos(self.pitch)
        return self.centre + self.scale * column, self.ground + self.scale * row

    def nearness(self, side: float, forward: float) -> float:
        """How much nearer to the camera than the body's axis a point is, in units of the standing height."""
        return forward * math.cos(self.yaw) - side * math.sin(self.yaw)


def draw_person(canvas: np.ndarray, person: Person, pose: Pose, view: View) -> None:
    """Paints a person onto a picture, in place.

    Args:
        canvas: (H, W, 3) uint8, red-green-blue; parts outside are cut off.
        person: who it is.
        pose: what it does.
        view: where it stands and how it is seen.
    """
    figure = _Figure(canvas, person, pose, view)
    for _, paint in sorted(figure.parts(), key=lambda part: part[0]):
        paint()


class _Figure:
    """One drawing of one person: collects the parts with their nearness, each ready to be painted."""

    def __init__(self, canvas: np.ndarray, person: Person, pose: Pose, view: View):
        self.canvas = canvas
        self.person = person
        self.pose = pose
        self.view = view
        swing = person.stride * pose.vigour * math.sin(pose.phase)
        # Legs spread in a step lower the hips: without it the figure would float.
        self.lift = 0.495 * (person.leg_length - 1) - 0.22 * person.leg_length * swing**2

    def parts(self) -> list[Part]:
        """Lists (nearness, painter) of every part; legs go under the skirt, the skirt under the top."""
        parts: list[Part] = [(0.0, self._torso), (0.004, self._head), (-0.01, self._neck), (-0.5, self._bottom)]
        for side in (-1, 1):
            parts += self._leg(side)
            parts += self._arm(side)
        parts += self._hair_behind() + self._bag()
        return parts

    # --- solids -------------------------------------------------------------------------------------------------

    def _column(self, levels: Levels, texture: np.ndarray, side: float = 0.0, forward: float = 0.0) -> None:
        """Paints a stack of elliptic slices with an unrolled texture."""
        view = self.view
        slices = np.asarray(levels, np.float32)
        middles = [
            view.project(side, up + self.lift, forward + self.person.lean * (up - 0.5) * 2)
            for up in slices[:, 0].tolist()
        ]
        rows_at = [row for _, row in middles]
        half_at = np.hypot(slices[:, 1] * math.cos(view.yaw), slices[:, 2] * math.sin(view.yaw)) * view.scale
        first, last = max(0, math.floor(rows_at[0])), min(self.canvas.shape[0], math.ceil(rows_at[-1]))
        if first >= last:
            return
        rows = np.arange(first, last, dtype=np.float32) + 0.5
        half = np.interp(rows, rows_at, half_at).astype(np.float32)[:, None]
        middle = np.interp(rows, rows_at, [column for column, _ in middles]).astype(np.float32)[:, None]
        left = max(0, math.floor(float((middle - half).min())) - 1)
        right = min(self.canvas.shape[1], math.ceil(float((middle + half).max())) + 1)
        if left >= right:
            return
        offset = np.arange(left, right, dtype=np.float32) + 0.5 - middle
        coverage = np.minimum(np.maximum(half - np.abs(offset) + 0.5, 0), 1)
        angle = np.arcsin(np.minimum(np.maximum(offset / np.maximum(half, 1e-3), -1), 1))
        drop = (rows - rows_at[0]) / max(rows_at[-1] - rows_at[0], 1e-3)
        colours = _look_up(texture, drop, angle - view.yaw)
        colours *= (0.70 + 0.36 * np.cos(angle - 0.9 * view.light))[..., None]
        patch = self.canvas[first:last, left:right]
        blended = patch + coverage[..., None] * (np.minimum(colours, 255) - patch)
        patch[:] = blended.astype(np.uint8)

    def _limb(self, start: Point, end: Point, radii: tuple[float, float], colour: Colour) -> None:
        """Paints a tapered capsule with a dark rim and a lit flank; radii in units of the standing height."""
        rim = 0.004 * self.view.scale
        thick, thin = (radius * self.view.scale for radius in radii)
        _fill_capsule(self.canvas, start, end, thick + rim, thin + rim, shaded(colour, 0.62))
        _fill_capsule(self.canvas, start, end, thick, thin, shaded(colour, 0.86))
        shift = 0.35 * self.view.light
        lit_start = (start[0] + shift * thick, start[1])
        lit_end = (end[0] + shift * thin, end[1])
        _fill_capsule(self.canvas, lit_start, lit_end, 0.55 * thick, 0.55 * thin, colour)

    def _project(self, point: Joint) -> Point:
        return self.view.project(*point)

    # --- trunk and head -----------------------------------------------------------------------------------------

    def _torso(self) -> None:
        person = self.person
        deep = person.girth
        flare = 1.25 if person.bottom == "dress" else 1.0
        belly = max(person.hip, 0.8 * person.girth + 0.028)
        levels = [
            (0.850, 0.042, 0.040),
            (0.828, 0.78 * person.shoulder, 0.75 * deep),
            (0.800, person.shoulder, 0.95 * deep),
            (0.720, 0.90 * person.shoulder, 1.05 * deep),
            (0.600, 0.93 * belly, deep),
            (0.520, 1.06 * belly, 1.05 * deep),
        ]
        levels.append((person.hem, 1.08 * belly * flare, 1.04 * deep * flare))
        self._column(levels, person.torso_texture)

    def _bottom(self) -> None:
        person = self.person
        if person.bottom == "dress":
            return
        belly = max(person.hip, 0.8 * person.girth + 0.028)
        levels = [(0.56, 0.98 * belly, person.girth), (0.50, 1.05 * belly, person.girth)]
        if person.bottom == "skirt":
            levels.append((person.bottom_length, 1.3 * belly, 1.35 * person.girth))
        else:
            levels.append((0.455, 1.0 * belly, 0.95 * person.girth))
        self._column(levels, _plain(person.bottom_colour))

    def _neck(self) -> None:
        self._column([(0.885, 0.030, 0.032), (0.835, 0.036, 0.036)], _plain(shaded(self.person.skin, 0.85)))

    def _head(self) -> None:
        person = self.person
        size = person.head
        crown = 0.868 + 0.132 * size
        puff = {"afro": 1.35, "bob": 1.12}.get(person.hair_style, 1.0)
        wide, deep = 0.052 * size, 0.061 * size
        profile = [
            (0.0, 0.15),
            (0.06, 0.55),
            (0.18, 0.88),
            (0.38, 1.0),
            (0.62, 0.97),
            (0.82, 0.78),
            (0.95, 0.5),
            (1.0, 0.3),
        ]
        levels = []
        for drop, share in profile:
            share *= puff if drop < 0.5 else 1.0
            levels.append((crown - drop * (crown - 0.862), wide * share, deep * share))
        if person.hair_style == "afro" and person.hat == "none":
            levels[0] = (crown + 0.02, levels[0][1], levels[0][2])
        self._column(levels, person.head_texture, forward=0.012)
        if person.hat == "cap" and math.cos(self.view.yaw) > -0.75:
            self._cap_brim(crown - 0.34 * (crown - 0.862), deep)

    def _cap_brim(self, up: float, deep: float) -> None:
        start = self._project((0.0, up + self.lift, 0.012 + 0.7 * deep))
        end = self._project((0.0, up + self.lift - 0.008, 0.012 + 1.75 * deep))
        self._limb(start, end, (0.016 + 0.018 * abs(math.cos(self.view.yaw)), 0.008), self.person.hat_colour)

    def _hair_behind(self) -> list[Part]:
        person = self.person
        nearness = 0.16 * self.view.nearness(0.0, -1.0)
        if person.hair_style in ("long", "bob"):
            bottom = 0.74 if person.hair_style == "long" else 0.85
            levels = [(0.96, 0.045, 0.03), (0.92, 0.056, 0.042), (0.86, 0.058, 0.042), (bottom, 0.050, 0.030)]
            return [(nearness, lambda: self._column(levels, _plain(person.hair), forward=-0.022))]
        if person.hair_style in ("ponytail", "bun"):
            reach = 0.13 if person.hair_style == "ponytail" else 0.01

            def paint() -> None:
                start = self._project((0.0, 0.945 + self.lift, -0.055))
                end = self._project((0.0, 0.945 - reach + self.lift, -0.075))
                self._limb(start, end, (0.022, 0.014 if reach > 0.1 else 0.022), person.hair)

            return [(nearness, paint)]
        return []

    # --- limbs --------------------------------------------------------------------------------------------------

    def _leg(self, side: int) -> list[Part]:
        person = self.person
        phase = self.pose.phase + (math.pi if side > 0 else 0.0)
        stride = person.stride * self.pose.vigour
        swing = stride * math.sin(phase)
        bend = 0.06 + 1.3 * stride * max(0.0, math.cos(phase))
        across = side * 0.55 * person.hip
        hip = (across, 0.485 + self.lift, 0.0)
        knee = _reach(hip, THIGH * person.leg_length, swing)
        ankle = _reach(knee, SHIN * person.leg_length, swing - bend)
        nearness = -1.0 + 0.2 * self.view.nearness(across, 0.5 * ankle[2])
        return [(nearness, lambda: self._paint_leg(hip, knee, ankle, bend))]

    def _paint_leg(self, hip: Joint, knee: Joint, ankle: Joint, bend: float) -> None:
        person = self.person
        covered = person.bottom == "trousers"
        thigh_colour = person.bottom_colour if person.bottom in ("trousers", "shorts") else person.calf_colour
        thick, joint, thin = (radius * person.limb for radius in (0.054, 0.036, 0.026 if covered else 0.020))
        self._paint_foot(ankle, bend)
        calf_colour = person.bottom_colour if covered else person.calf_colour
        self._limb(self._project(knee), self._project(ankle), (joint, thin), calf_colour)
        if person.boots:
            shaft = _between(knee, ankle, 0.35)
            self._limb(self._project(shaft), self._project(ankle), (0.95 * joint, 1.1 * thin), person.shoe)
        self._limb(
            self._project(hip), self._project(knee), (thick, joint), calf_colour if covered else person.calf_colour
        )
        if person.bottom == "shorts":
            edge = _between(hip, knee, person.bottom_length)
            self._limb(self._project(hip), self._project(edge), (thick, 1.1 * joint + 0.006), thigh_colour)

    def _paint_foot(self, ankle: Joint, bend: float) -> None:
        tilt = 0.5 * bend
        heel = (ankle[0], ankle[1] - 0.018, ankle[2] - 0.018)
        toe = (ankle[0], ankle[1] - 0.024 - 0.075 * math.sin(tilt), ankle[2] + 0.085 * math.cos(tilt))
        self._limb(self._project(heel), self._project(toe), (0.024, 0.019), self.person.shoe)

    def _arm(self, side: int) -> list[Part]:
        person, view = self.person, self.view
        swing = -person.arm_swing * self.pose.vigour * math.sin(self.pose.phase + (math.pi if side > 0 else 0.0))
        bend, spread = 0.25 + 0.4 * max(0.0, swing), 0.10 + 0.10 * person.limb
        if self.pose.arms == "pockets":
            swing, bend, spread = -0.25, 0.75, 0.30
        elif self.pose.arms == "phone" and side == person.bag_side * -1:
            swing, bend = 0.45, 1.7
        shoulder = (side * 0.86 * person.shoulder, 0.798 + self.lift, person.lean * 0.6)
        elbow = _reach(shoulder, UPPER_ARM, swing, side * spread)
        hand = _reach(elbow, FOREARM, swing + bend, side * (spread * 0.3 if self.pose.arms == "swing" else -0.35))
        nearness = 0.02 + view.nearness(0.6 * elbow[0], 0.5 * elbow[2])
        parts: list[Part] = [(nearness, lambda: self._paint_arm(shoulder, elbow, hand))]
        if person.bag == "hand" and side == person.bag_side:
            parts.append((nearness - 0.001, lambda: self._hand_bag(hand)))
        return parts

    def _paint_arm(self, shoulder: Joint, elbow: Joint, hand: Joint) -> None:
        person = self.person
        thick, joint, thin = (radius * person.limb for radius in (0.034, 0.028, 0.022))
        bare = person.sleeve != "long"
        fore_colour = person.skin if bare else person.sleeve_colour
        palm = self._project(_between(elbow, hand, 1.08))
        self._limb(palm, palm, (0.021, 0.021), person.skin)
        self._limb(self._project(elbow), self._project(hand), (0.85 * joint if bare else joint, thin), fore_colour)
        self._limb(
            self._project(shoulder), self._project(elbow), (0.9 * thick, joint * (0.88 if bare else 1)), fore_colour
        )
        if person.sleeve == "short":
            edge = _between(shoulder, elbow, 0.6)
            self._limb(self._project(shoulder), self._project(edge), (thick, 1.08 * thick), person.sleeve_colour)

    # --- bags ---------------------------------------------------------------------------------------------------

    def _bag(self) -> list[Part]:
        person = self.person
        behind = -(person.girth + 0.045)
        if person.bag == "backpack":
            return [(self.view.nearness(0.0, behind) * 1.2, lambda: self._backpack(behind))]
        if person.bag == "shoulder":
            across = person.bag_side * (person.hip + 0.035)
            return [(0.03 + self.view.nearness(across, 0.0), lambda: self._shoulder_bag(across))]
        return []

    def _backpack(self, forward: float) -> None:
        levels = [
            (0.825, 0.050, 0.030),
            (0.800, 0.092, 0.052),
            (0.640, 0.104, 0.066),
            (0.575, 0.098, 0.060),
            (0.56, 0.07, 0.05),
        ]
        texture = _plain(self.person.bag_colour).copy()
        texture = np.repeat(np.repeat(texture, 16, 0), 16, 1)
        texture[7:8] *= 0.55
        texture[9:14, 5:11] *= 0.8
        self._column(levels, texture, forward=forward)

    def _shoulder_bag(self, across: float) -> None:
        levels = [(0.535, 0.030, 0.075), (0.525, 0.034, 0.085), (0.435, 0.036, 0.085), (0.425, 0.030, 0.07)]
        self._column(levels, _plain(self.person.bag_colour), side=across)

    def _hand_bag(self, hand: Joint) -> None:
        top = hand[1] - self.lift - 0.03
        levels = [(top, 0.02, 0.03), (top - 0.03, 0.024, 0.06), (top - 0.12, 0.030, 0.082), (top - 0.13, 0.026, 0.07)]
        self._column(levels, _plain(self.person.bag_colour), side=hand[0], forward=hand[2])


def _reach(start: Joint, length: float, swing: float, spread: float = 0.0) -> Joint:
    down = length * math.cos(swing) * math.cos(spread)
    return start[0] + length * math.sin(spread), start[1] - down, start[2] + length * math.sin(swing)


def _between(start: Joint, end: Joint, share: float) -> Joint:
    first, second, third = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return first, second, third


def _plain(colour: Colour) -> np.ndarray:
    return np.asarray(colour, np.float32).reshape(1, 1, 3)


def _look_up(texture: np.ndarray, drop: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Reads an unrolled texture at (R,) drops (0 top, 1 bottom) and (R, C) longitudes: (R, C, 3) float32."""
    rows, columns = texture.shape[:2]
    if rows == columns == 1:
        return np.tile(texture, (*longitude.shape, 1))
    row = np.clip((drop * rows).astype(np.intp), 0, rows - 1)
    column = np.floor((longitude / (2 * np.pi) + 0.5) * columns).astype(np.intp) % columns
    return texture[row[:, None], column]


def _fill_capsule(canvas: np.ndarray, start: Point, end: Point, thick: float, thin: float, colour: Colour) -> None:
    unit = 1 << SUBPIXEL_BITS
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    for (column, row), radius in ((start, thick), (end, thin)):
        centre = (round(column * unit), round(row * unit))
        cv2.circle(canvas, centre, max(1, round(radius * unit)), colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    if length < 1e-3:
        return
    across = ((start[1] - end[1]) / length, (end[0] - start[0]) / length)
    corners = [
        (start[0] + thick * across[0], start[1] + thick * across[1]),
        (end[0] + thin * across[0], end[1] + thin * across[1]),
        (end[0] - thin * across[0], end[1] - thin * across[1]),
        (start[0] - thick * across[0], start[1] - thick * across[1]),
    ]
    cv2.fillConvexPoly(canvas, np.rint(np.multiply(corners, unit)).astype(np.int32), colour, cv2.LINE_AA, SUBPIXEL_BITS)
