"""Cutting people out: the right pixels, the right rows, and runs that go on."""

import csv

import cv2
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, files_below, write_boxes, write_video

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.footage import covered_shares, crop_tracks, read_frames, read_tracks
from hhcl_torchreid.footage.cropping import COLUMNS


def rows_of(folder):
    with open(folder / "crops.csv", newline="") as file:
        return list(csv.DictReader(file))


def names_of(folder):
    return [(row["camera"], int(row["track"]), int(row["frame"])) for row in rows_of(folder)]


@pytest.fixture(scope="session")
def undisturbed(video, tracks, tmp_path_factory):
    """The folder of a run with nothing in its way."""
    folder = tmp_path_factory.mktemp("undisturbed")
    crop_tracks(video, tracks, "c1", folder)
    return folder


def test_a_crop_is_what_the_box_shows_as_far_as_the_picture_goes(video, tracks, undisturbed):
    pictures, boxes = dict(read_frames(video)), read_tracks(tracks)
    assert len(rows_of(undisturbed)) == 18  # all but frame 12 of track 7, which is outside
    for row in rows_of(undisturbed):
        frame, track = int(row["frame"]), int(row["track"])
        (number,) = np.flatnonzero((boxes.frame == frame) & (boxes.track == track))
        left, top, width, height = (float(row[name]) for name in ("left", "top", "width", "height"))
        assert [left, top, width, height] == boxes.box[number].tolist()
        right, bottom = min(WIDTH, round(left + width)), min(HEIGHT, round(top + height))
        expected = pictures[frame][round(top) : bottom, round(left) : right]
        crop = cv2.imread(str(undisturbed / row["path"]))
        assert crop.shape == expected.shape
        assert np.abs(crop.astype(int) - expected).mean() < 6


def test_the_table_says_what_the_tracker_said(tracks, undisturbed):
    boxes = read_tracks(tracks)
    covered = {(t, f): c for t, f, c in zip(boxes.track, boxes.frame, covered_shares(boxes), strict=True)}
    rows = rows_of(undisturbed)
    assert list(rows[0]) == ["path", "camera", "track", "frame", "left", "top", "width", "height", "score", "covered"]
    assert rows[0]["path"] == "c1/0001/000001.jpg" and rows[-1]["path"] == "c1/0007/000011.jpg"
    assert {row["score"] for row in rows} == {"0.9", "0.5"}
    for row in rows:
        assert float(row["covered"]) == pytest.approx(covered[int(row["track"]), int(row["frame"])], abs=6e-4)
    assert max(float(row["covered"]) for row in rows) > 0.3


def test_every_min_height_and_max_covered(video, tracks, tmp_path):
    boxes = read_tracks(tracks)
    summary = crop_tracks(video, tracks, "c1", tmp_path, every=3, min_height=42, max_covered=0.2)
    covered = covered_shares(boxes)
    expected = []
    for row in range(len(boxes)):
        track, frame = int(boxes.track[row]), int(boxes.frame[row])
        left, top, _, height = boxes.box[row]
        of_track = boxes.frame[boxes.track == track]
        kept = [int(number) for number in of_track if number % 3 == 1] or [min(of_track)]
        visible = round(min(HEIGHT, top + height)) - round(max(0, top))
        if frame in kept and left < WIDTH and visible >= 42 and covered[row] <= 0.2:
            expected.append(("c1", track, frame))
    assert names_of(tmp_path) == sorted(expected) == [("c1", 7, 4), ("c1", 7, 7), ("c1", 7, 10)]
    assert (summary.num_crops, summary.num_made, summary.num_tracks) == (3, 3, 1)
    assert sum(summary.left_out.values()) == len(boxes) - 3
    looser = crop_tracks(video, tracks, "c1", tmp_path / "looser", every=3, min_height=1, max_covered=0.2)
    assert 3 < looser.num_crops < crop_tracks(video, tracks, "c1", tmp_path / "loose", every=3, min_height=1).num_crops


