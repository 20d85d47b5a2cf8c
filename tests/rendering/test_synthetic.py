"""The rendered data set: readable by torchreid, reproducible, and a fair re-identification problem."""

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torchreid

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.rendering import (
    contact_sheet,
    render_distractor,
    render_tracklet,
    sample_camera,
    sample_person,
    write_contact_sheet,
)
from hhcl_torchreid.rendering import market1501 as synthetic
from hhcl_torchreid.rendering.market1501 import MARKET1501_SIZE, RenderingSettings, SyntheticMarket, render_market1501

REPOSITORY = Path(__file__).resolve().parents[2]
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
def tiny_root(tmp_path_factory):
    """A root that holds one small rendering, as both data sets expect it."""
    root = tmp_path_factory.mktemp("tiny")
    render_market1501(root / "synthetic_market", workers=1, **TINY)
    (root / "market1501").symlink_to(root / "synthetic_market", target_is_directory=True)
    return root


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def all_frames(people, cameras, num_frames=2, seed=0):
    """(people, cameras, frames, pixels) float32."""
    pictures = [[render_tracklet(seed, p, c, num_frames, 64, 32) for c in cameras] for p in people]
    return np.asarray(pictures, np.float32).reshape(len(people), len(cameras), num_frames, -1)


# --- layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [torchreid.data.datasets.Market1501, SyntheticMarket])
def test_torchreid_reads_the_layout(tiny_root, dataset):
    data = dataset(root=str(tiny_root), verbose=False)
    assert data.num_train_pids == 5
    assert {pid for _, pid, *_ in data.query} == {6, 7, 8, 9}
    assert {pid for _, pid, *_ in data.gallery} == {0, 6, 7, 8, 9}
    assert sum(pid == 0 for _, pid, *_ in data.gallery) == 3
    assert all(0 <= camera < 6 for _, _, camera, *_ in data.train + data.query + data.gallery)
    assert cv2.imread(data.train[0][0]).shape == (64, 32, 3)


def test_names_are_those_of_market1501(tiny_root):
    names = list(contents(tiny_root / "synthetic_market" / "Market-1501-v15.09.15"))
    subsets = {name.split("/")[0] for name in names}
    assert subsets == {"bounding_box_train", "query", "bounding_box_test"}
    pattern = re.compile(r"\w+/\d{4}_c[1-6]s\d_\d{6}_\d{2}\.jpg")
    assert all(pattern.fullmatch(name) for name in names)


def test_every_query_has_a_match_at_another_camera(tiny_root):
    data = SyntheticMarket(root=str(tiny_root), verbose=False)
    seen = {(pid, camera) for _, pid, camera, *_ in data.gallery}
    asked = [(pid, camera) for _, pid, camera, *_ in data.query]
    assert len(asked) == len(set(asked)), "one query per person and camera"
    assert set(asked) == {(pid, camera) for pid, camera in seen if pid > 0}
    assert all(any(pid == other and camera != elsewhere for other, elsewhere in seen) for pid, camera in asked)


def test_train_and_test_people_are_different(tiny_root):
    folder = tiny_root / "synthetic_market" / "Market-1501-v15.09.15"
    people = {
        subset: {path.name[:4] for path in (folder / subset).iterdir()} for subset in ("bounding_box_train", "query")
    }
    assert not people["bounding_box_train"] & people["query"]


def test_exact_totals():
    settings = RenderingSettings(**MARKET1501_SIZE)
    files = [file for tracklet in synthetic._plan(settings) for file in tracklet.files]
    assert len(files) == len(set(files))
    folders = [file.split("/")[0] for file in files]
    totals = [folders.count(folder) for folder in ("bounding_box_train", "query", "bounding_box_test")]
    assert totals == [12936, 3368, 15913]


def test_demo_size():
    settings = RenderingSettings()
    num_train = sum(file.startswith("bounding_box_train") for t in synthetic._plan(settings) for file in t.files)
    assert 2000 <= num_train <= 2800


