"""The tool that renders people."""

import cv2
import pytest
import render_people
import torchreid


def call(*words):
    return render_people.main([str(word) for word in words])


def test_bad_input_ends_in_one_line(capsys):
    assert call("--root", "unused", "--train-ids", 2000) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: num_train_ids + num_test_ids is 2050, but Market-1501's layout has room for 1501 identities: "
        "ask for fewer"
    ]


def test_renders_and_writes_a_sheet(tmp_path):
    words = ["--train-ids", 2, "--test-ids", 2, "--height", 32, "--width", 16, "--workers", 1]
    assert call("--root", tmp_path, "--folder", "market1501", "--sheet", tmp_path / "sheet.png", *words) == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (8 * 32, 6 * 3 * 16, 3)
    assert torchreid.data.datasets.Market1501(root=str(tmp_path), verbose=False).num_train_pids == 2


def test_a_call_without_a_task_is_refused():
    with pytest.raises(SystemExit) as stop:
        call()
    assert stop.value.code == 2


def test_renders_footage(tmp_path, capsys):
    words = ["--people", 1, "--cameras", 1, "--seconds", 8, "--seed", 1]
    assert call("--footage", tmp_path / "footage", *words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "footage")
    assert {path.name for path in (tmp_path / "footage").iterdir()} == {
        "c1.mp4",
        "c1.truth.txt",
        "c1.tracks.txt",
        "rendering.json",
    }
    assert call("--footage", tmp_path / "other", "--seconds", 1) == 2
    assert "seconds is 1.0: give a number of at least 8" in capsys.readouterr().err
