"""Files and folders: whole or not at all, and never in place of what is no file."""

import os

import pytest

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import check_folder, replacing, replacing_folder


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    for name in ("first", "second"):
        with replacing_folder(tmp_path / "page" / "pictures") as new:
            (new / name).write_text(name)
    assert [path.name for path in (tmp_path / "page" / "pictures").iterdir()] == ["second"]
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["pictures"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    with replacing_folder(tmp_path / "pictures") as new:
        (new / "old").write_text("old")
    with pytest.raises(InputError, match="No space left"), replacing_folder(tmp_path / "pictures") as new:
        (new / "half").write_text("half")
        raise OSError(28, "No space left on device")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_file_in_place_of_a_folder_stays(tmp_path):
    (tmp_path / "pictures").write_text("a file")
    with pytest.raises(InputError, match="no ordinary folder"), replacing_folder(tmp_path / "pictures"):
        pass
    assert (tmp_path / "pictures").read_text() == "a file"


def test_a_pipe_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"), replacing(tmp_path / "pipe", "wb"):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_results_do_not_go_among_the_images(tmp_path):
    (tmp_path / "crops").mkdir()
    (tmp_path / "link").symlink_to("crops")
    for inside in (tmp_path / "crops", tmp_path / "crops" / "a" / "b", tmp_path / "link" / "a"):
        with pytest.raises(InputError, match=r"--out .* lies in the folder of the images"):
            check_folder(inside, tmp_path / "crops")
    check_folder(tmp_path / "out", tmp_path / "crops")
    assert (tmp_path / "out").is_dir()
