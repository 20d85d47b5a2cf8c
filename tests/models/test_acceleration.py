"""Half precision, fused optimisers and compilation: what they change, and what they must not."""

import copy
from pathlib import Path

import pytest
import torch
import torchreid
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hhcl_torchreid import build_model
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.acceleration import choose_precision, compile_model, fuse_optimizer
from hhcl_torchreid.runner import build_datamanager, build_engine, build_model_from_config

CPU = torch.device("cpu")


def test_precision_by_name():
    for amp, dtype in (("off", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        assert choose_precision(amp, CPU) == dtype
    with pytest.raises(InputError, match=r"train.amp is 'half'.*auto, off, bf16, fp16"):
        choose_precision("half", CPU)


def test_auto_takes_bf16_on_a_cpu_only_if_it_has_matrix_units_for_it():
    flags = Path("/proc/cpuinfo")
    words = flags.read_text().split() if flags.exists() else []
    assert choose_precision("auto", CPU) == (torch.bfloat16 if "amx_bf16" in words else torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_takes_what_the_gpu_has():
    has_bf16 = torch.cuda.get_device_capability() >= (8, 0)
    assert choose_precision("auto", torch.device("cuda")) == (torch.bfloat16 if has_bf16 else torch.float16)


@pytest.mark.parametrize("settings", [{"optim": "adam"}, {"optim": "amsgrad"}, {"optim": "sgd"}, {"staged_lr": True}])
def test_a_fused_optimizer_takes_the_same_steps(settings):
    settings = {"lr": 0.01, "weight_decay": 0.1, "new_layers": "1", "base_lr_mult": 0.1, **settings}
    plain = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1))
    fused = copy.deepcopy(plain)
    optimizers = [torchreid.optim.build_optimizer(model, **settings) for model in (plain, fused)]
    optimizers[1] = fuse_optimizer(optimizers[1])
    assert all(group["fused"] for group in optimizers[1].param_groups)
    assert [group["lr"] for group in optimizers[1].param_groups] == [
        group["lr"] for group in optimizers[0].param_groups
    ]
    for images in torch.randn(5, 8, 5):
        for model, optimizer in zip((plain, fused), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for ours, expected in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_an_optimizer_without_a_fused_kernel_stays():
    optimizer = torchreid.optim.build_optimizer(nn.Linear(2, 1), optim="rmsprop")
    assert fuse_optimizer(optimizer) is optimizer


class Softmax(nn.Conv2d):
    """PyTorch's own containers would not be compiled by every version of it."""

    def forward(self, images):
        return super().forward(images).softmax(dim=1)


def test_a_machine_without_a_compiler_is_told_so():
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler"), "fx_graph_cache": False}),
        pytest.raises(InputError, match=r"train.compile: torch.compile fails here .*: set it to False"),
    ):
        compile_model(Softmax(3, 4, 3), (8, 8))


class WaitsForGpu(TorchDispatchMode):
    """Fails on operators that would have to bring a value from the GPU, whatever the device is here."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "bincount")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in self.NAMES), f"{function} waits for the GPU"
        return function(*args, **(kwargs or {}))


def start_epoch(engine, folder):
    """What comes before the first step of an epoch of six, printed every four."""
    engine.save_dir, engine.max_epoch, engine._print_freq = str(folder), 1, 4
    engine._losses, engine._unread_losses, engine._epoch_lr, engine.rows = [], [], 0.001, [{"epoch": 0}]
    engine._start_epoch({"epoch": 1})
    engine.set_model_mode("train")
    engine.two_stepped_transfer_learning(0, 0, None)


# Mode "centroid" counts labels, which it takes from the CPU; the dispatcher cannot tell those apart.
@pytest.mark.parametrize("mode", ["hard", "hybrid", "hybrid_instances"])
def test_a_step_brings_no_value_to_the_cpu_until_it_is_printed(make_engine, tmp_path, mode):
    engine = make_engine(iters=4, bn_groups=2, mode=mode)
    start_epoch(engine, tmp_path)
    summaries = []
    batches = iter(engine.train_loader)
    for engine.batch_idx in range(3):
        data = next(batches)
        with WaitsForGpu():
            summaries.append(engine.forward_backward(data))
    engine.batch_idx = 3
    summaries.append(engine.forward_backward(next(batches)))
    assert summaries[:3] == [None, None, None]
    assert summaries[3]["loss"] == pytest.approx(sum(engine._losses) / 4) and len(engine._losses) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cache", ["gpu", "ram"])
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_does_not_wait_for_the_gpu(make_engine, tmp_path, cache, amp):
    engine = make_engine(device="cuda", iters=5, bn_groups=2, cache=cache, amp=amp)
    start_epoch(engine, tmp_path)
    batches = iter(engine.train_loader)
    engine._print_freq = 100
    for engine.batch_idx in range(5):
        if engine.batch_idx == 2:  # the first steps allocate and choose algorithms
            torch.cuda.set_sync_debug_mode("error")
        try:
            data = next(batches)
            engine.forward_backward(data)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert data["pid"].is_pinned()  # a copy from elsewhere may wait, which PyTorch does not notice


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


def test_each_mode_is_compiled_once():
    """PyTorch gives up after eight graphs of a model, and each takes its time."""
    model, graphs = build_model("resnet18", pretrained=False), []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    model.compile(backend=backend)
    for train in (True, False, True):
        model.train(train)
        for _ in range(2):
            model(torch.rand(4, 3, 64, 32))
    assert len(graphs) == 2


def test_off_is_all_of_float32_and_the_others_leave_tf32_as_it_is(make_engine):
    before = torch.backends.cudnn.allow_tf32
    try:
        for allowed in (True, False):
            torch.backends.cudnn.allow_tf32 = allowed
            make_engine(amp="bf16")
            assert torch.backends.cudnn.allow_tf32 == allowed
        torch.backends.cudnn.allow_tf32 = True
        make_engine(amp="off")
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_from_the_store_to_the_last_convolution_all_is_channels_last(data_root, tmp_path):
    settings = {"data.root": str(data_root), "data.height": 64, "data.width": 32, "data.workers": 0}
    settings |= {"model.name": "resnet18", "model.pretrained": False, "use_gpu": False}
    settings |= {"sampler.num_instances": 4, "train.batch_size": 16, "train.bn_groups": 2, "engine.iters": 1}
    settings |= {"cluster.k1": 8, "cluster.k2": 3, "cluster.min_samples": 2, "cluster.eps": 0.6, "train.amp": "off"}
    cfg = load_config(overrides=settings)
    model = build_model_from_config(cfg)
    engine = build_engine(cfg, build_datamanager(cfg), model)
    start_epoch(engine, tmp_path)
    wrong = []

    def look(module, inputs, output):
        kept = (tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, module.weight, output))
        wrong.extend([module] * (not all(kept)))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    engine.batch_idx = 0
    engine.forward_backward(next(iter(engine.train_loader)))
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
    assert half.memory.features.dtype == torch.float32 and half._unread_losses == []
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())
    assert half.rows[-1]["loss"] > 0


def test_the_scale_of_fp16_losses_survives_a_checkpoint(make_engine, tmp_path):
    first = make_engine(amp="fp16")
    first.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    first.run(save_dir=str(tmp_path), max_epoch=1)
    assert first.scaler.get_scale() == 2048  # three steps, so it has grown once
    second = make_engine(amp="fp16")
    second.resume(tmp_path / "model" / "model-last.pth.tar")
    assert second.scaler.get_scale() == 2048
    assert second.scaler.state_dict() == first.scaler.state_dict()
