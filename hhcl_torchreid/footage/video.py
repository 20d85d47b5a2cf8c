"""Videos: decoded a frame at a time, so that an hour takes no more memory than a second."""

import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError

__all__ = ["read_frames"]

# FFmpeg would tell of damage in words of its own, line after line; it asks for this once, at the first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

BEGINNING = 2048
"""Bytes that FFmpeg looks at first when it guesses what a file is."""

PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"v=0", b"[playlist]")
"""How the lists of other files and addresses begin that FFmpeg would open, wherever they are."""


def read_frames(path: str | os.PathLike[str], wanted: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes a video, and holds no more than one frame of it.

    Args:
        path: the video, of any kind that OpenCV's FFmpeg reads.
        wanted: numbers of the frames to give, rising; None gives all. Decoding ends with the last of them.

    Yields:
        The number of the frame, counted from 1, and its picture, (H, W, 3) uint8, blue-green-red.

    Raises:
        InputError: no such file, no video, or it ends (or breaks) before the last frame that is wanted.
    """
    capture = _open(Path(path))
    last = None if wanted is None else int(wanted[-1])
    asked = None if wanted is None else set(wanted.tolist())
    number, size = 0, None
    try:
        while number != last and capture.grab():
            number += 1
            if asked is not None and number not in asked:
                continue
            decoded, picture = capture.retrieve()
            if not decoded:
                break
            if size not in (None, picture.shape):
                raise InputError(f"{path} changes the size of its pictures in frame {number}: cut it in two there")
            size = picture.shape
            yield number, picture
        if number == 0:
            raise InputError(f"no frame of {path} can be decoded: give a video that plays, or convert it (ffmpeg -i)")
        if last is not None and number < last:
            announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            end = f"breaks off after frame {number} of {announced}" if announced > number else f"has {number} frames"
            raise InputError(
                f"{path} {end}, but there are tracks up to frame {last}: give the whole video that they were made from"
            )
    finally:
        capture.release()


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        reason = "it is no file" if path.exists() else "there is no such file"
        raise InputError(f"cannot read the video {path}: {reason}; give a video file")
    if _names_others(path):
        raise InputError(f"{path} is no video but names other files: give the video itself, or convert it (ffmpeg -i)")
    # OpenCV's own words too.
    level = cv2.utils.logging.setLogLevel(0)
    # What begins with a slash is no protocol of FFmpeg's, as http: or concat: would be.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise InputError(f"{path} is no video that OpenCV can read: give one that plays, or convert it (ffmpeg -i)")
    return capture


def _names_others(path: Path) -> bool:
    """Whether FFmpeg would open other files in place of this one."""
    with open(path, "rb") as file:
        beginning = file.read(BEGINNING)
    is_picture = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return beginning.lstrip().startswith(PLAYLISTS) or b"<MPD" in beginning or (is_picture and "%" in str(path))