# --- reproducibility ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_gives_the_same_bytes(tiny_root, tmp_path, workers):
    folder = render_market1501(tmp_path / "again", workers=workers, **TINY)
    assert contents(folder) == contents(tiny_root / "synthetic_market" / "Market-1501-v15.09.15")


def test_another_seed_gives_other_bytes(tiny_root, tmp_path):
    folder = render_market1501(tmp_path, seed=1, workers=1, **TINY)
    ours, theirs = contents(folder), contents(tiny_root / "synthetic_market" / "Market-1501-v15.09.15")
    assert not set(ours.values()) & set(theirs.values())


def test_a_frame_depends_on_its_name_only():
    longer = render_tracklet(3, 11, 2, 5, 64, 32)
    shorter = render_tracklet(3, 11, 2, 2, 64, 32)
    assert all(np.array_equal(a, b) for a, b in zip(shorter, longer, strict=False))


def test_seeds_give_other_people_and_cameras():
    assert sample_person(0, 1) == sample_person(0, 1)
    assert sample_person(0, 1) != sample_person(1, 1)
    for index in range(6):
        ours, theirs = sample_camera(0, index), sample_camera(1, index)
        assert not np.array_equal(ours.scene, theirs.scene)
        assert np.abs(ours.colour_matrix - theirs.colour_matrix).max() > 0.02


def test_cameras_of_one_seed_see_grey_differently():
    grey = np.full(3, 128.0)
    seen = np.array([sample_camera(0, i).colour_matrix @ np.append(grey, 1.0) for i in range(6)])
    apart = np.abs(seen[:, None] - seen[None]).max(-1)[~np.eye(6, dtype=bool)]
    assert apart.min() > 8


def test_dusk_is_darker_and_bluer_and_its_cameras_agree_more():
    day, dusk = (
        np.array(
            [
                [render_tracklet(0, person, camera, 1, 64, 32, light)[0].mean((0, 1)) for camera in range(6)]
                for person in range(4)
            ]
        )
        for light in ("day", "dusk")
    )
    assert dusk.mean() < 0.7 * day.mean()
    assert dusk[..., 2].mean() / dusk[..., 0].mean() > 1.15 * day[..., 2].mean() / day[..., 0].mean()
    assert (dusk.mean(0) / dusk.mean()).std() < (day.mean(0) / day.mean()).std()


# --- a fair problem -----------------------------------------------------------------------------------------------


def test_tracklets_hang_together():
    frames = all_frames(range(6), [0, 3])
    flat = frames.reshape(24, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    tracklet = np.arange(24) // 2
    assert (tracklet[distances.argmin(1)] == tracklet).mean() > 0.9


def test_a_person_looks_like_itself_at_another_camera():
    frames = all_frames(range(24), [0, 2, 4])[:, :, 0].reshape(24, 3, 64, 32, 3)[:, :, 8:60, 8:24]
    blocks = frames.reshape(24, 3, 13, 4, 4, 4, 3).mean((3, 5)).reshape(24, 3, -1)
    normal = blocks - blocks.mean(0)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    similar = np.einsum("pad,qbd->abpq", normal, normal)[[0, 0, 1], [1, 2, 2]]
    same = np.einsum("app->ap", similar).mean()
    other = (similar.sum() - np.einsum("app->", similar)) / (3 * 24 * 23)
    assert same > other + 0.15


def test_viewpoint_changes_what_one_sees():
    pictures = all_frames([5], range(6), num_frames=1)[0, :, 0]
    assert np.abs(pictures[:, None] - pictures[None]).mean(-1)[~np.eye(6, dtype=bool)].min() > 8


@pytest.mark.parametrize("height, width", [(128, 64), (256, 128), (97, 51), (32, 16)])
def test_any_size(height, width):
    for picture in (render_tracklet(0, 1, 1, 1, height, width)[0], render_distractor(0, 1, 1, height, width)):
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 5


# --- first use, later use, bad use ----------------------------------------------------------------------------------


def test_renders_itself_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "render_market1501", lambda root: render_market1501(root, workers=1, **TINY))
    datamanager = torchreid.data.ImageDataManager(
        root=str(tmp_path), sources="synthetic", height=64, width=32, batch_size_train=4, workers=0, use_gpu=False
    )
    assert datamanager.num_train_pids == 5
    assert next(iter(datamanager.train_loader))["img"].shape == (4, 3, 64, 32)


