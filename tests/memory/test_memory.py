"""HybridMemory against the authors' own numbers, and against slow loops that follow METHOD word by word."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory.hybrid import MEMORY_MODES, HybridMemory, cluster_centroids

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "memory.npz")
AUTHORS_NAMES = {
    "centroid": "CM",
    "hard": "CMhard",
    "hybrid": "CMhybrid",
    "hybrid_instances": "CMhybrid_v2",
}
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def unit_rows(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def rows_per_cluster(mode, num_instances):
    return {"hybrid": 2, "hybrid_instances": 1 + num_instances}.get(mode, 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", ["plain", "smooth"])
@pytest.mark.parametrize("mode", AUTHORS_NAMES)
def test_equals_the_authors_numbers_step_by_step(mode, smoothing, device):
    case = f"{AUTHORS_NAMES[mode]}_{smoothing}_"
    start = torch.from_numpy(GOLDEN[case + "memory_0"])
    memory = HybridMemory(
        num_clusters=len(start) // rows_per_cluster(mode, 4),
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


def slow_update(memory, features, labels):
    """METHOD's table, one sample and one cluster at a time."""
    rows, num_clusters, momentum = memory.features.clone(), memory.num_clusters, memory.momentum

    def update(row, value):
        rows[row] = F.normalize(momentum * rows[row] + (1 - momentum) * value, dim=0)

    if memory.mode == "centroid":
        for feature, label in zip(features, labels.tolist(), strict=True):
            update(label, feature)
        return rows
    for cluster in set(labels.tolist()):
        samples = features[labels == cluster]
        mean = samples.mean(0)
        if memory.mode in ("hard", "hybrid"):
            update(cluster, samples[int(torch.stack([sample @ rows[cluster] for sample in samples]).argmin())])
        if memory.mode == "hybrid":
            update(cluster + num_clusters, mean)
        if memory.mode == "hybrid_instances":
            update(cluster, mean)
            for slot, sample in enumerate(samples[: memory.num_instances]):
                rows[(slot + 1) * num_clusters + cluster] = sample
    return rows


def slow_loss(memory, features, labels):
    """METHOD's losses without smoothing, one sample at a time."""
    count, losses = memory.num_clusters, []
    for feature, label in zip(features, labels.tolist(), strict=True):
        blocks = (memory.features @ feature / memory.temperature).view(-1, count)

        def minus_log_probability(logits, label=label):
            return torch.logsumexp(logits, 0) - logits[label]

        if memory.mode == "hybrid":
            losses.append(0.5 * minus_log_probability(blocks[0]) + 0.25 * minus_log_probability(blocks[1]))
        elif memory.mode == "hybrid_instances":
            hardest = torch.stack([blocks[1:, c].min() if c == label else blocks[1:, c].max() for c in range(count)])
            losses.append(0.5 * minus_log_probability(blocks[0]) + 0.5 * minus_log_probability(hardest))
        else:
            losses.append(minus_log_probability(blocks[0]))
    return torch.stack(losses).mean()


# Uneven counts: more samples of a cluster than instance rows, one alone, clusters not in the batch.
UNEVEN_LABELS = torch.tensor([2, 0, 2, 5, 2, 2, 0, 2, 3, 2, 3, 0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_equals_a_slow_recomputation_on_uneven_batches(mode, device):
    memory = HybridMemory(7, 16, mode=mode, num_instances=4, momentum=0.3).to(device)
    memory.features = unit_rows(rows_per_cluster(mode, 4) * 7, 16, seed=1).to(device)
    for step in range(3):
        features, labels = unit_rows(12, 16, seed=2 + step).to(device), UNEVEN_LABELS.to(device)
        torch.testing.assert_close(memory(features, labels), slow_loss(memory, features, labels))
        expected = slow_update(memory, features, labels)
        memory.update(features, labels)
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
    features, labels = unit_rows(6, 8, seed=9), torch.arange(6) % 5
    expected = memory(features.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = memory(features.bfloat16(), labels)
        memory.update(features.bfloat16(), labels)
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


def test_rebuild_takes_normalised_means_and_leaves_outliers_out():
    features = unit_rows(30, 8)
    labels = torch.tensor([-1, 0, 1, 2, 2] * 6)
    expected = torch.stack([F.normalize(features[labels == c].mean(0), dim=0) for c in range(3)])
    torch.testing.assert_close(cluster_centroids(features, labels, 3), expected)
    memory = HybridMemory(3, 8, mode="hybrid")
    memory.rebuild(features, labels)
    torch.testing.assert_close(memory.features, torch.cat([expected, expected]))


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


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mode": "median"}, "median"),
        ({"mode": "centroid", "hard_weight": 0.5}, "hard_weight"),
        ({"mode": "hard", "centroid_weight": 0.5}, "centroid_weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"momentum": 1.5}, "momentum"),
        ({"num_clusters": 0}, "0 clusters"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        HybridMemory(**{"num_clusters": 4, "num_features": 8, **settings})
