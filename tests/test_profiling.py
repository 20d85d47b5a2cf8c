import sys
import time

import pytest
import torch
from clustering_cases import DEVICES

from hhcl_torchreid import profiling
from hhcl_torchreid.profiling import PeakMemory, Stopwatch

CPU = torch.device("cpu")
LARGE, SMALL = 400 << 20, 60 << 20


def hold(num_bytes, device):
    torch.ones(num_bytes, dtype=torch.uint8, device=device)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not start the count anew")
@pytest.mark.parametrize("device", DEVICES)
def test_peak_memory_leaves_out_what_was_before(device):
    hold(LARGE, device)
    kept = torch.ones(SMALL, dtype=torch.uint8, device=device)
    memory = PeakMemory(torch.device(device))
    assert memory.bytes() < SMALL // 2
    hold(SMALL, device)
    hold(SMALL, device)
    assert 0.9 * SMALL < memory.bytes() < 1.5 * SMALL
    del kept
    assert 0.9 * SMALL < memory.bytes() < 1.5 * SMALL


def test_without_the_file_system_of_processes_the_growth_of_the_largest_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(profiling, "PROCESS", tmp_path / "nowhere")
    memory = PeakMemory(CPU)
    assert 0 <= memory.bytes() < SMALL


def test_laps_follow_each_other():
    watch = Stopwatch(CPU)
    time.sleep(0.02)
    watch.lap("sleep")
    watch.lap("nothing")
    assert list(watch.seconds) == ["sleep", "nothing"]
    assert watch.seconds["sleep"] >= 0.02 > watch.seconds["nothing"]
