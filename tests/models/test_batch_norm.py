"""Batch-norm statistics of groups, and those estimated anew, against what is done by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from hhcl_torchreid import build_model
from hhcl_torchreid.models.batch_norm import InGroups


def one_group_after_the_other(model, images, group_size):
    """The features, after which only the first group has moved the running statistics."""
    first, *others = images.split(group_size)
    features = [model(first)]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    features += [model(group) for group in others]
    for name, buffer in model.named_buffers():
        buffer.data.copy_(buffers[name])
    return torch.cat(features)


@pytest.mark.parametrize(
    ("name", "group_size"),
    [("resnet18", 3), ("resnet18", 8), ("osnet_ain_x0_25", 4), ("timm/mobilenetv3_small_050", 3)],
)
def test_groups_at_once_are_one_group_after_the_other(name, group_size):
    torch.manual_seed(0)
    model = build_model(name, pretrained=False).train()
    model.backbone.double()  # whose rounding the layers behind amplify; the neck is float32 always
    next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)).eval()  # frozen by the user
    expected_model = copy.deepcopy(model)
    images, weights = torch.randn(8, 3, 32, 32).double(), torch.randn(8, model.feature_dim)
    features = InGroups(model, group_size)(images)
    expected = one_group_after_the_other(expected_model, images, group_size)
    torch.testing.assert_close(features, expected)
    for output in (features, expected):
        (output * weights).sum().backward()
    for one, other in zip(model.parameters(), expected_model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5 * float(other.grad.abs().max()) + 1e-9)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict())
    model.eval()
    torch.testing.assert_close(InGroups(model, group_size)(images), model(images))
    assert not torch.allclose(features, model.train()(images), atol=1e-3) or group_size == 8


def test_groups_have_statistics_of_their_own_and_the_first_moves_the_running_ones():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    images = torch.randn(8, 3, 5, 5) * torch.arange(1, 9)[:, None, None, None]
    first_only = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    first_only.load_state_dict(network.state_dict())
    expected = first_only(images[:4])
    grouped = InGroups(network, 4)(images)
    assert torch.equal(grouped[:4], expected)
    for name in ("running_mean", "running_var"):
        assert torch.equal(getattr(network[1], name), getattr(first_only[1], name))
    for group in grouped.split(4):
        by_channel = group.view(4, 4, -1).transpose(0, 1).flatten(1)
        torch.testing.assert_close(by_channel.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    assert not torch.allclose(grouped, network(images), atol=1e-3)
    assert network[1].momentum == 0.1


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
