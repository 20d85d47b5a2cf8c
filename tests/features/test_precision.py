"""The arithmetic of the network: what is chosen where, and what half precision must not change."""

from pathlib import Path

import pytest
import torch

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.precision import choose_precision

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
    first.scaler = first.state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    first.run(save_dir=str(tmp_path), max_epoch=1)
    assert first.scaler.get_scale() == 2048  # three steps, so it has grown once
    second = make_engine(amp="fp16")
    second.resume(tmp_path / "model" / "model-last.pth.tar")
    assert second.scaler.get_scale() == 2048
    assert second.scaler.state_dict() == first.scaler.state_dict()
