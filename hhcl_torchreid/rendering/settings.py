"""What a rendered data set depends on: how many people, cameras and images, their size, and the light."""

from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .camera import LIGHTS

__all__ = ["FRAMES_PER_SECOND", "MARKET1501_SIZE", "NUM_CAMERAS", "FootageSettings", "RenderingSettings"]

NUM_CAMERAS = 6
MAX_IDENTITIES = 1501
FRAMES_PER_SECOND = 10

MARKET1501_SIZE: dict[str, Any] = {
    "num_train_ids": 751,
    "num_test_ids": 750,
    "images_per_tracklet": (2, 6),
    "cameras_per_person": (3, 6),
    "num_distractors": 2798,
    "num_train_images": 12936,
    "num_query_images": 3368,
    "num_gallery_images": 15913,
}
"""Settings that give exactly as many identities and images as Market-1501 has."""


LARGEST = {"height": 4096, "width": 4096, "num_people": 10_000, "num_cameras": 1000, "seconds": 86_400}
"""What no machine renders more of in a day."""


@dataclass(frozen=True)
class RenderingSettings:
    """Everything that a rendered data set depends on; the defaults are the demo's.

    Attributes:
        num_train_ids: identities of the training set; they are numbered from 1.
        num_test_ids: identities of query and gallery, numbered after those; at most 1,501 in all.
        images_per_tracklet: fewest and most images of one person at one camera (in the test set: in the gallery).
        cameras_per_person: fewest and most cameras, of six, that see a person; at least 2.
        camera_shares: for each of the six cameras, above 0 and at most 1, how many images it takes of a person beside
            what ``images_per_tracklet`` draws, rounded and never below its fewest; None where cameras are alike.
        num_distractors: gallery images of nobody (identity 0): background and cut-off passers-by.
        num_train_images: exact size of the training set; None leaves it to the ranges above.
        num_query_images: likewise of the query set, one image per test identity and camera.
        num_gallery_images: likewise of the gallery, distractors included.
        height: rows of an image, pixels.
        width: columns of an image, pixels.
        seed: seed of the people, cameras and frames, at least 0.
        light: ``"day"``, ``"dusk"`` or ``"mixed"``: how dark it is, and how much the cameras differ.

    Raises:
        InputError: a value out of range.
    """

    num_train_ids: int = 120
    num_test_ids: int = 50
    images_per_tracklet: tuple[int, int] = (3, 4)
    cameras_per_person: tuple[int, int] = (5, 6)
    camera_shares: tuple[float, ...] | None = None
    num_distractors: int = 100
    num_train_images: int | None = None
    num_query_images: int | None = None
    num_gallery_images: int | None = None
    height: int = 128
    width: int = 64
    seed: int = 0
    light: str = "dusk"

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name, least in {
            "num_train_ids": 1,
            "num_test_ids": 1,
            "num_distractors": 0,
            "height": 32,
            "width": 16,
            "seed": 0,
        }.items():
            self._check_at_least(name, least)
        self._check_range("images_per_tracklet", 1, 50)
        self._check_range("cameras_per_person", 2, NUM_CAMERAS)
        self._check_shares()
        if self.light not in LIGHTS:
            raise InputError(f"light is {self.light!r}: choose one of {', '.join(LIGHTS)}")
        identities = self.num_train_ids + self.num_test_ids
        if identities > MAX_IDENTITIES:
            raise InputError(
                f"num_train_ids + num_test_ids is {identities}, but Market-1501's layout has room for {MAX_IDENTITIES} "
                "identities: ask for fewer"
            )

    def _check_at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}: give a whole number of at least {least}")
        _check_at_most(name, value)

    def _check_shares(self) -> None:
        shares = self.camera_shares
        if shares is not None and not (len(shares) == NUM_CAMERAS and all(0 < share <= 1 for share in shares)):
            raise InputError(f"camera_shares is {shares!r}: give {NUM_CAMERAS} numbers above 0 and at most 1, or None")

    def _check_range(self, name: str, least: int, most: int) -> None:
        limits = getattr(self, name)
        try:
            low, high = limits
        except (TypeError, ValueError):
            raise InputError(f"{name} is {limits!r}: give two whole numbers, (lowest, highest)") from None
        if not least <= low <= high <= most:
            raise InputError(
                f"{name} is ({low}, {high}): give (lowest, highest) with {least} <= lowest <= highest <= {most}"
            )


def _check_at_most(name: str, value: float) -> None:
    most = LARGEST.get(name)
    if most is not None and value > most:
        raise InputError(f"{name} is {value!r}: give a number of at most {most}")


@dataclass(frozen=True)
class FootageSettings:
    """Everything that rendered footage depends on.

    Attributes:
        num_people: people who walk about; they are numbered from 1.
        num_cameras: cameras that they pass.
        seconds: length of each camera's video, at 10 frames a second; at least 8.
        height: rows of a picture, pixels; people are 0.25 to 0.55 of it high.
        width: columns of a picture, pixels.
        seed: seed of the people, cameras, ways and frames, at least 0.
        light: a time of the day, as in :class:`RenderingSettings`.

    Raises:
        InputError: a value out of range.
    """

    num_people: int = 24
    num_cameras: int = 3
    seconds: float = 75.0
    height: int = 360
    width: int = 640
    seed: int = 0
    light: str = "day"

    def __post_init__(self) -> None:
        """Checks the settings."""
        least = {"num_people": 1, "num_cameras": 1, "seconds": 8, "height": 120, "width": 120, "seed": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if not value >= smallest or (name != "seconds" and not isinstance(value, int)):
                kind = "number" if name == "seconds" else "whole number"
                raise InputError(f"{name} is {value!r}: give a {kind} of at least {smallest}")
            _check_at_most(name, value)
        if self.light not in LIGHTS:
            raise InputError(f"light is {self.light!r}: choose one of {', '.join(LIGHTS)}")

    @property
    def num_frames(self) -> int:
        """Frames of each video."""
        return round(self.seconds * FRAMES_PER_SECOND)
