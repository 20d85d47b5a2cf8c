"""The label-free measure: equal to a slow count, low for bad clusters, and telling a spoilt model from a good one."""

import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hhcl_torchreid.evaluation.self_retrieval import self_retrieval

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def clustered_features(noise=0.5, clusters=7, images=120, cameras=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, clusters, (images,), generator=generator)
    centres = torch.randn(clusters, 16, generator=generator)
    features = normalize(centres[labels] + noise * torch.randn(images, 16, generator=generator))
    return features, labels, np.random.default_rng(seed).integers(0, cameras, images)


def slow_count(features, labels, cameras):
    found, one_camera = 0, len(set(cameras.tolist())) == 1
    for i, label in enumerate(labels.tolist()):
        if label < 0:
            continue
        members = [
            j for j in range(len(labels)) if labels[j] == label and (j != i if one_camera else cameras[j] != cameras[i])
        ]
        if not members:
            continue
        own = features[i] @ normalize(features[members].mean(dim=0), dim=0)
        others = [
            features[i] @ normalize(features[labels == other].mean(dim=0), dim=0)
            for other in set(labels.tolist()) - {label, -1}
        ]
        found += all(own > other for other in others)
    return found / len(labels)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cameras", [1, 2, 5])
@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_equals_a_slow_count(noise, cameras, device):
    features, labels, of_camera = clustered_features(noise, cameras=cameras)
    measured = self_retrieval(features.to(device), labels, of_camera + 4)
    assert measured == pytest.approx(slow_count(features, labels, of_camera))
    assert 0 < measured < 1


def test_perfect_clusters_find_all_but_outliers():
    features, labels, cameras = clustered_features(noise=0.0)
    assert self_retrieval(features, labels, cameras) == pytest.approx(float((labels >= 0).float().mean()))


def test_clusters_of_one_camera_find_nothing_at_another():
    features, labels, _ = clustered_features(noise=0.1)
    assert self_retrieval(features, labels, labels.numpy() % 2) == 0


def test_random_labels_find_little():
    features, labels, cameras = clustered_features(noise=0.1)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert self_retrieval(features, shuffled, cameras) < 0.5 * self_retrieval(features, labels, cameras)


@pytest.mark.parametrize("label", [-1, 0])
def test_fewer_than_two_clusters_are_worth_nothing(label):
    features, labels, cameras = clustered_features()
    assert self_retrieval(features, torch.full_like(labels, label), cameras) == 0


def test_more_images_than_fit_at_once(monkeypatch):
    features, labels, cameras = clustered_features(1.0)
    whole = self_retrieval(features, labels, cameras)
    monkeypatch.setattr(sys.modules[self_retrieval.__module__], "ROWS_AT_ONCE", 7)
    assert self_retrieval(features, labels, cameras) == whole
