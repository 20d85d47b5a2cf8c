"""The tool that cuts people out of a video."""

import crop_tracks
import cv2
import numpy as np


def call(folder, *words):
    paths = {"video": folder / "video.mp4", "tracks": folder / "tracks.txt", "out": folder / "crops"}
    arguments = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    return crop_tracks.main([*arguments, *words])


def write_footage(folder):
    """A square that goes to the right, and its track with one box of nobody."""
    writer = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    for frame in range(5):
        writer.write(
            cv2.rectangle(np.zeros((64, 96, 3), np.uint8), (9 * frame, 8), (9 * frame + 20, 56), (0, 0, 255), -1)
        )
    writer.release()
    lines = [f"{frame + 1},4,{9 * frame},8,20,48" for frame in range(5)]
    (folder / "tracks.txt").write_text("\n".join([*lines, "1,-1,0,0,9,9"]))


def test_says_what_it_has_done_and_what_it_left_out(tmp_path, capsys):
    write_footage(tmp_path)
    assert call(tmp_path, "--camera", "hall", "--every", "2") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"3 crops of 1 tracks in {tmp_path / 'crops'}",
        "left out: 1 boxes of no track",
        "left out: 2 boxes between the frames that are kept",
        f"{tmp_path / 'crops' / 'crops.csv'} is the table.",
    ]
    crop = cv2.imread(str(tmp_path / "crops" / "hall" / "0004" / "000003.jpg"))
    assert crop.shape == (48, 20, 3)
    assert crop[24, 10].argmax() == 2 and crop[24, 10, 2] > 200


def test_bad_input_ends_in_one_line(tmp_path, capsys):
    write_footage(tmp_path)
    assert call(tmp_path, "--camera", "../hall") == 2
    assert call(tmp_path, "--camera", "hall", "--min-height", "90") == 2
    (tmp_path / "video.mp4").write_bytes(b"no video")
    assert call(tmp_path, "--camera", "hall") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
