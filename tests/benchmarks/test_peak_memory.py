import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import peak_memory
import pytest
import torch
from clustering_cases import DEVICES
from peak_memory import PeakMemory

CPU = torch.device("cpu")
LARGE, SMALL = 400 << 20, 60 << 20


def hold(num_bytes, device):
    torch.ones(num_bytes, dtype=torch.uint8, device=device)


def in_fresh_process(check, *args):
    """The peak is the whole process's: what other tests have left behind in this one is not to be measured."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(check, *args).result()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not start the count anew")
@pytest.mark.parametrize("device", DEVICES)
def test_peak_memory_leaves_out_what_was_before(device):
    in_fresh_process(check_peak_memory_leaves_out_what_was_before, device)


def check_peak_memory_leaves_out_what_was_before(device):
    hold(LARGE, device)
    kept = torch.ones(SMALL, dtype=torch.uint8, device=device)
    memory = PeakMemory(torch.device(device))
    assert memory.bytes() < SMALL // 2
    hold(SMALL, device)
    hold(SMALL, device)
    assert 0.9 * SMALL < memory.bytes() < 1.5 * SMALL
    del kept
    assert 0.9 * SMALL < memory.bytes() < 1.5 * SMALL


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not start the count anew")
def test_memory_that_was_freed_before_counts_when_work_takes_it_again():
    in_fresh_process(check_memory_that_was_freed_before_counts_when_work_takes_it_again)


def check_memory_that_was_freed_before_counts_when_work_takes_it_again():
    # Once a block of this size is freed, glibc takes smaller ones from its heap, not from the system.
    hold(30 << 20, CPU)
    freed_later = [torch.ones(10 << 20, dtype=torch.uint8) for _ in range(4 * SMALL // (10 << 20))]
    kept_behind = torch.ones(1 << 20, dtype=torch.uint8)
    del freed_later
    memory = PeakMemory(CPU)
    hold(SMALL, CPU)
    assert 0.9 * SMALL < memory.bytes() < 1.5 * SMALL
    del kept_behind


def test_without_the_file_system_of_processes_the_growth_of_the_largest_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(peak_memory, "PROCESS", tmp_path / "nowhere")
    memory = PeakMemory(CPU)
    assert 0 <= memory.bytes() < SMALL
