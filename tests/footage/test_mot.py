"""Track files, as trackers write them and as people break them."""

import numpy as np
import pytest
from clips import write_lines

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.footage import read_tracks, write_tracks

BOXES = [[10.5, 20, 30, 60.25], [0, -3, 8, 9]]


@pytest.mark.parametrize(
    "lines",
    [
        ["1,3,10.5,20,30,60.25,0.9,-1,-1,-1", "2,3,0,-3,8,9,0.9,-1,-1,-1"],
        ["2, 3, 0, -3, 8, 9, .9", "", "1, 3, 10.5, 20, 30, 60.25, 0.9,"],
        ["1.0 3.0 10.5 20 30 60.25 0.9", "   ", "2.0\t3.0\t0\t-3\t8\t9\t9e-1\tperson"],
        ["\ufeff1,3,10.5,20,30,60.25,0.9\r", "2,3,0,-3,8,9,0.9\r"],
    ],
)
def test_all_kinds_of_lines_say_the_same(tmp_path, lines):
    boxes = read_tracks(write_lines(tmp_path / "tracks.txt", lines))
    assert boxes.frame.dtype == boxes.track.dtype == np.int64
    assert (boxes.frame.tolist(), boxes.track.tolist()) == ([1, 2], [3, 3])
    assert boxes.box.tolist() == BOXES
    assert boxes.score.tolist() == [0.9, 0.9]
    assert boxes.num_untracked == 0


def test_a_score_may_be_missing_and_boxes_of_no_track_are_counted(tmp_path):
    lines = ["4,1,0,0,5,5", "4,-1,0,0,5,5,0.3", "3,0,0,0,5,5,-1", "4,-1,9,0,5,5,0.3", "4,2,0,0,5,5,"]
    boxes = read_tracks(write_lines(tmp_path / "tracks.txt", lines))
    assert (boxes.frame.tolist(), boxes.track.tolist()) == ([3, 4, 4], [0, 1, 2])
    assert np.isnan(boxes.score).all()
    assert boxes.num_untracked == 2


def test_what_is_written_is_read(tmp_path):
    lines = ["12,1,1234.125,-0.5,33.3333333,77,0.875", "2,30,1,2,3,4,-1", "2,4,1,2,3,4,1"]
    boxes = read_tracks(write_lines(tmp_path / "tracks.txt", lines))
    write_tracks(tmp_path / "again.txt", boxes)
    again = read_tracks(tmp_path / "again.txt")
    for name in ("frame", "track", "box", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(boxes, name))
    assert (tmp_path / "again.txt").read_text().splitlines() == [
        "2,4,1,2,3,4,1,-1,-1,-1",
        "2,30,1,2,3,4,-1,-1,-1,-1",
        "12,1,1234.125,-0.5,33.3333333,77,0.875,-1,-1,-1",
    ]


GOOD = "1,1,0,0,5,5,1"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD, "2,1,0,0,5"], r"^line 2 of .*tracks.txt has 5 columns: give at least six, frame, track, .*height$"),
        (["", "frame,track,left,top,width,height"], "^line 2 of .* holds no box: give numbers for frame, track"),
        ([GOOD, "2,1,0,nan,5,5"], "^line 2 of .* holds no box"),
        ([GOOD, "2,1,0,0,5,5,high"], "^line 2 of .* holds no box"),
        ([GOOD, "2,1e300,0,0,5,5"], "^line 2 of .* holds no box"),
        ([GOOD, "2,1,0,0,1e308,5"], "^line 2 of .* holds no box"),
        (["1.5,1,0,0,5,5"], "^line 1 of .* whole ones for frame and track$"),
        (["0,1,0,0,5,5", GOOD], "^line 1 of .* has frame 0, but frames are counted from 1: add 1 to all"),
        ([GOOD, "1,2,0,0,5,5,1", "1,1,3,3,5,5,1"], "has two boxes of track 1 in frame 1: "),
        (["1,-1,0,0,5,5,1"], "holds no person: none of its 1 boxes belongs to a track"),
        ([], "holds no person: none of its 0 boxes"),
        (["\0\0\0"], "is no text: give a tracker's file, with lines of frame, track, left"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, lines, message):
    with pytest.raises(InputError, match=message) as error:
        read_tracks(write_lines(tmp_path / "tracks.txt", lines))
    assert "\n" not in str(error.value)


def test_no_text_and_no_file(tmp_path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="is no text"):
        read_tracks(tmp_path / "picture")
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(InputError, match=r"^cannot read the tracks in .*; give a tracker's file$"):
            read_tracks(path)
