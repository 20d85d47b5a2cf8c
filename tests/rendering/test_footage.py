"""Rendered footage: the same for the same seed, true where it says so, and with a tracker's mistakes."""

import cv2
import numpy as np
import pytest

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.footage import Boxes, covered_shares, read_frames, read_tracks, true_people
from hhcl_torchreid.rendering import FootageSettings, TrackerErrors, render_footage, track_people
from hhcl_torchreid.rendering.walkers import plan_visits

SMALL = {"num_people": 4, "num_cameras": 1, "seconds": 8.0, "height": 120, "width": 200, "seed": 3}


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return render_footage(tmp_path_factory.mktemp("footage") / "small", **SMALL)


def texts(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


def test_the_same_settings_give_the_same_files(footage, tmp_path):
    again = render_footage(tmp_path / "again", **SMALL)
    assert sorted(texts(footage)) == ["c1.tracks.txt", "c1.truth.txt"]
    assert texts(again) == texts(footage)
    ours, theirs = (dict(read_frames(folder / "c1.mp4", np.array([1, 60]))) for folder in (footage, again))
    assert np.array_equal(ours[60], theirs[60]) and not np.array_equal(ours[1], ours[60])


def test_a_video_has_its_length_and_size(footage):
    assert [picture.shape for _, picture in read_frames(footage / "c1.mp4")] == [(120, 200, 3)] * 80
    assert cv2.VideoCapture(str(footage / "c1.mp4")).get(cv2.CAP_PROP_FPS) == 10


def test_people_meet_and_hide_each_other(footage):
    truth = read_tracks(footage / "c1.truth.txt")
    assert np.bincount(truth.frame).max() >= 3
    assert covered_shares(truth).max() > 0.5
    centre = truth.box[:, 0] + truth.box[:, 2] / 2
    assert ((centre >= 0) & (centre < 200)).all()
    assert (truth.box[:, 3] > 0.2 * 120).all() and (truth.box[:, 3] < 0.6 * 120).all()


def test_people_come_back_and_are_never_at_two_cameras():
    settings = FootageSettings(seed=3)
    visits = plan_visits(settings)
    where = [(visit.person, frame) for visit in visits for frame in range(visit.begin, visit.end)]
    assert len(set(where)) == len(where)
    assert all(visit.begin >= 0 and visit.end <= settings.num_frames for visit in visits)
    assert all(50 <= visit.end - visit.begin <= 200 for visit in visits)
    cameras = [[visit.camera for visit in visits if visit.person == person] for person in range(1, 25)]
    assert sum(len(set(seen)) > 1 for seen in cameras) > 12
    assert sum(len(set(seen)) < len(seen) for seen in cameras) > 12


def test_a_person_goes_its_way_whoever_else_is_there():
    many, few = plan_visits(FootageSettings(seed=3)), plan_visits(FootageSettings(seed=3, num_people=4))
    for ours, theirs in zip(few, many, strict=False):
        assert (ours.person, ours.camera, ours.begin) == (theirs.person, theirs.camera, theirs.begin)
        np.testing.assert_array_equal(ours.way, theirs.way)
    other = plan_visits(FootageSettings(seed=4, num_people=4))
    assert [visit.begin for visit in other] != [visit.begin for visit in few]


def test_true_boxes_bound_what_moves(footage):
    truth = read_tracks(footage / "c1.truth.txt")
    pictures = [picture.astype(np.int16) for _, picture in read_frames(footage / "c1.mp4")]
    street = np.median(pictures, 0)
    inside, outside = [], []
    for number in range(10, 80, 10):
        mask = np.zeros((120, 200), bool)
        for left, top, width, height in truth.box[truth.frame == number]:
            mask[round(top) : round(top + height), max(0, round(left)) : round(left + width)] = True
        changed = np.abs(pictures[number - 1] - street).max(-1) > 60
        inside.append(changed[mask].sum())
        outside.append(changed[~mask].sum())
    assert sum(inside) > 20 * sum(outside) > 0 or sum(outside) == 0


def crowd(num_people=12, num_frames=200):
    """People who cross a wide picture at different heights, one after the other."""
    rows = []
    for person in range(num_people):
        begin, speed = 5 * person, 3 + 0.51 * person
        for frame in range(begin, num_frames):
            if 0 <= (left := speed * (frame - begin)) < 600:
                rows.append((frame + 1, person + 1, left, 100 + 4 * (person % 5), 50, 120))
    table = np.array(sorted(rows), np.float64)
    return Boxes(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:], np.ones(len(table)))


