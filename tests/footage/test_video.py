"""Decoding, frame by frame."""

import shutil
import tracemalloc

import cv2
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, write_video

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.footage import read_frames


def decode_all(path):
    capture, pictures = cv2.VideoCapture(str(path)), []
    while (frame := capture.read())[0]:
        pictures.append(frame[1])
    return pictures


def test_frames_are_numbered_from_1_and_those_asked_for_come(video):
    expected = decode_all(video)
    frames = list(read_frames(video))
    assert [number for number, _ in frames] == list(range(1, 13))
    assert frames[0][1].shape == (HEIGHT, WIDTH, 3)
    for number, picture in read_frames(video, np.array([2, 3, 9])):
        assert np.array_equal(picture, expected[number - 1])
    assert [number for number, _ in read_frames(video, np.array([2, 3, 9]))] == [2, 3, 9]


def peak_memory(path):
    tracemalloc.start()
    try:
        for _ in read_frames(path):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_video(tmp_path, video):
    long = write_video(tmp_path / "long.mp4", 120)
    assert peak_memory(long) < peak_memory(video) + WIDTH * HEIGHT * 3


def test_decoding_ends_with_the_last_frame_asked_for(tmp_path, video):
    whole = video.read_bytes()
    (tmp_path / "damaged.mp4").write_bytes(
        whole[: len(whole) // 4] + bytes(len(whole) // 2) + whole[-(len(whole) - len(whole) // 4 - len(whole) // 2) :]
    )
    damaged = tmp_path / "damaged.mp4"
    assert [number for number, _ in read_frames(damaged, np.array([1]))] == [1]
    with pytest.raises(InputError, match=r"damaged.mp4 breaks off after frame \d+ of 12, but there are tracks up to"):
        list(read_frames(damaged, np.array([1, 12])))


def test_a_video_that_is_too_short(video):
    frames = read_frames(video, np.array([11, 20]))
    assert next(frames)[0] == 11
    with pytest.raises(InputError, match="has 12 frames, but there are tracks up to frame 20: give the whole video"):
        next(frames)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 5000])
def test_no_video(tmp_path, content, capfd):
    (tmp_path / "video.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"video.mp4 is no video that OpenCV can read: give one that plays"):
        next(read_frames(tmp_path / "video.mp4"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.mp4", "ffconcat version 1.0\nfile video.mp4\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nvideo.mp4\n#EXT-X-ENDLIST\n"),
        ("list.mpd", '<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"></MPD>'),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_lists_of_other_files_are_no_videos(tmp_path, video, name, text):
    shutil.copy(video, tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name} is no video but names other files: give the video itself"):
        next(read_frames(tmp_path / name))


def test_a_name_that_stands_for_many_pictures(tmp_path):
    for name in ("0.jpg", "%d.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match="no video but names other files"):
        next(read_frames(tmp_path / "%d.jpg"))


@pytest.mark.parametrize("name", ["concat:a.mp4", "file:video.mp4", "a|b.mp4", "%d.mp4", "-.mp4"])
def test_a_name_is_only_that_of_a_file(tmp_path, video, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(video, name)
    assert len(list(read_frames(name))) == 12


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        next(read_frames(tmp_path / "missing.mp4"))
    with pytest.raises(InputError, match="it is no file"):
        next(read_frames(tmp_path))
