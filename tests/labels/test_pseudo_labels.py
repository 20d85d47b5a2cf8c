import numpy as np
import pytest
import torch
from clustering_cases import DEVICES, GOLDEN, unit_rows

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels.reliability import reliable_labels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", "abc")
def test_golden(case, device):
    features = torch.from_numpy(GOLDEN[f"{case}_features"]).to(device)
    labeler = PseudoLabeler(eps=0.6, k1=int(GOLDEN[f"{case}_k1"]), k2=int(GOLDEN[f"{case}_k2"]))
    labels = labeler(features)
    expected = GOLDEN[f"{case}_labels_eps0.60"]
    assert labels.dtype == torch.int64
    assert labels.device.type == device
    np.testing.assert_array_equal(labels.cpu().numpy(), expected)
    statistics = labeler.statistics
    assert statistics.num_clusters == expected.max() + 1
    assert statistics.num_outliers == (expected == -1).sum()
    assert statistics.largest_cluster == np.bincount(expected[expected >= 0]).max()
    assert list(statistics.seconds) == ["neighbors", "graph", "dbscan"]
    assert all(seconds > 0 for seconds in statistics.seconds.values())
    assert statistics.total_seconds == pytest.approx(sum(statistics.seconds.values()))


def test_calls_do_not_depend_on_each_other():
    labeler = PseudoLabeler(eps=0.6)
    features = unit_rows(200, 16, num_groups=10)
    first = labeler(features)
    labeler(unit_rows(100, 16, seed=1))
    assert torch.equal(labeler(features), first)
    assert labeler.statistics.num_clusters == int(first.max()) + 1


def test_one_image_is_an_outlier():
    labeler = PseudoLabeler()
    assert labeler(unit_rows(1, 8)).tolist() == [-1]
    assert (labeler.statistics.num_clusters, labeler.statistics.largest_cluster) == (0, 0)


@pytest.mark.parametrize("num_images", [4, 20, 30])
def test_duplicates_only_are_one_cluster(num_images):
    labels = PseudoLabeler()(unit_rows(1, 8).expand(num_images, 8))
    assert set(labels.tolist()) == {0}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("knn", ["auto", "torch"])
def test_more_copies_than_neighbours_are_one_cluster(knn, device):
    copies, others = unit_rows(1, 8).expand(100, 8), unit_rows(1, 8, seed=1).expand(10, 8)
    labels = PseudoLabeler(knn=knn)(torch.cat([copies, others]).to(device))
    assert labels.tolist() == [0] * 100 + [1] * 10


@pytest.mark.parametrize("num_images", [2, 5, 29])
def test_fewer_images_than_neighbours(num_images):
    features = unit_rows(num_images, 8, num_groups=2)
    expected = PseudoLabeler(k1=num_images)(features)
    assert torch.equal(PseudoLabeler(k1=30)(features), expected)


@pytest.mark.parametrize("value", [torch.nan, 0.0])
def test_bad_features_are_named(value):
    features = unit_rows(10, 8)
    features[6] = value
    with pytest.raises(InputError, match="Row 6"):
        PseudoLabeler()(features)


def test_features_that_are_no_matrix_are_named():
    with pytest.raises(InputError, match=r"must be a non-empty floating-point matrix .*shape \(\)"):
        PseudoLabeler()(torch.tensor(1.0))


@pytest.mark.parametrize("eps", [0, 1.0, -0.5, (0.5, 0.6), (0.5, 0.6, 1.2), ()])
def test_bad_eps_is_named(eps):
    with pytest.raises(InputError, match="eps"):
        PseudoLabeler(eps=eps)


def reliable_by_definition(tight, normal, loose, limit):
    """SpCL's criterion on sets of images, cluster by cluster."""

    def cluster_of(labels, image):
        return {image} if labels[image] < 0 else set(np.flatnonzero(labels == labels[image]))

    def disagreement(labels, image):
        one, other = cluster_of(normal, image), cluster_of(labels, image)
        return 1 - len(one & other) / len(one | other)

    clusters = [np.flatnonzero(normal == number) for number in range(normal.max() + 1)]
    independence = [min(disagreement(loose, image) for image in cluster) for cluster in clusters]
    if limit is None:
        limit = sorted(independence)[min(len(clusters) - 1, round(0.9 * len(clusters)))]
    kept = []
    for cluster, value in zip(clusters, independence, strict=True):
        best = min(disagreement(tight, image) for image in cluster)
        kept.append([image for image in cluster if value <= limit and disagreement(tight, image) <= best])
    labels = np.full(len(normal), -1)
    for number, cluster in enumerate(cluster for cluster in kept if len(cluster) > 1):
        labels[cluster] = number
    return labels, limit


@pytest.mark.parametrize("limit", [None, 0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_reliability_equals_its_definition(seed, limit):
    features = unit_rows(300, 16, seed=seed, num_groups=15, spread=0.8)
    tight, normal, loose = (PseudoLabeler(eps=eps)(features) for eps in (0.4, 0.55, 0.7))
    labels, found_limit = reliable_labels(tight, normal, loose, limit)
    expected, expected_limit = reliable_by_definition(tight.numpy(), normal.numpy(), loose.numpy(), limit)
    np.testing.assert_array_equal(labels.numpy(), expected)
    assert found_limit == pytest.approx(expected_limit)


def test_three_eps_keep_the_first_calls_limit():
    features = unit_rows(300, 16, num_groups=15, spread=0.8)
    labeler = PseudoLabeler(eps=[0.7, 0.4, 0.55])
    labels = labeler(features)
    tight, normal, loose = (PseudoLabeler(eps=eps)(features) for eps in (0.4, 0.55, 0.7))
    expected, limit = reliable_labels(tight, normal, loose)
    assert torch.equal(labels, expected)
    assert 0 < int((labels >= 0).sum()) < int((normal >= 0).sum())
    assert labeler.independence_limit == limit
    labeler(unit_rows(300, 16, seed=1, num_groups=15, spread=0.8))
    assert labeler.independence_limit == limit


def test_reliability_of_no_clusters_at_all():
    outliers = torch.full((5,), -1)
    labels, _ = reliable_labels(outliers, outliers, outliers)
    assert torch.equal(labels, outliers)