PERFECT = TrackerErrors(0, 0, 1, 8, 0, 0.3, 0, 0, 0, 1)


def follow(seed=0, **errors):
    truth = crowd()
    boxes = track_people(truth, (360, 640), np.random.default_rng(seed), TrackerErrors(**{**vars(PERFECT), **errors}))
    pairs = set(zip(boxes.track.tolist(), boxes.frame.tolist(), strict=True))
    assert len(pairs) == len(boxes)
    assert set(boxes.track.tolist()) == set(range(1, boxes.track.max(initial=0) + 1))
    return truth, boxes, true_people(boxes, truth)


def people_of_tracks(boxes, people):
    return [set(people[(boxes.track == track) & (people >= 0)].tolist()) for track in np.unique(boxes.track)]


def test_without_mistakes_the_tracks_are_the_truth():
    truth, boxes, people = follow()
    np.testing.assert_array_equal(boxes.box, truth.box.round(2))
    assert (people == truth.track).all()
    assert people_of_tracks(boxes, people) == [{person} for person in range(1, 13)]


def test_boxes_jitter_and_are_missed():
    truth, boxes, people = follow(jitter=0.02, missed=0.1)
    assert 0.85 < len(boxes) / len(truth) < 0.95
    assert (people >= 0).mean() > 0.99
    rows = {(f, p): row for row, (f, p) in enumerate(zip(truth.frame, truth.track, strict=True))}
    off = [b - truth.box[rows[f, p]] for f, p, b in zip(boxes.frame, people, boxes.box, strict=True) if p >= 0]
    assert 0.9 < np.std(off) / (0.02 * 120) < 1.1


def test_who_is_hidden_is_lost_and_found_under_another_number():
    truth, boxes, people = follow(hidden=0.5, patience=3)
    covered = covered_shares(truth)
    assert len(boxes) == (covered <= 0.5).sum() < len(truth)
    tracks = people_of_tracks(boxes, people)
    assert len(tracks) > 12 and all(len(track) == 1 for track in tracks)
    for track in np.unique(boxes.track):
        assert np.diff(boxes.frame[boxes.track == track]).max(initial=0) <= 3


def test_tracks_break():
    _, boxes, people = follow(broken=0.02)
    tracks = people_of_tracks(boxes, people)
    assert len(tracks) > 15 and all(len(track) == 1 for track in tracks)


def test_people_who_cross_exchange_their_tracks():
    _, boxes, people = follow(switched=0.3)
    tracks = people_of_tracks(boxes, people)
    assert len(tracks) == 12 and (people >= 0).all()
    assert sum(len(track) > 1 for track in tracks) >= 2
    for track in np.unique(boxes.track):
        of_track = boxes.track == track
        for change in np.flatnonzero(np.diff(people[of_track])):
            before, after = boxes.box[of_track][change : change + 2, 0]
            assert abs(before - after) < 50


def test_doubles_have_a_person_and_a_false_box_has_nobody():
    _, boxes, people = follow(doubled=0.5)
    assert (people >= 0).sum() == len(crowd()) and len(boxes) > len(crowd())
    alone = boxes[people < 0]
    assert all((alone.track == track).sum() >= 8 or (boxes.track == track).sum() <= 25 for track in alone.track)
    _, boxes, people = follow(false=0.05)
    assert sum(not track for track in people_of_tracks(boxes, people)) > 3


def test_settings_out_of_range_and_other_folders_are_refused(footage, tmp_path):
    for setting, message in (
        ({"num_people": 0}, "num_people is 0: give a whole number of at least 1"),
        ({"seconds": 5}, "seconds is 5: give a number of at least 8"),
        ({"light": "noon"}, "light is 'noon': choose one of day"),
    ):
        with pytest.raises(InputError, match=message):
            render_footage(tmp_path / "new", **setting)
    assert not (tmp_path / "new").exists()
    assert render_footage(footage, **SMALL) == footage
    with pytest.raises(InputError, match="was rendered with seed = 3 instead of 7: choose another"):
        render_footage(footage, **{**SMALL, "seed": 7})
    with pytest.raises(InputError, match="was not made by this renderer"):
        render_footage(tmp_path, **SMALL)
