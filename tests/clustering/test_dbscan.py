from itertools import pairwise

import numpy as np
import pytest
import torch
from clustering_cases import DEVICES, sparse_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from hhcl_torchreid.clustering import dbscan
from hhcl_torchreid.errors import InputError

FAR = np.float32(0.99)


def assert_equals_sklearn(distances, eps, min_samples, device="cpu"):
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distances)
    labels = dbscan(sparse_graph(distances, device, largest=0.9), eps, min_samples)
    assert labels.dtype == torch.int64
    assert labels.device.type == device
    np.testing.assert_array_equal(labels.cpu().numpy(), expected)
    return expected


def symmetric(num_points, edges):
    distances = np.full((num_points, num_points), FAR)
    for i, j, distance in edges:
        distances[i, j] = distances[j, i] = distance
    np.fill_diagonal(distances, 0)
    return distances


@st.composite
def graphs(draw):
    num_points = draw(st.integers(1, 40))
    point = st.integers(0, num_points - 1)
    # Few distinct distances, eps among them: ties and the boundary are the rule, not the exception.
    edges = draw(st.lists(st.tuples(point, point, st.sampled_from([0.0, 0.1, 0.45, 0.6, 0.7])), max_size=120))
    return symmetric(num_points, edges)


@pytest.mark.parametrize("device", DEVICES)
@given(graphs(), st.sampled_from([0.1, 0.3, 0.45, 0.6, 0.7]), st.integers(1, 7))
@settings(max_examples=150, deadline=None)
def test_equals_sklearn_on_random_graphs(device, distances, eps, min_samples):
    assert_equals_sklearn(distances, eps, min_samples, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_equals_sklearn_on_larger_graphs(seed, device):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(300, 2)).astype(np.float32)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = assert_equals_sklearn(distances, 0.15, 4, device)
    assert expected.max() > 5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_a_long_chain_is_one_cluster(order, device):
    points = {
        "ascending": np.arange(500),
        "descending": np.arange(500)[::-1],
        "shuffled": np.random.default_rng(0).permutation(500),
    }[order]
    distances = symmetric(500, [(i, j, 0.5) for i, j in pairwise(points)])
    expected = assert_equals_sklearn(distances, 0.5, 3, device)
    assert set(expected) == {0}


def test_a_border_point_goes_to_the_lowest_numbered_cluster_that_reaches_it():
    # Point 0 borders both triangles; the one with the lower core point wins whichever edge comes first.
    def triangle(i, j, k):
        return [(i, j, 0.1), (j, k, 0.1), (i, k, 0.1)]

    distances = symmetric(9, [*triangle(1, 5, 7), *triangle(2, 3, 4), (0, 4, 0.1), (0, 7, 0.1)])
    expected = assert_equals_sklearn(distances, 0.1, 3)
    assert expected[0] == expected[1] == 0
    assert expected[8] == -1


def test_all_noise_and_one_cluster():
    assert set(assert_equals_sklearn(symmetric(20, []), 0.5, 2)) == {-1}
    assert set(assert_equals_sklearn(np.zeros((20, 20), dtype=np.float32), 0.5, 4)) == {0}


@pytest.mark.parametrize("eps", [0.45, 0.6, 0.7])
@pytest.mark.parametrize("neighbouring_number", [-1, 0, 1])
def test_the_boundary_is_sklearns(eps, neighbouring_number):
    distance = np.float32(eps)
    distance = [np.nextafter(distance, np.float32(0)), distance, np.nextafter(distance, np.float32(1))][
        neighbouring_number + 1
    ]
    assert_equals_sklearn(symmetric(2, [(0, 1, distance)]), eps, 2)


def test_float64_distances_are_compared_as_such():
    distances = symmetric(2, [(0, 1, 0.6)]).astype(np.float64)
    distances[0, 1] = distances[1, 0] = np.nextafter(0.6, 1)
    assert set(assert_equals_sklearn(distances, 0.6, 2)) == {-1}


def test_the_diagonal_need_not_be_stored():
    distances = symmetric(4, [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1)])
    np.fill_diagonal(distances, FAR)
    assert dbscan(sparse_graph(distances, largest=0.5), 0.5, 3).tolist() == [0, 0, 0, -1]


def test_bad_input_is_named():
    with pytest.raises(InputError, match="sparse CSR"):
        dbscan(torch.zeros(3, 3))
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        dbscan(torch.zeros(2, 3).to_sparse_csr())
    with pytest.raises(InputError, match="eps = 0"):
        dbscan(torch.zeros(3, 3).to_sparse_csr(), eps=0)
    with pytest.raises(InputError, match="min_samples = 0"):
        dbscan(torch.zeros(3, 3).to_sparse_csr(), min_samples=0)
