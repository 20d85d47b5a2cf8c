"""The camera terms against the authors' own numbers, and against slow loops that follow METHOD word by word."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow_memory import DEVICES, slow_entropy_weights, slow_proxy_loss, unit_rows

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory import MEMORY_MODES, HybridMemory
from hhcl_torchreid.memory.camera import entropy_weights

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "camera.npz")


def golden(name, device):
    return torch.from_numpy(GOLDEN[name]).to(device)


def random_batch(size, num_clusters, num_cameras, seed=0):
    """Features, and labels and cameras from -1, unknown, of which some clusters see one only."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_clusters, (size,), generator=generator)
    cameras = torch.randint(-1, num_cameras, (size,), generator=generator)
    cameras[labels == labels[0]] = 1
    return unit_rows(size, 16, seed=seed), labels, cameras


def only_proxies(num_clusters=20, num_features=16, **settings):
    """A memory whose loss is the contrast between cameras alone."""
    return HybridMemory(num_clusters, num_features, mode="centroid", centroid_weight=0, camera_proxy=1, **settings)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("case", "mode"), [("cm", "centroid"), ("cm_hard", "hard"), ("hd_camera", "harmonic")])
def test_equals_the_authors_numbers_step_by_step(case, mode, device):
    memory = HybridMemory(12, 32, mode=mode, camera_weight="entropy").to(device)
    memory.features = golden(f"{case}_memory_0", device)
    for step in range(4):
        inputs = golden(f"{case}_inputs_{step}", device).requires_grad_()
        labels, cameras = golden(f"{case}_labels_{step}", device), golden(f"{case}_cameras_{step}", device)
        loss = memory(inputs, labels, cameras)
        loss.backward()
        memory.update(inputs, labels, cameras)
        assert loss.item() == pytest.approx(float(GOLDEN[f"{case}_loss_{step}"]), abs=1e-4)
        np.testing.assert_allclose(inputs.grad.cpu(), GOLDEN[f"{case}_grad_{step}"], atol=1e-4)
        np.testing.assert_allclose(memory.features.cpu(), GOLDEN[f"{case}_memory_{step + 1}"], atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("negatives", [5, 50])
def test_proxies_equal_the_authors_numbers(negatives, device):
    case = f"proxy{negatives}_"
    memory = only_proxies(60, 32, camera_negatives=negatives).to(device)
    memory.set_proxies(*(golden(case + name, device) for name in ("proxies", "proxy_labels", "proxy_cameras")))
    inputs = golden(case + "inputs", device).requires_grad_()
    loss = memory(inputs, golden(case + "labels", device), golden(case + "cameras", device))
    loss.backward()
    assert loss.item() == pytest.approx(float(GOLDEN[case + "loss"]), abs=1e-4)
    np.testing.assert_allclose(inputs.grad.cpu(), GOLDEN[case + "grad"], atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("size", "clusters", "cameras"), [(48, 6, 5), (40, 30, 2), (16, 1, 3)])
def test_entropy_weights_equal_a_slow_count(size, clusters, cameras, device):
    _, labels, of_camera = random_batch(size, clusters, cameras)
    measured = entropy_weights(labels.to(device), of_camera.to(device)).cpu()
    torch.testing.assert_close(measured, slow_entropy_weights(labels, of_camera))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_entropy_weighs_every_sample_in_every_mode(mode, smoothing, device):
    settings = {"mode": mode, "num_instances": 3, "label_smoothing": smoothing}
    plain, weighted = HybridMemory(120, 16, **settings), HybridMemory(120, 16, **settings, camera_weight="entropy")
    plain.features = weighted.features = unit_rows(len(plain.features), 16, seed=1)
    plain, weighted = plain.to(device), weighted.to(device)
    features, labels, cameras = (tensor.to(device) for tensor in random_batch(24, 5, 4))
    one_by_one = torch.stack([plain(features[i : i + 1], labels[i : i + 1]) for i in range(24)])
    expected = (slow_entropy_weights(labels, cameras).to(device) * one_by_one).mean()
    torch.testing.assert_close(weighted(features, labels, cameras), expected)
    assert abs(expected - one_by_one.mean()) > 0.01


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("proxies", "negatives"), [(90, 7), (90, 50), (12, 50), (3, 1)])
def test_proxies_equal_a_slow_recomputation(proxies, negatives, device):
    features, labels, cameras = (tensor.to(device) for tensor in random_batch(30, 8, 4))
    table = [tensor.to(device) for tensor in random_batch(proxies, 9, 4, seed=1)]
    memory = only_proxies(camera_negatives=negatives, camera_temperature=0.2).to(device)
    memory.set_proxies(*table)
    gradients, losses = [], []
    for loss_of in (memory, lambda *batch: slow_proxy_loss(table, *batch, 0.2, negatives)):
        inputs = features.clone().requires_grad_()
        losses.append(loss_of(F.normalize(inputs), labels, cameras))
        losses[-1].backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert losses[0] > 0


