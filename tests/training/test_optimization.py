"""Fused optimisers take the steps of the others, and learning rates rise before they fall."""

import copy

import pytest
import torch
import torchreid
import train_hhcl
from small_runs import SMALL, pairs
from torch import nn

from hhcl_torchreid.checkpoint import load_checkpoint, save_checkpoint
from hhcl_torchreid.training.folder import RunFolder
from hhcl_torchreid.training.optimization import fuse_optimizer, warm_up


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


def rates(scheduler, optimizer, epochs):
    found = []
    for _ in range(epochs):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def schedule_of(settings, staged=False, epochs=10):
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1))
    optimizer = torchreid.optim.build_optimizer(model, lr=0.01, staged_lr=staged, new_layers="1", base_lr_mult=0.1)
    return warm_up(torchreid.optim.build_lr_scheduler(optimizer, **settings), epochs), optimizer


@pytest.mark.parametrize("staged", [False, True])
def test_a_warm_up_rises_as_3cs_and_the_steps_count_from_its_end(staged):
    measured = rates(*schedule_of({"stepsize": [20]}, staged), 60)
    for epoch, groups in enumerate(measured):
        share = 0.1 * (1 - epoch / 10) + epoch / 10 if epoch < 10 else 1
        share *= 0.1 ** sum(epoch >= milestone for milestone in (30, 50))
        assert groups == pytest.approx([full * share for full in ([0.001, 0.01] if staged else [0.01])])


@pytest.mark.parametrize(
    "settings",
    [{"lr_scheduler": "multi_step", "stepsize": [3, 5]}, {"lr_scheduler": "cosine", "max_epoch": 8}],
    ids=lambda settings: settings["lr_scheduler"],
)
def test_after_a_warm_up_a_schedule_runs_as_from_its_start(settings):
    measured = rates(*schedule_of(settings), 17)
    expected = rates(*schedule_of(settings, epochs=0), 7)
    assert measured[10:] == [pytest.approx(groups) for groups in expected]


def test_no_warm_up_leaves_the_schedule_alone():
    optimizer = torchreid.optim.build_optimizer(nn.Linear(2, 1))
    schedule = torchreid.optim.build_lr_scheduler(optimizer)
    assert warm_up(schedule, 0) is schedule


@pytest.mark.parametrize("kind", ["single_step", "cosine"])
@pytest.mark.parametrize("done", [4, 10, 13])
def test_a_warm_up_goes_on_from_its_saved_state(kind, done, tmp_path):
    settings = {"lr_scheduler": kind, "stepsize": 3, "max_epoch": 10}
    whole = rates(*schedule_of(settings), 20)
    scheduler, optimizer = schedule_of(settings)
    rates(scheduler, optimizer, done)
    save_checkpoint({"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state")
    checkpoint = load_checkpoint(tmp_path / "state")
    scheduler, optimizer = schedule_of(settings)
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    assert rates(scheduler, optimizer, 20 - done) == whole[done:]


def test_a_run_that_warms_up_resumes_to_the_bit_and_not_without_its_warm_up(data_root, tmp_path, capsys):
    def train(folder, **settings):
        settings = {"train.warmup_epochs": 1, "train.stepsize": [1], "engine.iters": 1, "train.amp": "off", **settings}
        settings |= {"data.save_dir": tmp_path / folder, "data.targets": "[]", "data.height": 32, "data.width": 16}
        return train_hhcl.main(["--root", str(data_root), *pairs({**SMALL, **settings})])

    assert train("whole", **{"train.max_epoch": 3}) == 0
    assert train("parts", **{"train.max_epoch": 1}) == 0
    capsys.readouterr()
    assert train("parts", **{"train.max_epoch": 3, "model.resume": "auto", "train.warmup_epochs": 0}) == 2
    assert "train.warmup_epochs 1 (now 0)" in capsys.readouterr().err
    assert train("parts", **{"train.max_epoch": 3, "model.resume": "auto"}) == 0
    whole, parts = (load_checkpoint(RunFolder(tmp_path / name).last_checkpoint) for name in ("whole", "parts"))
    assert [row["lr"] for row in parts["rows"][1:]] == pytest.approx([0.000035, 0.00035, 0.000035])
    assert [row.get("loss") for row in parts["rows"]] == [row.get("loss") for row in whole["rows"]]
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
