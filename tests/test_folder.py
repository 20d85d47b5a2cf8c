"""A folder of crops without labels: its files, its cameras, what is left out, and a whole run on it."""

import os
import sys

import pytest

from hhcl_torchreid.data.folder import camera_names, find_images
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
