"""Random streams with names, and the few helpers every part of the renderer draws with."""

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

import numpy as np

__all__ = ["Colour", "Stream", "choose", "jittered", "random_stream", "shaded"]

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""

Choice = TypeVar("Choice")


class Stream(IntEnum):
    """What a random stream decides; part of its name."""

    PERSON = 1
    CAMERA = 2
    CAMERA_RING = 3
    TRACKLET = 4
    FRAME = 5
    PLAN = 6
    DISTRACTOR = 7
    WALK = 8
    SHOT = 9
    TRACKER = 10


def random_stream(seed: int, kind: Stream, *indices: int) -> np.random.Generator:
    """Opens the random stream of that name, always at its beginning.

    Args:
        seed: seed of the whole rendering, at least 0.
        kind: what the stream decides.
        *indices: which person, camera, frame, each at least 0.

    Returns:
        A generator independent of every other name's.
    """
    return np.random.default_rng([seed, int(kind), *indices])


def choose(rng: np.random.Generator, weights: Mapping[Choice, float]) -> Choice:
    """Draws one key of ``weights``, each as often as its weight says (they need not sum to 1)."""
    ticket = rng.random() * sum(weights.values())
    for option, weight in weights.items():
        ticket -= weight
        if ticket < 0:
            return option
    return next(reversed(list(weights)))


def jittered(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """Moves a colour by a brightness step and smaller steps per channel, ``spread`` in units of 0 to 255."""
    steps = rng.normal(0.0, spread) + rng.normal(0.0, 0.5 * spread, 3)
    red, green, blue = np.clip(np.asarray(colour) + steps, 8, 247).tolist()
    return red, green, blue


def shaded(colour: Colour, factor: float) -> Colour:
    """Multiplies a colour's brightness, staying within 0 to 255."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue
