"""A step of training: what it brings to the CPU, and the memory format that it keeps."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.runner import build_datamanager, build_engine, build_model_from_config


class WaitsForGpu(TorchDispatchMode):
    """Fails on operators that would have to bring a value from the GPU, whatever the device is here."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "bincount")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in self.NAMES), f"{function} waits for the GPU"
        return function(*args, **(kwargs or {}))


# Mode "centroid" counts labels, which it takes from the CPU; the dispatcher cannot tell those apart.
@pytest.mark.parametrize("added", [{}, {"camera_weight": "entropy", "camera_proxy": 0.5, "teacher": 0.9}])
@pytest.mark.parametrize("mode", ["hard", "hybrid", "hybrid_instances", "harmonic"])
def test_a_step_brings_no_value_to_the_cpu_until_it_is_printed(make_engine, untested, tmp_path, mode, added):
    engine = make_engine(untested, iters=4, bn_groups=2, mode=mode, **added)
    step, summaries = engine.forward_backward, []

    def watched_step(data):
        with WaitsForGpu() if len(summaries) < 3 else contextlib.nullcontext():
            summaries.append(step(data))
        return summaries[-1]

    engine.forward_backward = watched_step
    engine.run(save_dir=str(tmp_path), max_epoch=1, print_freq=4)
    assert summaries[:3] == [None, None, None]
    assert summaries[3]["loss"] == engine.history.last["loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cache", ["gpu", "ram"])
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("added", [{}, {"camera_weight": "entropy", "camera_proxy": 0.5, "teacher": 0.9}])
def test_a_step_does_not_wait_for_the_gpu(make_engine, tmp_path, cache, amp, added):
    engine = make_engine(device="cuda", iters=5, bn_groups=2, cache=cache, amp=amp, **added)
    step, pinned = engine.forward_backward, []

    def watched_step(data):
        step(data)
        pinned.append(data["pid"].is_pinned())  # a copy from elsewhere may wait, which PyTorch does not notice
        if len(pinned) == 2:  # the first steps allocate and choose algorithms
            torch.cuda.set_sync_debug_mode("error")
        elif len(pinned) == 5:
            torch.cuda.set_sync_debug_mode("default")

    engine.forward_backward = watched_step
    try:
        engine.run(save_dir=str(tmp_path), max_epoch=1, print_freq=100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pinned == [True] * 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_gpu_is_one_sentence(make_engine, tmp_path):
    engine = make_engine(device="cuda", cache="ram")
    torch.cuda.empty_cache()
    held, room = torch.cuda.memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + (4 << 20)) / room))
    filling = fill_up()
    try:
        with pytest.raises(InputError, match=r"Out of memory in .*batch_size"):
            engine.run(save_dir=str(tmp_path), max_epoch=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert filling


def fill_up():
    """All the memory that the allocator still gives."""
    filling, size = [], 1 << 20
    while size >= 512:
        try:
            filling.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.cuda.OutOfMemoryError:
            size //= 2
    return filling


def test_from_the_bank_to_the_last_convolution_all_is_channels_last(data_root, tmp_path):
    settings = {"data.root": str(data_root), "data.height": 64, "data.width": 32, "data.workers": 0}
    settings |= {"data.targets": []}
    settings |= {"model.name": "resnet18", "model.pretrained": False, "use_gpu": False, "data.save_dir": str(tmp_path)}
    settings |= {"sampler.num_instances": 4, "train.batch_size": 16, "train.bn_groups": 2, "engine.iters": 1}
    settings |= {"cluster.k1": 8, "cluster.k2": 3, "cluster.min_samples": 2, "cluster.eps": 0.6, "train.amp": "off"}
    cfg = load_config(overrides=settings)
    engine = build_engine(cfg, build_datamanager(cfg), build_model_from_config(cfg))
    seen, wrong = [], []

    def look(module, inputs, output):
        kept = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, module.weight, output)]
        seen.append(torch.is_grad_enabled())
        wrong.extend([module] * (not all(kept)))

    for module in engine.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    assert set(seen) == {True, False} and not wrong
