"""Fused optimisers take the steps of the others."""

import copy

import pytest
import torch
import torchreid
from torch import nn

from hhcl_torchreid.training.optimization import fuse_optimizer


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
