"""Batch-norm statistics estimated anew, against a mean over batches taken by hand."""

import torch
from torch import nn

from hhcl_torchreid.models.batch_norm import estimate_statistics


def test_statistics_are_the_mean_over_the_batches_and_momentum_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3))
    nn.init.constant_(model[1].running_mean, 9.0)
    batches = [torch.randn(8, 3, 6, 6) + shift for shift in (0.0, 1.0, 5.0)]
    estimate_statistics(model, batches)
    convolved = [model[0](batch).detach() for batch in batches]
    mean = sum(maps.mean(dim=(0, 2, 3)) for maps in convolved) / 3
    variance = sum(maps.var(dim=(0, 2, 3)) for maps in convolved) / 3
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert model[1].momentum == 0.3


def statistics(engine):
    return {name: value.clone() for name, value in engine.model.named_buffers() if "running" in name}


def test_an_engine_leaves_the_statistics_of_the_weights_as_they_are(make_engine, tmp_path):
    engine = make_engine(precise_bn=2)
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    left = statistics(engine)
    engine._estimate_statistics()
    torch.testing.assert_close(statistics(engine), left)


def test_without_precise_bn_the_statistics_are_running_averages(make_engine, tmp_path):
    engine = make_engine()
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    left = statistics(engine)
    engine._estimate_statistics()
    torch.testing.assert_close(statistics(engine), left, rtol=0, atol=0)
    engine.precise_bn = 2
    engine._estimate_statistics()
    assert any((statistics(engine)[name] - left[name]).abs().max() > 0.01 for name in left)