def test_equally_similar_negatives_count_as_often_as_asked_for():
    proxies = unit_rows(2, 16)[[0, 1, 1, 1, 1]], torch.tensor([0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 0, 1])
    memory = only_proxies(camera_negatives=3)
    memory.set_proxies(*proxies)
    batch = unit_rows(1, 16, seed=2), torch.tensor([0]), torch.tensor([1])
    torch.testing.assert_close(memory(*batch), slow_proxy_loss(proxies, *batch, 0.07, 3))


def test_the_contrast_between_cameras_is_added_with_its_weight_and_without_the_entropys():
    batch, table = random_batch(30, 8, 4), random_batch(40, 8, 4, seed=1)
    losses = {}
    for name, settings in {
        "entropy": {"camera_weight": "entropy"},
        "both": {"camera_weight": "entropy", "camera_proxy": 0.5},
    }.items():
        memory = HybridMemory(8, 16, **settings)
        memory.features = unit_rows(16, 16, seed=2)
        memory.set_proxies(*table)
        losses[name] = memory(*batch)
    torch.testing.assert_close(losses["both"] - losses["entropy"], 0.5 * slow_proxy_loss(table, *batch, 0.07, 50))


@pytest.mark.parametrize("camera", [-1, 0, 7])
@pytest.mark.parametrize("num_clusters", [1, 6])
def test_one_camera_or_none_known_changes_nothing(num_clusters, camera):
    features, labels = unit_rows(24, 16), torch.arange(24) % num_clusters
    cameras = torch.full_like(labels, camera)
    gradients, losses = [], []
    for settings in ({}, {"camera_weight": "entropy", "camera_proxy": 0.5}):
        memory = HybridMemory(num_clusters, 16, **settings)
        memory.rebuild(features, labels, cameras=cameras)
        inputs = features.clone().requires_grad_()
        losses.append(memory(F.normalize(inputs), labels, cameras))
        losses[-1].backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert torch.equal(entropy_weights(labels, cameras), torch.ones(24))


def test_harmonic_update_passes_over_a_sample_opposite_to_its_camera_and_equal_to_its_row():
    memory = HybridMemory(2, 2, mode="harmonic", momentum=0.25)
    memory.features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    memory.update(features, torch.tensor([0, 0, 0, 1]), torch.tensor([3, 3, 3, 3]))
    torch.testing.assert_close(memory.features, torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))


@pytest.mark.parametrize("device", DEVICES)
def test_rebuild_makes_a_proxy_of_every_cluster_and_camera(device):
    features, labels, cameras = random_batch(60, 5, 3)
    labels[::7] = -1
    memory = HybridMemory(5, 16, camera_proxy=0.5).to(device)
    memory.rebuild(features.to(device), labels, cameras=cameras)
    pairs = sorted({pair for pair in zip(labels.tolist(), cameras.tolist(), strict=True) if pair[0] >= 0})
    means = [features[(labels == cluster) & (cameras == camera)].mean(0) for cluster, camera in pairs]
    proxies = memory.proxies
    assert list(zip(proxies.labels.tolist(), proxies.cameras.tolist(), strict=True)) == pairs
    torch.testing.assert_close(proxies.features.cpu(), F.normalize(torch.stack(means)))


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_stays_float32_under_autocast_with_half_precision_features(mode):
    memory = HybridMemory(5, 16, mode=mode, num_instances=3, camera_weight="entropy", camera_proxy=0.5)
    features, labels, cameras = random_batch(40, 5, 3)
    memory.rebuild(features, labels, cameras=cameras)
    expected = memory(features.bfloat16().float(), labels, cameras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = memory(features.bfloat16(), labels, cameras)
    assert loss.dtype == torch.float32 and loss.item() == expected.item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waits for a GPU are seen on a GPU only")
@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_a_step_does_not_wait_for_the_gpu(mode):
    memory = HybridMemory(5, 16, mode=mode, num_instances=3, camera_weight="entropy", camera_proxy=0.5).cuda()
    features, labels, cameras = random_batch(40, 5, 3)
    memory.rebuild(features.cuda(), labels, cameras=cameras)
    inputs = features.cuda().requires_grad_()
    labels, cameras = labels.pin_memory(), cameras.pin_memory()
    torch.cuda.set_sync_debug_mode("error")
    try:
        memory(inputs, labels, cameras).backward()
        memory.update(inputs, labels, cameras)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_says_what_needs_cameras_or_proxies():
    features, labels, cameras = random_batch(8, 3, 2)
    with pytest.raises(InputError, match="camera_weight entropy needs the camera of every image"):
        HybridMemory(3, 16, camera_weight="entropy")(features, labels)
    with pytest.raises(InputError, match="this memory mode needs the camera of every image"):
        HybridMemory(3, 16, mode="harmonic").update(features, labels)
    memory = HybridMemory(3, 16, camera_proxy=0.5)
    with pytest.raises(InputError, match="camera_proxy needs the camera of every image"):
        memory.rebuild(features, torch.arange(8) % 3)
    with pytest.raises(InputError, match="set_proxies"):
        memory(features, labels, cameras)
    with pytest.raises(InputError, match="8 proxies have 7 labels and 8 cameras"):
        memory.set_proxies(features, labels[1:], cameras)
