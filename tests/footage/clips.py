"""Small videos and track files."""

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 64


def write_video(path, num_frames=12, size=(WIDTH, HEIGHT)):
    """A picture of soft spots that wander; every frame is another."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, size)
    spots = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), size)
    for number in range(num_frames):
        writer.write(np.roll(spots, 5 * number, 1))
    writer.release()
    return path


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_boxes(path, boxes):
    """A track file of (frame, track, left, top, width, height) and perhaps a score."""
    return write_lines(path, (",".join(map(str, box)) for box in boxes))


def files_below(folder):
    """Every file of a folder that is not hidden, and its bytes."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
