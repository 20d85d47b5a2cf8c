"""Runs that are killed at random moments; ``kill_for.py`` does it for as long as one likes."""

import os
import subprocess
import sys

import kill_for
import torch


def test_runs_that_are_killed_end_as_whole_ones(data_root):
    command = [sys.executable, kill_for.__file__, "60", "--kills", "2", "--root", str(data_root)]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_comparison_sees_a_bit():
    tree = {"a": [torch.zeros(3), {"b": (1, 2.5)}]}
    assert kill_for.same(tree, {"a": [torch.zeros(3), {"b": (1, 2.5)}]})
    for other in (
        {"a": [torch.tensor([0, 0, 1e-45]), {"b": (1, 2.5)}]},
        {"a": [torch.zeros(3), {"b": (1, 2)}]},
        {"a": []},
    ):
        assert not kill_for.same(tree, other)