@pytest.mark.parametrize("every", [10**4, 2**63, 10**30])
def test_of_an_every_beyond_the_video_each_track_keeps_its_first(video, tracks, tmp_path, every):
    crop_tracks(video, tracks, "c1", tmp_path, every=every)
    boxes = read_tracks(tracks)
    assert names_of(tmp_path) == [("c1", t, int(boxes.frame[boxes.track == t].min())) for t in np.unique(boxes.track)]


def test_a_track_between_all_frames_that_are_kept_keeps_its_first(video, tmp_path):
    tracks = write_boxes(
        tmp_path / "t.txt", [(f, t, 9, 9, 20, 40) for t, fs in ((1, (1, 5, 9)), (2, (3, 4))) for f in fs]
    )
    crop_tracks(video, tracks, "c1", tmp_path / "out", every=8)
    assert names_of(tmp_path / "out") == [("c1", 1, 1), ("c1", 1, 9), ("c1", 2, 3)]


def test_the_boxes_of_the_tracker_are_kept(tracks, undisturbed):
    kept, given = read_tracks(undisturbed / "c1.tracks.txt"), read_tracks(tracks)
    assert len(kept) == len(given) == 19 and (kept.box == given.box).all() and (kept.track == given.track).all()


def test_cameras_add_to_a_folder_and_the_order_does_not_matter(video, tracks, tmp_path):
    for folder, cameras in (("one", ["c1", "hall 2"]), ("other", ["hall 2", "c1"])):
        for camera in cameras:
            crop_tracks(video, tracks, camera, tmp_path / folder, every=2)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "other")
    assert {name[0] for name in names_of(tmp_path / "one")} == {"c1", "hall 2"}


def test_a_second_run_makes_nothing_and_a_wider_one_only_what_is_new(video, tracks, tmp_path, undisturbed):
    first = crop_tracks(video, tracks, "c1", tmp_path, every=4)
    again = crop_tracks(video, tracks, "c1", tmp_path, every=4)
    assert (first.num_made, again.num_made, again.num_crops) == (first.num_crops, 0, first.num_crops)
    assert "were there" in str(again) and "were there" not in str(first)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    wider = crop_tracks(video, tracks, "c1", tmp_path)
    assert wider.num_made == wider.num_crops - first.num_crops
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    assert files_below(tmp_path) == files_below(undisturbed)


def test_a_run_that_broke_off_goes_on_and_ends_as_if_it_had_not(video, tracks, tmp_path, undisturbed):
    short = write_video(tmp_path / "short.mp4", 6)
    with pytest.raises(InputError, match=r"short.mp4 has 6 frames, but there are tracks up to frame 11"):
        crop_tracks(short, tracks, "c1", tmp_path / "out")
    begun = len(list((tmp_path / "out").rglob("*.jpg")))
    assert begun == 6 + 4 and not (tmp_path / "out" / "crops.csv").exists()
    summary = crop_tracks(video, tracks, "c1", tmp_path / "out")
    assert summary.num_made == summary.num_crops - begun
    assert files_below(tmp_path / "out") == files_below(undisturbed)


def test_half_a_crop_and_a_lost_one_are_made_again(video, tracks, tmp_path, undisturbed):
    crop_tracks(video, tracks, "c1", tmp_path)
    half = tmp_path / "c1" / "0001" / "000004.jpg"
    half.write_bytes(half.read_bytes()[:100])
    (tmp_path / "c1" / "0007" / "000005.jpg").unlink()
    assert crop_tracks(video, tracks, "c1", tmp_path).num_made == 2
    assert files_below(tmp_path) == files_below(undisturbed)


def test_crops_of_other_boxes_are_never_taken_for_these(video, tracks, tmp_path, undisturbed):
    moved = write_boxes(tmp_path / "moved.txt", [(f, t, 40, 10, 20, 40) for f in (1, 2, 3, 12) for t in (1, 9)])
    short, out = write_video(tmp_path / "short.mp4", 6), tmp_path / "out"
    with pytest.raises(InputError, match=r"short.mp4"):
        crop_tracks(short, moved, "c1", out)
    assert crop_tracks(video, tracks, "c1", out).num_made == 18
    assert files_below(out) == files_below(undisturbed)
    with pytest.raises(InputError, match=r"has another box of camera c1, track 1, frame 1 .* a --camera of its own"):
        crop_tracks(video, moved, "c1", out)
    assert files_below(out) == files_below(undisturbed)


