"""A video and the tracks in it, made once."""

import pytest
from clips import write_boxes, write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4")


@pytest.fixture(scope="session")
def tracks(tmp_path_factory):
    """Two people: one from frame 1 to 9, one from frame 3 to 12, who goes out at the right and hides the first."""
    first = [(frame, 1, 10 + frame, 8, 20, 40, 0.9) for frame in range(1, 10)]
    second = [(frame, 7, 10 * frame - 18, 12.4, 20.2, 44, 0.5) for frame in range(3, 13)]
    return write_boxes(tmp_path_factory.mktemp("tracks") / "tracks.txt", first + second)
