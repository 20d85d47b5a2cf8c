"""No run is lost: whatever ends one, model.resume auto goes on, and ends as if nothing had happened."""

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import interrupted_runs
import pytest
import torch
import train_hhcl

from hhcl_torchreid.checkpoint import load_checkpoint, save_checkpoint
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.interruption import Interrupted, catch_signals, uninterrupted

LAST = Path("model", "model-last.pth.tar")
ENDINGS = {
    "killed_while_labelling": -signal.SIGKILL,
    "killed_between_steps": -signal.SIGKILL,
    "killed_while_saving": -signal.SIGKILL,
    "terminated": 128 + signal.SIGTERM,
    "interrupted": 128 + signal.SIGINT,
    "out_of_space": 2,
}


@pytest.fixture(scope="module")
def ended_runs(data_root, tmp_path_factory):
    """A folder with one run for each of ``ENDINGS``, and their exit codes."""
    folder = tmp_path_factory.mktemp("runs")
    script = [sys.executable, interrupted_runs.__file__, data_root, folder, *ENDINGS]
    finished = subprocess.run([str(part) for part in script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder, json.loads(finished.stdout)


@pytest.fixture(scope="module")
def whole_run(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert train_hhcl.main(interrupted_runs.arguments(data_root, folder)) == 0
    return folder


def outcome(folder):
    """Labels, and all of metrics.csv but the seconds."""
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = [
            {column: value for column, value in row.items() if not column.startswith("seconds")}
            for row in csv.DictReader(file)
        ]
    return rows, (folder / "labels.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ends_a_run_leaves_one_that_resumes_to_the_bit(ended_runs, whole_run, data_root, ending):
    folder, exit_codes = ended_runs
    output = (folder / f"{ending}.txt").read_text(encoding="utf-8")
    assert exit_codes[ending] == ENDINGS[ending], output
    assert "Traceback" not in output
    assert load_checkpoint(folder / ending / LAST)["epoch"] == 1  # the second epoch was not finished
    assert train_hhcl.main([*interrupted_runs.arguments(data_root, folder / ending), "model.resume", "auto"]) == 0
    assert outcome(folder / ending) == outcome(whole_run)
    resumed, whole = (load_checkpoint(path / LAST)["state_dict"] for path in (folder / ending, whole_run))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("ending", ["terminated", "interrupted"])
def test_a_signal_lets_the_step_finish_and_says_how_to_resume(ended_runs, ending):
    folder, _ = ended_runs
    output = (folder / f"{ending}.txt").read_text(encoding="utf-8")
    assert "the memory has taken the step" in output
    assert "model.resume auto" in output.splitlines()[-1]


def test_a_full_disk_is_one_sentence(ended_runs):
    folder, _ = ended_runs
    errors = [line for line in (folder / "out_of_space.txt").read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    # The second epoch's weights go to the best checkpoint first where they are better than the first one's.
    assert re.search(r"model-(last|best)\.pth\.tar: File too large; the checkpoint that was there is intact", errors[0])
    assert not list((folder / "out_of_space" / "model").glob(".*"))


def test_a_checkpoint_survives_a_disk_without_room_for_the_next(tmp_path):
    path = tmp_path / "model" / "model-last.pth.tar"
    save_checkpoint({"weights": torch.ones(10)}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*File too large; the checkpoint that was there is intact"):
            save_checkpoint({"weights": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_must_not_be_broken_off(number):
    handler, done = signal.getsignal(number), []
    with pytest.raises(Interrupted) as raised, catch_signals(), uninterrupted():
        with uninterrupted():
            os.kill(os.getpid(), number)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert raised.value.signal == number
    assert signal.getsignal(number) == handler


def test_a_signal_ends_everything_else_at_once_and_a_second_one_does_not_wait():
    with pytest.raises(Interrupted), catch_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on after a signal")
    with pytest.raises(Interrupted), catch_signals(), uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on after a second signal")
    with uninterrupted():  # of what comes later, no signal is left
        pass
