"""Who a person is: build, hair, skin, clothes, bag, shoes and gait, all drawn from (seed, index)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .streams import Colour, Stream, choose, jittered, random_stream, shaded

__all__ = ["Person", "sample_person"]

TORSO_TEXTURE = (64, 128)
HEAD_TEXTURE = (26, 48)

SKIN_TONES: tuple[Colour, ...] = (
    (242, 208, 182),
    (228, 186, 152),
    (206, 160, 122),
    (172, 124, 88),
    (126, 86, 60),
    (84, 56, 42),
)
HAIR_COLOURS: dict[Colour, float] = {
    (24, 20, 20): 5,
    (54, 36, 26): 4,
    (96, 64, 40): 2,
    (196, 162, 98): 2,
    (150, 76, 40): 1,
    (150, 148, 146): 1,
    (222, 218, 212): 0.5,
}
CLOTH_COLOURS: dict[Colour, float] = {
    (26, 26, 29): 3,
    (66, 68, 74): 1.5,
    (132, 134, 136): 1.5,
    (190, 192, 194): 1,
    (234, 234, 230): 3,
    (28, 36, 82): 1.5,
    (38, 86, 182): 1.5,
    (122, 176, 222): 1.5,
    (16, 126, 130): 1,
    (40, 128, 62): 1.2,
    (104, 108, 58): 1,
    (232, 196, 48): 1.2,
    (226, 122, 36): 1.2,
    (194, 32, 40): 2,
    (108, 26, 46): 1,
    (232, 142, 172): 1.2,
    (104, 56, 142): 1,
    (98, 66, 44): 1,
    (204, 182, 148): 1.2,
}
TROUSER_COLOURS: dict[Colour, float] = {
    (60, 86, 138): 4,
    (32, 42, 74): 3,
    (24, 24, 27): 4,
    (70, 72, 76): 2,
    (128, 130, 132): 1.5,
    (172, 150, 112): 2,
    (224, 222, 216): 1.2,
    (92, 66, 46): 1,
    (92, 98, 60): 0.8,
    (128, 34, 42): 0.6,
    (130, 164, 204): 1,
}
SHOE_COLOURS: dict[Colour, float] = {
    (22, 22, 24): 4,
    (228, 228, 226): 3,
    (92, 60, 40): 2,
    (120, 122, 126): 1.5,
    (190, 40, 44): 1,
    (44, 72, 160): 1,
    (220, 190, 60): 0.4,
}
PATTERNS = {
    "plain": 6.0,
    "print": 3.0,
    "stripes": 2.0,
    "two_tone": 1.5,
    "checks": 1.3,
    "sleeves": 1.3,
    "dots": 0.7,
    "pinstripes": 0.7,
}


@dataclass(frozen=True)
class Person:
    """The unchanging looks of one person.

    Lengths are in units of the standing height, swings in radians. The words:

    - ``hair_style``: ``bald``, ``short``, ``bob``, ``long``, ``ponytail``, ``bun``, ``afro``
    - ``hat``: ``none``, ``cap``, ``beanie``
    - ``pattern``: ``plain``, ``print``, ``stripes``, ``two_tone``, ``checks``, ``sleeves``, ``dots``, ``pinstripes``
    - ``sleeve``: ``long``, ``short``, ``none``
    - ``bottom``: ``trousers``, ``shorts``, ``skirt``, ``dress``
    - ``bag``: ``none``, ``backpack``, ``shoulder``, ``hand``
    """

    shoulder: float
    hip: float
    girth: float
    limb: float
    head: float
    leg_length: float
    skin: Colour
    hair: Colour
    hair_style: str
    beard: bool
    glasses: bool
    hat: str
    hat_colour: Colour
    top: Colour
    top_accent: Colour
    pattern: str
    pattern_scale: float
    pattern_phase: float
    sleeve: str
    open_over: Colour | None
    hem: float
    bottom: str
    bottom_colour: Colour
    bottom_length: float
    stocking: Colour | None
    shoe: Colour
    boots: bool
    bag: str
    bag_colour: Colour
    bag_side: int
    stride: float
    arm_swing: float
    lean: float

    @property
    def sleeve_colour(self) -> Colour:
        """Colour of the sleeves where there are any."""
        if self.pattern == "sleeves":
            return self.top_accent
        if self.pattern in ("checks", "dots", "pinstripes"):
            mixed = 0.72 * np.asarray(self.top) + 0.28 * np.asarray(self.top_accent)
            return tuple(mixed.tolist())
        return self.top

    @property
    def calf_colour(self) -> Colour:
        """Colour of the lower leg where no trouser covers it."""
        return self.stocking or self.skin

    @cached_property
    def torso_texture(self) -> np.ndarray:
        """The top unrolled: (64, 128, 3) float32, rows from shoulder to hem, columns from longitude -pi to pi."""
        longitude, drop = _texture_grid(TORSO_TEXTURE)
        texture = np.empty((*TORSO_TEXTURE, 3), np.float32)
        texture[:] = self.top
        texture[_accent_mask(self, longitude, drop)] = self.top_accent
        if self.open_over is not None:
            texture[np.abs(longitude) < 0.30 + 0.25 * drop] = self.open_over
        texture[drop < 0.05] *= 0.8
        texture[_strap_mask(self, longitude, drop)] = self.bag_colour
        return texture

    @cached_property
    def head_texture(self) -> np.ndarray:
        """Face and hair unrolled: (26, 48, 3) float32, rows from crown to chin, columns from longitude -pi to pi."""
        longitude, drop = _texture_grid(HEAD_TEXTURE)
        texture = np.empty((*HEAD_TEXTURE, 3), np.float32)
        texture[:] = self.skin
        _paint_face(texture, self, longitude, drop)
        if self.hair_style != "bald":
            reach = {"short": 0.55, "afro": 0.7}.get(self.hair_style, 0.9)
            hairline = np.interp(np.abs(longitude), [0.0, 0.8, 1.3, 1.9, np.pi], [0.22, 0.26, 0.5, reach, reach + 0.1])
            texture[drop < hairline] = self.hair
        if self.hat != "none":
            texture[drop < (0.34 if self.hat == "cap" else 0.40)] = self.hat_colour
        return texture


def _texture_grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    longitude = (np.arange(shape[1]) + 0.5) / shape[1] * 2 * np.pi - np.pi
    drop = (np.arange(shape[0]) + 0.5) / shape[0]
    columns, rows = np.meshgrid(longitude, drop)
    return columns, rows


def _accent_mask(person: Person, longitude: np.ndarray, drop: np.ndarray) -> np.ndarray:
    scale, phase = person.pattern_scale, person.pattern_phase
    if person.pattern == "stripes":
        return (drop * 7 * scale + phase) % 1 < 0.45
    if person.pattern == "pinstripes":
        return (longitude / (2 * np.pi) * np.round(16 * scale)) % 1 < 0.35
    if person.pattern == "two_tone":
        return drop > 0.38 + 0.2 * phase
    if person.pattern == "checks":
        across = (longitude / (2 * np.pi) * np.round(11 * scale)) % 1 < 0.5
        return across ^ ((drop * 5.5 * scale + phase) % 1 < 0.5)
    if person.pattern == "dots":
        across = (longitude / (2 * np.pi) * np.round(14 * scale)) % 1 - 0.5
        return across**2 + ((drop * 7 * scale) % 1 - 0.5) ** 2 < 0.09
    if person.pattern == "print":
        front = (longitude / (0.55 * scale)) ** 2 + ((drop - 0.36) / (0.17 * scale)) ** 2 < 1
        back = (np.abs(np.abs(longitude) - np.pi) < 0.7) & (np.abs(drop - 0.25) < 0.06)
        return front | back if phase > 0.6 else front
    return np.zeros(longitude.shape, bool)


def _strap_mask(person: Person, longitude: np.ndarray, drop: np.ndarray) -> np.ndarray:
    if person.bag == "backpack":
        return (np.abs(np.abs(longitude) - 0.62) < 0.13) & (drop < 0.55)
    if person.bag == "shoulder":
        from_front = np.where(np.abs(longitude) < np.pi / 2, longitude, np.sign(longitude) * np.pi - longitude)
        crossing = (person.bag_side * from_front + 1.0) / 2.2
        return np.abs(drop - crossing) < 0.05
    return np.zeros(longitude.shape, bool)


def _paint_face(texture: np.ndarray, person: Person, longitude: np.ndarray, drop: np.ndarray) -> None:
    beside_nose = np.abs(np.abs(longitude) - 0.42)
    texture[(beside_nose < 0.2) & (np.abs(drop - 0.46) < 0.045)] *= 0.35
    texture[(np.abs(longitude) < 0.12) & (drop > 0.46) & (drop < 0.66)] *= 0.88
    if person.beard:
        texture[(drop > 0.66) & (np.abs(longitude) < 1.5)] = person.hair
    texture[(np.abs(longitude) < 0.3) & (np.abs(drop - 0.77) < 0.03)] *= (0.85, 0.55, 0.55)
    if person.glasses:
        texture[(np.abs(longitude) < 1.3) & (np.abs(drop - 0.46) < 0.05)] = (22, 22, 26)
    texture[(np.abs(np.abs(longitude) - np.pi / 2) < 0.16) & (np.abs(drop - 0.52) < 0.1)] *= 0.8


def sample_person(seed: int, index: int) -> Person:
    """Draws the looks of person number ``index``.

    Clothes come from a common wardrobe, so that some people share a colour, a pattern or a bag.

    Args:
        seed: seed of the whole rendering, at least 0.
        index: number of the person, at least 0.

    Returns:
        Always the same person for the same arguments.
    """
    rng = random_stream(seed, Stream.PERSON, index)
    womanly = rng.random() < 0.5
    skin = jittered(rng, SKIN_TONES[rng.integers(len(SKIN_TONES))], 5)
    return Person(
        **_sample_body(rng, womanly), **_sample_head(rng, womanly), **_sample_clothes(rng, womanly), skin=skin
    )


def _sample_body(rng: np.random.Generator, womanly: bool) -> dict:
    heaviness = float(np.clip(rng.normal(0.0, 1.0), -1.6, 2.2))
    return {
        "shoulder": (0.122 if womanly else 0.138) + 0.007 * heaviness,
        "hip": (0.096 if womanly else 0.090) + 0.010 * heaviness,
        "girth": 0.078 + 0.016 * heaviness,
        "limb": 1.0 + 0.13 * heaviness,
        "head": float(np.clip(rng.normal(1.0, 0.05), 0.9, 1.12)),
        "leg_length": float(np.clip(rng.normal(1.0, 0.04), 0.9, 1.08)),
        "stride": rng.uniform(0.30, 0.55),
        "arm_swing": rng.uniform(0.15, 0.6),
        "lean": rng.normal(0.01, 0.015),
    }


def _sample_head(rng: np.random.Generator, womanly: bool) -> dict:
    if womanly:
        styles = {"long": 3.5, "ponytail": 2.0, "bob": 2.0, "bun": 1.2, "short": 0.8, "afro": 0.5}
    else:
        styles = {"short": 6.0, "bald": 1.2, "bob": 0.6, "afro": 0.6, "long": 0.4}
    return {
        "hair": jittered(rng, choose(rng, HAIR_COLOURS), 5),
        "hair_style": choose(rng, styles),
        "beard": bool(not womanly and rng.random() < 0.3),
        "glasses": bool(rng.random() < 0.2),
        "hat": choose(rng, {"none": 8, "cap": 1.3, "beanie": 0.9}),
        "hat_colour": jittered(rng, choose(rng, CLOTH_COLOURS), 8),
    }


def _sample_clothes(rng: np.random.Generator, womanly: bool) -> dict:
    bottoms = {"trousers": 5, "shorts": 1.6, "skirt": 1.6, "dress": 1.4} if womanly else {"trousers": 6, "shorts": 2.5}
    bottom = choose(rng, bottoms)
    top = jittered(rng, choose(rng, CLOTH_COLOURS), 8)
    over = bottom != "dress" and rng.random() < 0.28
    sleeve = "long" if over else choose(rng, {"long": 4, "short": 5, "none": 1.0 if womanly else 0.3})
    hem = {"dress": rng.uniform(0.24, 0.36)}.get(bottom, rng.uniform(0.40, 0.44) if over else rng.uniform(0.44, 0.51))
    is_skirt = bottom in ("skirt", "dress")
    bottom_length = {"shorts": rng.uniform(0.5, 1.0), "skirt": rng.uniform(0.22, 0.38)}.get(bottom, hem)
    return {
        "top": top,
        "top_accent": _contrasting(rng, top),
        "pattern": choose(rng, PATTERNS),
        "pattern_scale": rng.uniform(0.75, 1.35),
        "pattern_phase": rng.random(),
        "sleeve": sleeve,
        "open_over": jittered(rng, choose(rng, CLOTH_COLOURS), 8) if over else None,
        "hem": hem,
        "bottom": bottom,
        "bottom_colour": jittered(rng, choose(rng, CLOTH_COLOURS if is_skirt else TROUSER_COLOURS), 8),
        "bottom_length": bottom_length,
        "stocking": shaded((40, 38, 42), rng.uniform(0.6, 1.3)) if is_skirt and rng.random() < 0.4 else None,
        "shoe": jittered(rng, choose(rng, SHOE_COLOURS), 8),
        "boots": bool(rng.random() < (0.3 if womanly else 0.12)),
        "bag": choose(rng, {"none": 4, "backpack": 3, "shoulder": 2, "hand": 1.6}),
        "bag_colour": jittered(rng, choose(rng, CLOTH_COLOURS), 8),
        "bag_side": int(rng.choice([-1, 1])),
    }


def _contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    # A pattern nobody can see would make two people alike by accident rather than by choice of wardrobe.
    for _ in range(12):
        accent = jittered(rng, choose(rng, CLOTH_COLOURS), 8)
        if np.abs(np.asarray(accent) - np.asarray(colour)).sum() > 170:
            return accent
    return (234.0, 234.0, 230.0) if sum(colour) < 380 else (26.0, 26.0, 29.0)
