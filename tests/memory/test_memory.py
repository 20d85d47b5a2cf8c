"""HybridMemory against the authors' own numbers, and against slow loops that follow METHOD word by word."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow_memory import DEVICES, ROWS_PER_CLUSTER, slow_loss, slow_update, unit_rows

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory import MEMORY_MODES, HybridMemory

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "memory.npz")
AUTHORS_NAMES = {
    "centroid": "CM",
    "hard": "CMhard",
    "hybrid": "CMhybrid",
    "hybrid_instances": "CMhybrid_v2",
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", ["plain", "smooth"])
@pytest.mark.parametrize("mode", AUTHORS_NAMES)
def test_equals_the_authors_numbers_step_by_step(mode, smoothing, device):
    case = f"{AUTHORS_NAMES[mode]}_{smoothing}_"
    start = torch.from_numpy(GOLDEN[case + "memory_0"])
    memory = HybridMemory(
        num_clusters=len(start) // ROWS_PER_CLUSTER[mode],
        num_features=start.shape[1],
        mode=mode,
        num_instances=4,
        label_smoothing=0.1 if smoothing == "smooth" else 0.0,
    ).to(device)
    memory.features = start.to(device)
    steps = sum(name.startswith(case + "loss_") for name in GOLDEN.files)
    assert steps >= 3
    for step in range(steps):
        inputs = torch.from_numpy(GOLDEN[f"{case}inputs_{step}"]).to(device).requires_grad_()
        labels = torch.from_numpy(GOLDEN[f"{case}labels_{step}"]).long().to(device)
        loss = memory(inputs, labels)
        loss.backward()
        memory.update(inputs, labels)
        assert loss.item() == pytest.approx(float(GOLDEN[f"{case}loss_{step}"]), abs=1e-4)
        np.testing.assert_allclose(inputs.grad.cpu(), GOLDEN[f"{case}grad_{step}"], atol=1e-4)
        np.testing.assert_allclose(memory.features.cpu(), GOLDEN[f"{case}memory_{step + 1}"], atol=1e-4)


# Uneven counts: more samples of a cluster than instance rows, one alone, clusters not in the batch.
UNEVEN_LABELS = torch.tensor([2, 0, 2, 5, 2, 2, 0, 2, 3, 2, 3, 0])
UNEVEN_CAMERAS = torch.tensor([4, 0, 4, 1, 2, -1, 0, 4, 3, 2, 1, 0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_equals_a_slow_recomputation_on_uneven_batches(mode, device):
    memory = HybridMemory(7, 16, mode=mode, num_instances=4, momentum=0.3).to(device)
    memory.features = unit_rows(ROWS_PER_CLUSTER[mode] * 7, 16, seed=1).to(device)
    for step in range(3):
        features, labels = unit_rows(12, 16, seed=2 + step).to(device), UNEVEN_LABELS.to(device)
        cameras = UNEVEN_CAMERAS.to(device)
        torch.testing.assert_close(memory(features, labels), slow_loss(memory, features, labels))
        expected = slow_update(memory, features, labels, cameras)
        memory.update(features, labels, cameras)
        torch.testing.assert_close(memory.features, expected)


def test_hard_update_takes_the_first_of_equally_hard_samples():
    memory = HybridMemory(1, 2, mode="hard", momentum=0.0)
    memory.features = torch.tensor([[1.0, 0.0]])
    memory.update(torch.tensor([[0.6, 0.8], [0.6, -0.8]]), torch.tensor([0, 0]))
    torch.testing.assert_close(memory.features, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_stays_float32_under_autocast_with_half_precision_features(mode):
    memory = HybridMemory(5, 8, mode=mode, num_instances=3)
    memory.rebuild(unit_rows(20, 8), torch.arange(20) % 5)
    features, labels, cameras = unit_rows(6, 8, seed=9), torch.arange(6) % 5, torch.arange(6) % 2
    expected = memory(features.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = memory(features.bfloat16(), labels)
        memory.update(features.bfloat16(), labels, cameras)
    assert loss.dtype == torch.float32 and memory.features.dtype == torch.float32
    assert loss.item() == expected.item()
    torch.testing.assert_close(memory.features.norm(dim=1)[labels], torch.ones(6), atol=5e-3, rtol=0)


def test_loss_leaves_the_memory_alone_and_gives_it_no_gradient():
    memory = HybridMemory(4, 8)
    memory.rebuild(unit_rows(12, 8), torch.arange(12) % 4)
    before = memory.features.clone()
    features = unit_rows(4, 8, seed=3).requires_grad_()
    memory(features, torch.arange(4)).backward()
    assert torch.equal(memory.features, before) and not memory.features.requires_grad
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", sorted(MEMORY_MODES.keys() - {"hybrid_instances"}))
def test_rebuild_starts_every_row_at_its_centroid_and_leaves_outliers_out(mode):
    features = unit_rows(30, 8)
    labels = torch.tensor([-1, 0, 1, 2, 2] * 6)
    expected = torch.stack([F.normalize(features[labels == c].mean(0), dim=0) for c in range(3)])
    memory = HybridMemory(3, 8, mode=mode)
    memory.rebuild(features, labels)
    torch.testing.assert_close(memory.features, expected.repeat(ROWS_PER_CLUSTER[mode], 1))


def test_rebuild_draws_every_instance_from_its_own_cluster():
    features, labels = unit_rows(40, 8), torch.arange(40) % 4 - 1
    memory = HybridMemory(3, 8, mode="hybrid_instances", num_instances=200)
    memory.rebuild(features, labels, torch.Generator().manual_seed(0))
    instances = memory.features[3:].view(200, 3, 8)
    for cluster in range(3):
        nearest = (instances[:, cluster] @ features.T).argmax(dim=1)
        assert (labels[nearest] == cluster).all()
        assert len(nearest.unique()) == 10  # 200 draws from 10 members reach them all
    again = HybridMemory(3, 8, mode="hybrid_instances", num_instances=200)
    again.rebuild(features, labels, torch.Generator().manual_seed(0))
    assert torch.equal(again.features, memory.features)


def test_weights_can_be_set_and_default_to_the_modes_own():
    memory = HybridMemory(4, 8, hard_weight=0.7, centroid_weight=0.3)
    memory.features = unit_rows(8, 8)
    features, labels = unit_rows(4, 8, seed=5), torch.arange(4)
    logits = features @ memory.features.T / 0.05
    expected = 0.7 * F.cross_entropy(logits[:, :4], labels) + 0.3 * F.cross_entropy(logits[:, 4:], labels)
    torch.testing.assert_close(memory(features, labels), expected)


def test_weights_override_those_of_the_terms_that_they_name():
    memory = HybridMemory(4, 8, mode="harmonic", hard_weight=0.7)
    memory.features, features, labels = unit_rows(4, 8), unit_rows(4, 8, seed=5), torch.arange(4)
    torch.testing.assert_close(memory(features, labels), 0.7 * slow_loss(memory, features, labels))


def test_a_checkpoint_holds_the_rows_and_nothing_else():
    memory = HybridMemory(3, 8, camera_proxy=0.5)
    memory.rebuild(unit_rows(12, 8), torch.arange(12) % 3, cameras=torch.arange(12) % 2)
    assert list(memory.state_dict()) == ["features"]
    other = HybridMemory(3, 8)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.features, memory.features)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mode": "median"}, "median"),
        ({"mode": "centroid", "hard_weight": 0.5}, "hard_weight"),
        ({"mode": "hard", "centroid_weight": 0.5}, "centroid_weight"),
        ({"mode": "harmonic", "centroid_weight": 0.5}, "centroid_weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"momentum": 1.5}, "momentum"),
        ({"num_clusters": 0}, "0 clusters"),
        ({"camera_weight": "Entropy"}, "'Entropy'"),
        ({"camera_proxy": -0.5}, "camera_proxy"),
        ({"camera_temperature": 0.0}, "camera_temperature"),
        ({"camera_negatives": 0}, "camera_negatives"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        HybridMemory(**{"num_clusters": 4, "num_features": 8, **settings})
