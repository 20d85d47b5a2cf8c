"""Half precision, fused optimisers and compilation: what they change, and what they must not."""

import copy
from pathlib import Path

import pytest
import torch
import torchreid
from torch import nn

from hhcl_torchreid import build_model
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.acceleration import choose_precision, compile_model, fuse_optimizer

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
