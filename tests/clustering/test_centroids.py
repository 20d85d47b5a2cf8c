"""Sums and means of clusters against slow loops."""

import pytest
import torch
from torch.nn.functional import normalize

from hhcl_torchreid.clustering.centroids import cluster_centroids, cluster_members, cluster_sums

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
LABELS = torch.tensor([2, -1, 0, 2, 2, -1, 0, 3, 1])


def test_members_stand_by_cluster_in_their_own_order():
    members, counts = cluster_members(LABELS, 5)
    assert members.tolist() == [2, 6, 8, 0, 3, 4, 7]
    assert counts.tolist() == [2, 1, 3, 1, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_slow_sums_and_means_and_leave_outliers_out(dtype, device):
    features = normalize(torch.randn(9, 16)).to(device, dtype)
    members = [features[(cluster == LABELS).to(device)].float() for cluster in range(4)]
    sums, counts = cluster_sums(features, LABELS, 5)
    torch.testing.assert_close(sums[:4], torch.stack([rows.sum(dim=0) for rows in members]))
    assert not sums[4].any() and counts.tolist() == [2, 1, 3, 1, 0]
    means = torch.stack([rows.mean(dim=0) for rows in members])
    torch.testing.assert_close(cluster_centroids(features, LABELS, 4), normalize(means))
