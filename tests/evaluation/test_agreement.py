"""Clusters that one camera alone fills, counted one by one."""

import pytest
import torch

from hhcl_torchreid.evaluation import camera_agreement


def slow_share(labels, cameras):
    seen_by = {}
    for label, camera in zip(labels.tolist(), cameras.tolist(), strict=True):
        if label >= 0:
            seen_by.setdefault(label, set()).add(camera)
    return sum(len(of_cluster) == 1 for of_cluster in seen_by.values()) / len(seen_by)


@pytest.mark.parametrize(("images", "clusters", "num_cameras"), [(200, 80, 3), (200, 5, 6), (30, 25, 2), (6, 6, 6)])
def test_the_share_of_one_camera_clusters_equals_a_slow_count(images, clusters, num_cameras):
    labels = torch.randint(-1, clusters, (images,)).unique(return_inverse=True)[1] - 1
    cameras = torch.randint(-1, num_cameras, (images,))
    assert camera_agreement(labels, cameras) == {"one_camera": pytest.approx(slow_share(labels, cameras))}


def test_outliers_fill_no_cluster():
    labels, cameras = torch.tensor([0, 0, 1, 1, -1, -1]), torch.tensor([2, 2, 2, 3, 4, 3])
    assert camera_agreement(labels, cameras) == {"one_camera": 0.5}


@pytest.mark.parametrize(("labels", "cameras"), [([0, 0, 1, 1], [3, 3, 3, 3]), ([-1, -1, -1], [0, 1, 2])])
def test_nothing_is_counted_where_there_is_one_camera_or_no_cluster(labels, cameras):
    assert camera_agreement(torch.tensor(labels), torch.tensor(cameras)) == {}
