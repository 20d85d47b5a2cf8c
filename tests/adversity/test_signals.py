"""A real command ends by a real signal; ``signalled.py`` does it to all of them."""

import signal

import signalled


def test_a_command_that_is_terminated_leaves_what_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    signalled.prepare("crop-tracks")
    code, output, left = signalled.end("crop-tracks", signal.SIGTERM)
    assert code == 143 and not left, output
    assert output.splitlines()[-1] == "interrupted by SIGTERM; the same command goes on where this one stopped"
    assert all(crop.read_bytes()[-2:] == b"\xff\xd9" for crop in tmp_path.glob("out/hall/*/*.jpg"))
