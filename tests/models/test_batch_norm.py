"""Batch-norm statistics estimated anew, against means taken by hand."""

import torch
from torch import nn
from torch.optim.swa_utils import update_bn


def test_statistics_are_the_mean_over_the_batches_and_momentum_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3)).eval()
    nn.init.constant_(model[1].running_mean, 9.0)
    batches = [torch.randn(8, 3, 6, 6) + shift for shift in (0.0, 1.0, 5.0)]
    update_bn(batches, model)
    convolved = [model[0](batch).detach() for batch in batches]
    mean = sum(maps.mean(dim=(0, 2, 3)) for maps in convolved) / 3
    variance = sum(maps.var(dim=(0, 2, 3)) for maps in convolved) / 3
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert model[1].momentum == 0.3 and not model.training


def trained(engine, folder):
    """Trains for an epoch; gives what the first convolution made of batches that were no step of the optimiser's."""
    seen = []

    def look(convolution, inputs, output):
        if engine.model.training and not torch.is_grad_enabled():
            seen.append(output.clone())

    first = next(layer for layer in engine.model.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_hook(look)
    engine.run(save_dir=str(folder), max_epoch=1)
    return seen


def test_an_engine_leaves_the_statistics_of_the_weights_as_they_are(make_engine, tmp_path):
    engine = make_engine(precise_bn=2, amp="off")
    seen = trained(engine, tmp_path)
    assert [len(maps) for maps in seen] == [32] * 4  # two batches before training, two after
    norm = next(layer for layer in engine.model.modules() if isinstance(layer, nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, sum(maps.mean((0, 2, 3)) for maps in seen[2:]) / 2)
    torch.testing.assert_close(norm.running_var, sum(maps.var((0, 2, 3)) for maps in seen[2:]) / 2)


def test_without_precise_bn_the_statistics_are_running_averages(make_engine, tmp_path):
    assert trained(make_engine(amp="off"), tmp_path) == []
