"""A folder of crops without labels: its files, its cameras, what is left out, and a whole run on it."""

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchreid
import train_hhcl
from PIL import Image
from small_runs import SMALL, pairs

from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.data.datasets import UNKNOWN_IDENTITY, FolderOfCrops
from hhcl_torchreid.data.folder import camera_names, find_images
from hhcl_torchreid.data.screening import SMALLEST_SIDE, screen_images
from hhcl_torchreid.errors import InputError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_images_are_found_at_any_depth_by_suffix(tmp_path):
    images = ["b.jpg", "a/x.JPEG", "a/c/y.Png", "a/c/d/z.webp", "w.BMP", 'a/sp ace "q" <b> 人 й.jpg']
    touch(tmp_path, *images, "a/notes.txt", ".hidden.jpg", "a/._x.jpg", ".cache/thumb.jpg", "jpg", "x.jpg.part")
    found = find_images(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found) == sorted(images)
    assert found == sorted(found) == find_images(str(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    touch(tmp_path / "elsewhere", "a.jpg")
    root = tmp_path / "root"
    touch(root, "cam1/b.jpg")
    (root / "cam2").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "cam1" / "circle").symlink_to(root, target_is_directory=True)
    assert find_images(root) == [root / "cam1" / "b.jpg", root / "cam2" / "a.jpg"]


def test_a_missing_and_an_empty_folder_are_named(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match=str(folder)):
            find_images(folder)
    touch(tmp_path, "file.jpg")
    with pytest.raises(InputError, match=r"file\.jpg is no folder"):
        find_images(tmp_path / "file.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_without_rights_is_named(tmp_path):
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(InputError, match="locked"):
            find_images(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_the_camera_is_the_first_folder(tmp_path):
    paths = [tmp_path / name for name in ("east/a.jpg", "west/2020/b.jpg", "c.jpg")]
    assert camera_names(paths, tmp_path) == ["east", "west", ""]


def test_the_camera_is_the_first_group_of_the_expression(tmp_path):
    paths = [tmp_path / name for name in ("monday/x_cam07_1.jpg", "tuesday/y_cam12_2.jpg")]
    assert camera_names(paths, tmp_path, r"_cam(\d+)_(\d)") == ["07", "12"]
    assert camera_names(paths, str(tmp_path), r"^(\w+)/") == ["monday", "tuesday"]
    assert camera_names([], tmp_path, r"^(\w+)/") == []


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("_c(", "no regular expression"), (r"_c\d", "no group"), (r"_c(\d)", "monday/x<.jpg"), ("(q)?", "monday/x<.jpg")],
)
def test_expressions_that_give_no_camera(tmp_path, pattern, named):
    with pytest.raises(InputError, match=named) as raised:
        camera_names([tmp_path / "monday" / "x<.jpg"], tmp_path, pattern)
    assert repr(pattern) in str(raised.value) and "data.camera_regex" in str(raised.value)


def crop(seed, height=48, width=24):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(picture, *path, **options):
    Path(*path).parent.mkdir(parents=True, exist_ok=True)
    picture.save(Path(*path), **options)


def data_set(root, **settings):
    return FolderOfCrops(root=str(root), verbose=False, **settings)


@pytest.fixture(autouse=True)
def _no_expression():
    FolderOfCrops.camera_regex = ""


def test_unreadable_tiny_and_duplicate_files_are_left_out(tmp_path):
    save(crop(0), tmp_path, "a.png")
    save(crop(1), tmp_path, "b", "b.png")
    (tmp_path / "b" / "again.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    (tmp_path / "d.jpg").write_bytes(b"")
    save(crop(2, SMALLEST_SIDE, SMALLEST_SIDE), tmp_path, "e.bmp")
    save(crop(3, 40, SMALLEST_SIDE - 1), tmp_path, "f.bmp")
    paths = [tmp_path / name for name in ("a.png", "b/again.png", "b/b.png", "c.png", "d.jpg", "e.bmp", "f.bmp")]
    assert find_images(tmp_path) == paths
    kept, left_out = screen_images(paths)
    assert kept == [paths[0], paths[2], paths[5]]
    assert [(image.path, image.reason) for image in left_out] == [
        (paths[1], f"duplicate of {paths[0]}"),
        (paths[3], "unreadable"),
        (paths[4], "unreadable"),
        (paths[6], "tiny: 7 x 40 pixels"),
    ]
    assert [image.kind for image in left_out] == ["duplicate", "unreadable", "unreadable", "tiny"]


def test_without_labels_there_is_a_training_set_and_no_test_set(tmp_path):
    for i, name in enumerate(("west/1.png", "east/x/2.png", "east/3.png", "4.png")):
        save(crop(i), tmp_path, name)
    dataset = data_set(tmp_path)
    cameras = {Path(path).name: camera for path, _, camera, _ in dataset.data}
    assert cameras == {"4.png": 0, "2.png": 1, "3.png": 1, "1.png": 2}
    assert {identity for _, identity, _, _ in dataset.data} == {UNKNOWN_IDENTITY}
    assert len(data_set(tmp_path, mode="query")) == len(data_set(tmp_path, mode="gallery")) == 0
    FolderOfCrops.camera_regex = r"(\d)\.png"
    assert [camera for *_, camera, _ in data_set(tmp_path).data] == [3, 2, 1, 0]


def market_name(identity, camera, index=0):
    return f"{identity:04d}_c{camera}s1_{index:06d}_00.jpg"


def write_test_set(root):
    save(crop(100), root, "query", market_name(7, 1))
    save(crop(101), root, "gallery", market_name(7, 12))
    save(crop(102), root, "gallery", "more", market_name(0, 2))
    save(crop(103), root, "gallery", "-1_c2s1_000000_00.jpg")


@pytest.mark.parametrize("in_train", [False, True])
def test_query_and_gallery_are_a_labelled_test_set(tmp_path, in_train):
    write_test_set(tmp_path)
    below = tmp_path / "train" if in_train else tmp_path
    for i, name in enumerate(("west/1.png", "east/2.png", "queries/3.png")):
        save(crop(i), below, name)
    if in_train:
        save(crop(9), tmp_path, "elsewhere", "9.png")
    trained = {Path(path).relative_to(below).as_posix(): camera for path, _, camera, _ in data_set(tmp_path).data}
    assert trained == {"east/2.png": 0, "queries/3.png": 1, "west/1.png": 2}
    assert [record[1:] for record in data_set(tmp_path, mode="query").data] == [(7, 0, 0)]
    assert sorted(record[1:] for record in data_set(tmp_path, mode="gallery").data) == [(0, 1, 0), (7, 11, 0)]


def test_one_of_query_and_gallery_alone_is_a_camera(tmp_path):
    save(crop(0), tmp_path, "query", "a.png")
    save(crop(1), tmp_path, "train", "b.png")
    assert [camera for *_, camera, _ in data_set(tmp_path).data] == [0, 1]
    assert len(data_set(tmp_path, mode="query")) == 0


def test_identities_stay_unknown_beside_another_data_set(tmp_path, data_root):
    save(crop(0), tmp_path, "a.png")
    known = torchreid.data.datasets.Market1501(root=str(data_root), verbose=False)
    for joined in (known + data_set(tmp_path), data_set(tmp_path) + known):
        assert sum(identity < 0 for _, identity, _, _ in joined.train) == 1
        assert len(joined.train) == len(known.train) + 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda root: save(crop(5), root, "query", "someone.jpg"), "someone.jpg"),
        (lambda root: (root / "gallery" / market_name(7, 12)).unlink(), "identity at another camera"),
        (lambda root: shutil.rmtree(root / "cam1"), "no training image"),
        (lambda root: (root / "cam1" / "a.png").write_bytes(b"no image"), "1 unreadable"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, spoil, named):
    write_test_set(tmp_path)
    save(crop(0), tmp_path, "cam1", "a.png")
    data_set(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=named):
        data_set(tmp_path)


ODD_NAMES = (
    "with space",
    'quo"te',
    "it's",
    "<img src=x onerror=alert(1)>",
    "人物",
    "прохожий",
    "comma, semicolon;",
    "two\nlines",
    os.fsdecode(b"not unicode \xff"),
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory, data_root):
    """Rendered people stripped of their labels, under names that break careless programs."""
    root = tmp_path_factory.mktemp('crops "<b>é')
    images = sorted((data_root / "market1501" / "Market-1501-v15.09.15" / "bounding_box_train").iterdir())
    for i, image in enumerate(images):
        camera = re.search(r"_c(\d)", image.name)[1]
        target = root / f"cam <{camera}>" / f"{ODD_NAMES[i % len(ODD_NAMES)]} {i}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(image.read_bytes())
    (root / "broken 'x'.jpg").write_bytes(b"no image")
    (root / os.fsdecode(b"broken \xff.jpg")).write_bytes(b"no image")
    (root / "copy.jpg").write_bytes(images[0].read_bytes())
    return root


def train(root, folder, *options):
    settings = {**SMALL, "data.save_dir": folder, "data.sources": "['folder']", "data.targets": "['folder']"}
    return train_hhcl.main(["--root", str(root), *pairs(settings), *options])


def read_csv(*path):
    with open(Path(*path), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unlabelled_run(crops, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    assert train(crops, folder, "train.max_epoch", "2", "test.eval_freq", "1") == 0
    return folder


def test_a_run_without_labels_leaves_what_makes_sense(crops, unlabelled_run):
    names = sorted(str(path).encode("utf-8", "backslashreplace").decode() for path in crops.rglob("*.jpg"))
    left_out = {row["image"]: row["reason"] for row in read_csv(unlabelled_run, "left_out.csv")}
    assert left_out[str(crops / "broken 'x'.jpg")] == "unreadable"
    assert left_out[str(crops / r"broken \udcff.jpg")] == "unreadable"
    assert [reason.split()[0] for reason in left_out.values()].count("duplicate") == 1
    labels = read_csv(unlabelled_run, "labels.csv")
    assert sorted([row["image"] for row in labels] + list(left_out)) == names
    assert len({row["camera"] for row in labels}) == len(list(crops.glob("cam*"))) + (
        str(crops / "copy.jpg") not in left_out
    )
    rows = read_csv(unlabelled_run, "metrics.csv")
    assert not {"ari", "nmi", "mAP", "rank1", "seconds_evaluate"} & set(rows[0])
    assert [row["epoch"] for row in rows] == ["0", "1", "2"] and all(row["loss"] for row in rows[1:])
    for name in ("curves.png", "clusters.png", "model/model-last.pth.tar"):
        assert (unlabelled_run / name).stat().st_size > 0


def test_without_a_test_set_the_label_free_measure_names_the_best_epoch(unlabelled_run):
    measured = {int(row["epoch"]): float(row["self_retrieval"]) for row in read_csv(unlabelled_run, "metrics.csv")}
    assert set(measured) == {0, 1, 2}
    del measured[0]
    best = load_checkpoint(unlabelled_run / "model" / "model-best.pth.tar")
    assert best["epoch"] == max(measured, key=measured.get)
    assert load_checkpoint(unlabelled_run / "model" / "model-last.pth.tar")["epoch"] == 2


def test_the_best_checkpoint_holds_the_weights_that_were_measured(crops, unlabelled_run, tmp_path):
    best = load_checkpoint(unlabelled_run / "model" / "model-best.pth.tar")
    assert train(crops, tmp_path, "train.max_epoch", str(best["epoch"])) == 0
    last = load_checkpoint(tmp_path / "model" / "model-last.pth.tar")
    assert all(torch.equal(weight, best["state_dict"][name]) for name, weight in last["state_dict"].items())


def test_a_run_without_labels_resumes(crops, unlabelled_run, tmp_path, capsys):
    assert train(crops, tmp_path, "train.max_epoch", "1", "test.eval_freq", "1") == 0
    again = ("train.max_epoch", "2", "test.eval_freq", "1", "model.resume", "auto")
    assert train(crops, tmp_path, *again) == 0
    assert train(crops, tmp_path, *again) == 0
    output = capsys.readouterr().out
    assert "No labelled query and gallery" in output
    assert f"judged without labels: {load_checkpoint(tmp_path / 'model' / 'model-best.pth.tar')['epoch']} (" in output
    untimed = [
        [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in read_csv(folder, "metrics.csv")]
        for folder in (tmp_path, unlabelled_run)
    ]
    assert untimed[0] == untimed[1]


def test_one_camera_is_enough(crops, tmp_path):
    flat = tmp_path / "flat"
    for i, image in enumerate(sorted(crops.glob("cam*/*.jpg"))):
        (flat / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (flat / f"{i}.jpg").symlink_to(image)
    assert train(flat, tmp_path / "log") == 0
    assert {row["camera"] for row in read_csv(tmp_path, "log", "labels.csv")} == {"0"}


def test_labelled_query_and_gallery_are_evaluated(crops, data_root, tmp_path):
    root = tmp_path / "crops"
    market = data_root / "market1501" / "Market-1501-v15.09.15"
    (root / "people").mkdir(parents=True)
    for name, target in (("query", "query"), ("bounding_box_test", "gallery")):
        (root / target).symlink_to(market / name, target_is_directory=True)
    for folder in crops.glob("cam*"):
        (root / "people" / folder.name).symlink_to(folder, target_is_directory=True)
    assert train(root, tmp_path / "log", "data.camera_regex", r"cam <(\d)>") == 0
    rows = read_csv(tmp_path, "log", "metrics.csv")
    assert all(row["mAP"] and row["rank1"] for row in rows) and "ari" not in rows[0]
    assert len({row["camera"] for row in read_csv(tmp_path, "log", "labels.csv")}) == len(list(crops.glob("cam*")))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("data.camera_regex", "_c("), "data.camera_regex"),
        (("data.camera_regex", "cam"), "no group"),
        (("data.camera_regex", r"cam <(\d)>"), "finds no camera in"),
        (("test.evaluate", "True"), "nothing to test on"),
        (("engine.labels", "identities"), "no true label"),
    ],
)
def test_bad_settings_for_a_folder(crops, tmp_path, capsys, options, named):
    assert train(crops, tmp_path, *options) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert named in line


def test_an_empty_and_a_missing_folder(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        assert train(tmp_path / name, tmp_path / "log") == 2
        error = capsys.readouterr().err
        assert error.count("error: ") == 1 and str(tmp_path / name) in error and "Traceback" not in error
