"""The writer of Market-1501's layout: readable by torchreid, the same bytes every time, whole or not at all."""

import json
import os
import re
import subprocess
import sys
import threading

import cv2
import pytest
import torchreid

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.rendering import MARKET1501_SIZE, RenderingSettings, market1501, render_market1501
from hhcl_torchreid.rendering.plan import plan_tracklets

TINY = {
    "num_train_ids": 5,
    "num_test_ids": 4,
    "images_per_tracklet": (2, 3),
    "cameras_per_person": (2, 3),
    "num_distractors": 3,
    "height": 64,
    "width": 32,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of one small rendering, as torchreid's Market-1501 expects it."""
    return render_market1501(tmp_path_factory.mktemp("tiny") / "market1501", workers=1, **TINY)


@pytest.fixture(scope="module")
def data(tiny):
    return torchreid.data.datasets.Market1501(root=str(tiny.parents[1]), verbose=False)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def test_torchreid_reads_the_layout(data):
    assert data.num_train_pids == 5
    assert {pid for _, pid, *_ in data.query} == {6, 7, 8, 9}
    assert {pid for _, pid, *_ in data.gallery} == {0, 6, 7, 8, 9}
    assert sum(pid == 0 for _, pid, *_ in data.gallery) == 3
    assert all(0 <= camera < 6 for _, _, camera, *_ in data.train + data.query + data.gallery)
    assert cv2.imread(data.train[0][0]).shape == (64, 32, 3)


def test_what_a_killed_rendering_left_is_taken_away(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    gone, other = (tmp_path / f".{market1501.MARKET_FOLDER}.abc.{pid}.tmp" for pid in (killed.pid, os.getppid()))
    for folder in (gone, other):
        (folder / "query").mkdir(parents=True)
    folder = render_market1501(tmp_path, workers=1, **{**TINY, "num_train_ids": 2, "num_test_ids": 2})
    assert sorted(tmp_path.iterdir()) == sorted([other, folder])  # the other is still being made


def test_names_are_those_of_market1501(tiny):
    names = list(contents(tiny))
    assert {name.split("/")[0] for name in names} == {"bounding_box_train", "query", "bounding_box_test"}
    pattern = re.compile(r"\w+/\d{4}_c[1-6]s\d_\d{6}_\d{2}\.jpg")
    assert all(pattern.fullmatch(name) for name in names)


def test_every_query_has_a_match_at_another_camera(data):
    seen = {(pid, camera) for _, pid, camera, *_ in data.gallery}
    asked = [(pid, camera) for _, pid, camera, *_ in data.query]
    assert len(asked) == len(set(asked)), "one query per person and camera"
    assert set(asked) == {(pid, camera) for pid, camera in seen if pid > 0}
    assert all(any(pid == other and camera != elsewhere for other, elsewhere in seen) for pid, camera in asked)


def test_train_and_test_people_are_different(tiny):
    trained, asked = ({path.name[:4] for path in (tiny / name).iterdir()} for name in ("bounding_box_train", "query"))
    assert not trained & asked


def test_exact_totals():
    files = [file for tracklet in plan_tracklets(RenderingSettings(**MARKET1501_SIZE)) for file in tracklet.files]
    assert len(files) == len(set(files))
    folders = [file.split("/")[0] for file in files]
    totals = [folders.count(folder) for folder in ("bounding_box_train", "query", "bounding_box_test")]
    assert totals == [12936, 3368, 15913]


def test_demo_size():
    files = [file for tracklet in plan_tracklets(RenderingSettings()) for file in tracklet.files]
    assert 2000 <= sum(file.startswith("bounding_box_train") for file in files) <= 2800


def test_cameras_take_their_share_of_what_is_drawn():
    def counts(**settings):
        ranges = {"images_per_tracklet": (2, 12), "cameras_per_person": (2, 6)}
        tracklets = plan_tracklets(RenderingSettings(**ranges, **settings))
        return {(tracklet.person, tracklet.camera): len(tracklet.files) for tracklet in tracklets if tracklet.person}

    shares = (1.0, 0.5, 0.3, 1.0, 0.2, 0.75)
    alike, unequal = counts(), counts(camera_shares=shares)
    assert alike.keys() == unequal.keys()
    for (person, camera), count in alike.items():
        in_query = person > RenderingSettings.num_train_ids
        expected = max(2, round((count - in_query) * shares[camera])) + in_query
        assert unequal[person, camera] == expected


def test_exact_totals_hold_with_unequal_cameras():
    settings = {**MARKET1501_SIZE, "camera_shares": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)}
    files = [file for tracklet in plan_tracklets(RenderingSettings(**settings)) for file in tracklet.files]
    assert len(files) == len(set(files)) == 12936 + 3368 + 15913


@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_gives_the_same_bytes(tiny, tmp_path, workers):
    assert contents(render_market1501(tmp_path / "again", workers=workers, **TINY)) == contents(tiny)


def test_another_seed_gives_other_bytes(tiny, tmp_path):
    folder = render_market1501(tmp_path, seed=1, workers=1, **TINY)
    assert not set(contents(folder).values()) & set(contents(tiny).values())


def test_rendering_again_is_free_and_other_settings_are_refused(tiny):
    before = tiny.stat().st_mtime_ns
    render_market1501(tiny.parent, **TINY)
    assert tiny.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed = 0 instead of 5"):
        render_market1501(tiny.parent, seed=5, **TINY)


def test_other_versions_and_foreign_folders_are_refused(tmp_path):
    folder = tmp_path / "Market-1501-v15.09.15"
    folder.mkdir()
    with pytest.raises(InputError, match="not made by this renderer"):
        render_market1501(tmp_path)
    (folder / "rendering.json").write_text(json.dumps({"renderer": -1, "arguments": {}}))
    with pytest.raises(InputError, match="version -1"):
        render_market1501(tmp_path)


def test_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(market1501, "render_tracklet", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_market1501(tmp_path, workers=1, **TINY)
    assert list(tmp_path.iterdir()) == []
    assert contents(render_market1501(tmp_path, workers=1, **TINY))


def test_two_at_once_give_one_whole_rendering(tiny, tmp_path, monkeypatch):
    """Two ranks render at once; the slower finds the folder there when it wants to publish its own."""
    both_begin, folders = threading.Barrier(2), []
    plan = market1501.plan_tracklets

    def plan_together(settings):
        both_begin.wait(timeout=60)
        return plan(settings)

    # Neither looks for the other's folder once both have begun to plan.
    monkeypatch.setattr(market1501, "plan_tracklets", plan_together)
    threads = [
        threading.Thread(target=lambda: folders.append(render_market1501(tmp_path, workers=1, **TINY)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "Market-1501-v15.09.15"] * 2 == [*tmp_path.iterdir()] * 2
    assert contents(folders[0]) == contents(tiny)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_train_ids": 1500}, "1501"),
        ({"num_train_ids": 0}, "num_train_ids is 0"),
        ({"num_test_ids": 2.5}, "num_test_ids is 2.5"),
        ({"cameras_per_person": (1, 3)}, "cameras_per_person"),
        ({"cameras_per_person": (3, 7)}, "cameras_per_person"),
        ({"images_per_tracklet": (5, 4)}, "images_per_tracklet"),
        ({"images_per_tracklet": 5}, "two whole numbers"),
        ({"num_train_images": 10_000}, "num_train_images cannot be reached"),
        ({"height": 8}, "height is 8"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"camera_shares": (1, 1)}, "camera_shares is .*6 numbers above 0"),
        ({"camera_shares": (1, 1, 1, 1, 1, 0)}, "camera_shares is .*at most 1"),
        ({"light": "noon"}, "light is 'noon'.*day, dusk, mixed"),
    ],
)
def test_bad_settings(tmp_path, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        render_market1501(tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot render into"):
        render_market1501(tmp_path / "file" / "below", workers=1, **TINY)
