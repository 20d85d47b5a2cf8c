"""A training step: in which arithmetic, in which memory format, and without waiting for the GPU."""

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
@pytest.mark.parametrize("mode", ["hard", "hybrid", "hybrid_instances"])
def test_a_step_brings_no_value_to_the_cpu_until_it_is_printed(make_engine, tmp_path, mode):
    engine = make_engine(iters=4, bn_groups=2, mode=mode)
    step, summaries = engine.forward_backward, []

    def watched(data):
        if engine.batch_idx == 3:
            summaries.append(step(data))
        else:
            with WaitsForGpu():
                summaries.append(step(data))
        return summaries[-1]

    engine.forward_backward = watched
    engine.run(save_dir=str(tmp_path), max_epoch=1, print_freq=4)
    assert summaries[:3] == [None, None, None]
    assert summaries[3]["loss"] == pytest.approx(engine.history.last["loss"])
    assert len(engine.losses.values) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cache", ["gpu", "ram"])
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("cameras", [{}, {"camera_weight": "entropy", "camera_proxy": 0.5}])
def test_a_step_does_not_wait_for_the_gpu(make_engine, tmp_path, cache, amp, cameras):
    engine = make_engine(device="cuda", iters=6, bn_groups=2, cache=cache, amp=amp, **cameras)
    step = engine.forward_backward

    def watched(data):
        assert data["pid"].is_pinned()  # a copy from elsewhere may wait, which PyTorch does not notice
        try:
            return step(data)
        finally:
            # The first steps allocate and choose algorithms; the making of the next batch is watched too.
            torch.cuda.set_sync_debug_mode("error" if 1 <= engine.batch_idx < 4 else "default")

    engine.forward_backward = watched
    try:
        engine.run(save_dir=str(tmp_path), max_epoch=1, print_freq=100)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_gpu_is_one_sentence(make_engine, tmp_path):
    engine = make_engine(device="cuda", cache="ram")
    held, room = torch.cuda.memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + (4 << 20)) / room))
    try:
        with pytest.raises(InputError, match=r"Out of memory in .*batch_size"):
            engine.run(save_dir=str(tmp_path), max_epoch=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_from_the_bank_to_the_last_convolution_all_is_channels_last(data_root, tmp_path):
    settings = {"data.root": str(data_root), "data.height": 64, "data.width": 32, "data.workers": 0}
    settings |= {"model.name": "resnet18", "model.pretrained": False, "use_gpu": False}
    settings |= {"sampler.num_instances": 4, "train.batch_size": 16, "train.bn_groups": 2, "engine.iters": 1}
    settings |= {"cluster.k1": 8, "cluster.k2": 3, "cluster.min_samples": 2, "cluster.eps": 0.6, "train.amp": "off"}
    cfg = load_config(overrides=settings)
    model = build_model_from_config(cfg)
    engine = build_engine(cfg, build_datamanager(cfg), model)
    wrong = []

    def look(module, inputs, output):
        kept = (tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, module.weight, output))
        wrong.extend([module] * (not all(kept)))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    assert not wrong


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_features_and_keeps_memory_and_loss_in_float32(make_engine, tmp_path, amp):
    full, half = make_engine(amp="off"), make_engine(amp=amp)
    full.set_model_mode("eval")
    expected, features = full.extract_training_features(), half.extract_training_features()
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    assert (features * expected).sum(dim=1).min() > 0.999
    assert not torch.equal(features, expected)
    half.run(save_dir=str(tmp_path), max_epoch=1)
    assert half.memory.features.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())
    assert half.history.last["loss"] > 0


def test_the_scale_of_fp16_losses_survives_a_checkpoint(make_engine, tmp_path):
    first = make_engine(amp="fp16")
    first.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    first.run(save_dir=str(tmp_path), max_epoch=1)
    assert first.scaler.get_scale() == 2048  # three steps, so it has grown once
    second = make_engine(amp="fp16")
    second.resume(tmp_path / "model" / "model-last.pth.tar")
    assert second.scaler.get_scale() == 2048
    assert second.scaler.state_dict() == first.scaler.state_dict()