def test_registering_twice_is_harmless():
    synthetic._register()


def test_says_when_it_is_not_the_demo(tiny_root, capsys):
    SyntheticMarket(root=str(tiny_root))
    assert "num_train_ids = 5 instead of 120" in capsys.readouterr().out


def test_rendering_again_is_free_and_other_arguments_are_refused(tiny_root):
    root = tiny_root / "synthetic_market"
    before = (root / "Market-1501-v15.09.15").stat().st_mtime_ns
    render_market1501(root, **TINY)
    assert (root / "Market-1501-v15.09.15").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed = 0 instead of 5"):
        render_market1501(root, seed=5, **TINY)


def test_other_version_and_foreign_folders_are_refused(tmp_path):
    folder = tmp_path / "synthetic_market" / "Market-1501-v15.09.15"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="not made by this renderer"):
        SyntheticMarket(root=str(tmp_path))
    (folder / "rendering.json").write_text(json.dumps({"renderer": -1, "arguments": {}}))
    with pytest.raises(InputError, match="version -1"):
        SyntheticMarket(root=str(tmp_path))


def test_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "render_tracklet", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_market1501(tmp_path, workers=1, **TINY)
    assert list(tmp_path.iterdir()) == []
    assert contents(render_market1501(tmp_path, workers=1, **TINY))


def test_a_faster_process_wins(tiny_root, tmp_path, monkeypatch):
    """Two ranks render at once; the second finds the folder there when it wants to publish its own."""
    finished = render_market1501(tmp_path, workers=1, **TINY)
    settings = RenderingSettings(**TINY)
    synthetic._render_then_publish(list(synthetic._plan(settings))[:1], finished, settings, 1)
    assert len(contents(finished)) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["Market-1501-v15.09.15"]


@pytest.mark.parametrize(
    "arguments, words",
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
        ({"light": "noon"}, "light is 'noon'.*day, dusk"),
    ],
)
def test_bad_arguments(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        render_market1501(tmp_path, **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot render into"):
        render_market1501(tmp_path / "file" / "below", workers=1, **TINY)


def test_root_that_torchreid_would_misread(tmp_path):
    with pytest.raises(InputError, match="folder name"):
        SyntheticMarket(root=str(tmp_path / "run_12_c3"))


# --- the tool -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tool(monkeypatch):
    """The tool's ``main``, to be called with the words of a command line."""
    file = REPOSITORY / "tools" / "render_people.py"
    spec = importlib.util.spec_from_file_location("render_people", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["render_people.py", *map(str, words)])
        return module.main()

    return run


def test_tool_reports_bad_input_in_one_line(tool, capsys):
    assert tool("--root", "unused", "--train-ids", 2000) == 2
    assert capsys.readouterr().err.splitlines() == [
        "render_people: num_train_ids + num_test_ids is 2050, but Market-1501's layout has room for 1501 identities: "
        "ask for fewer."
    ]


def test_tool_renders_and_writes_a_sheet(tool, tmp_path):
    words = ["--train-ids", 2, "--test-ids", 2, "--height", 32, "--width", 16, "--workers", 1]
    assert tool("--root", tmp_path, "--folder", "market1501", "--sheet", tmp_path / "sheet.png", *words) == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (8 * 32, 6 * 3 * 16, 3)
    assert torchreid.data.datasets.Market1501(root=str(tmp_path), verbose=False).num_train_pids == 2


def test_tool_without_a_task_says_so(tool):
    with pytest.raises(SystemExit) as stop:
        tool()
    assert stop.value.code == 2


def test_contact_sheet(tmp_path):
    sheet = contact_sheet(num_people=2, num_cameras=2, frames_per_camera=2, height=64, width=32)
    assert sheet.shape == (128, 128, 3)
    with pytest.raises(InputError, match="cannot write"):
        write_contact_sheet(tmp_path / "missing" / "sheet.png", height=32, width=16)