def test_tracks_of_another_video(video, tmp_path):
    outside = write_boxes(tmp_path / "outside.txt", [(f, 1, 50 * f, 10, 20, 40) for f in range(1, 9)])
    with pytest.raises(InputError, match=r"7 of 8 boxes of .* lie outside the pictures of .* 96 x 64 pixels: give"):
        crop_tracks(video, outside, "c1", tmp_path / "out")
    late = write_boxes(tmp_path / "late.txt", [(f, 1, 5, 5, 20, 40) for f in (12, 13)])
    with pytest.raises(InputError, match="has 12 frames, but there are tracks up to frame 13"):
        crop_tracks(video, late, "c1", tmp_path / "out")


def test_frames_after_the_last_that_is_needed_are_not_missed(video, tmp_path):
    tracks = write_boxes(tmp_path / "tracks.txt", [(f, 1, 5, 5, 20, 40) for f in (1, 5, 14)])
    assert crop_tracks(video, tracks, "c1", tmp_path / "out", every=4).num_crops == 2


def test_nobody_left(video, tracks, tmp_path):
    with pytest.raises(InputError, match=r"no crop is left of .*: of 19 boxes .* less than 60 pixels high; lower"):
        crop_tracks(video, tracks, "c1", tmp_path, min_height=60)


@pytest.mark.parametrize("camera", ["", ".", "..", ".c1", "a/b", "a\\b", "a\0b", "a\nb", "=c1", "-c1", "c1 "])
def test_a_camera_must_be_the_name_of_a_folder(video, tracks, tmp_path, camera):
    with pytest.raises(InputError, match="cannot be the name of a folder: begin it with a letter or digit"):
        crop_tracks(video, tracks, camera, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"every": 0}, "--every is 0"),
        ({"min_height": 0}, "--min-height is 0"),
        ({"max_covered": 1.5}, "is 1.5: give a"),
    ],
)
def test_options_out_of_range(video, tracks, tmp_path, option, message):
    with pytest.raises(InputError, match=message):
        crop_tracks(video, tracks, "c1", tmp_path, **option)


def test_a_table_of_something_else_is_kept(video, tracks, tmp_path):
    (tmp_path / "crops.csv").write_text("path,price\n")
    with pytest.raises(InputError, match=r"is no table of this program .*: give another --out, or delete it"):
        crop_tracks(video, tracks, "c1", tmp_path)
    assert (tmp_path / "crops.csv").read_text() == "path,price\n"


def test_a_folder_that_cannot_be_written(video, tracks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*--out"):
        crop_tracks(video, tracks, "c1", tmp_path / "file")


@pytest.mark.parametrize(
    "path", ["../victim.jpg", "{victim}", "c1/../../victim.jpg", "c2/0001/000001.jpg", "crops.csv"]
)
def test_what_a_table_of_a_stopped_run_names_elsewhere_stays(video, tracks, tmp_path, path):
    victim, out = tmp_path / "victim.jpg", tmp_path / "out"
    victim.write_bytes(b"somebody's")
    (out / "c2" / "0001").mkdir(parents=True)
    (out / "c2" / "0001" / "000001.jpg").write_bytes(b"another camera's")
    (out / ".c1.crops.csv").write_text(f"{','.join(COLUMNS)}\n{path.format(victim=victim)},c1,99,99,1,1,9,9,,0.000\n")
    crop_tracks(video, tracks, "c1", out)
    assert victim.read_bytes() == b"somebody's" and len(rows_of(out)) == 18
    assert (out / "c2" / "0001" / "000001.jpg").read_bytes() == b"another camera's"
