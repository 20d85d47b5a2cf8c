"""A sheet of pictures, for the eye to judge."""

import os

import cv2
import numpy as np

from ..errors import InputError
from ..files import replacing
from .tracklet import render_tracklet

__all__ = ["contact_sheet", "write_contact_sheet"]


def contact_sheet(
    seed: int = 0,
    height: int = 128,
    width: int = 64,
    num_people: int = 8,
    num_cameras: int = 6,
    frames_per_camera: int = 3,
    light: str = "day",
) -> np.ndarray:
    """Renders people side by side.

    Args:
        seed: seed of the people and cameras, at least 0.
        height: rows of a picture, pixels.
        width: columns of a picture, pixels.
        num_people: rows of the sheet; the people are numbered from 1.
        num_cameras: groups of columns.
        frames_per_camera: columns of a group, consecutive frames of a tracklet.
        light: a time of the day, one of ``LIGHTS``.

    Returns:
        (num_people * height, num_cameras * frames_per_camera * width, 3) uint8, red-green-blue.
    """
    rows = []
    for person in range(1, num_people + 1):
        cameras = range(num_cameras)
        pictures = [
            render_tracklet(seed, person, camera, frames_per_camera, height, width, light) for camera in cameras
        ]
        rows.append(np.hstack([frame for tracklet in pictures for frame in tracklet]))
    return np.vstack(rows)


def write_contact_sheet(
    file: str | os.PathLike[str], seed: int = 0, height: int = 128, width: int = 64, light: str = "day"
) -> None:
    """Writes a contact sheet as a PNG file.

    Args:
        file: where to; replaced if it exists.
        seed: seed of the people and cameras, at least 0.
        height: rows of a picture, pixels.
        width: columns of a picture, pixels.
        light: a time of the day, one of ``LIGHTS``.

    Raises:
        InputError: if the numbers are out of range or the file cannot be written.
    """
    if seed < 0 or height < 32 or width < 16:
        raise InputError(f"seed {seed}, height {height}, width {width}: give at least 0, 32 and 16")
    _, png = cv2.imencode(".png", contact_sheet(seed, height, width, light=light)[..., ::-1])
    with replacing(file, "wb", option="--sheet") as sheet:
        sheet.write(png.tobytes())
