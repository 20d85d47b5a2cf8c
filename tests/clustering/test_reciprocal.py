import numpy as np
import pytest
import torch
from clustering_cases import DEVICES, GOLDEN, dense_graph, jaccard_by_definition, sparse_graph, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from hhcl_torchreid.clustering import (
    dbscan,
    jaccard_graph,
    jaccard_scipy,
    jaccard_torch,
    k_nearest_neighbors,
    reciprocal,
)
from hhcl_torchreid.clustering.blocks import map_blocks
from hhcl_torchreid.clustering.jaccard_torch import SparseRows
from hhcl_torchreid.clustering.neighbors import search
from hhcl_torchreid.errors import InputError

IMPLEMENTATIONS = [jaccard_scipy, jaccard_torch]


@pytest.fixture(params=IMPLEMENTATIONS, ids=["scipy", "torch"])
def on_cpu(request, monkeypatch):
    """Runs a test with either implementation on the CPU; the GPU has but one."""
    monkeypatch.setattr(reciprocal, "jaccard_scipy", request.param)


def assert_graph_holds(graph, distances, max_distance, tolerance=1e-4):
    """``graph`` stores the right distances, and every pair that is clearly within ``max_distance``."""
    found = dense_graph(graph)
    stored = np.isfinite(found)
    np.testing.assert_allclose(found[stored], distances[stored], atol=tolerance)
    assert found[stored].max() <= np.float32(max_distance)
    assert stored[distances <= max_distance - tolerance].all()
    assert (np.diagonal(found) == 0).all()
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["faiss", "torch"])
@pytest.mark.parametrize("case", "abc")
def test_golden(case, backend, device, on_cpu):
    features = torch.from_numpy(GOLDEN[f"{case}_features"]).to(device)
    k1, k2 = int(GOLDEN[f"{case}_k1"]), int(GOLDEN[f"{case}_k2"])
    graph = jaccard_graph(features, k1, k2, max_distance=0.7, backend=backend)
    assert graph.layout == torch.sparse_csr
    assert graph.dtype == torch.float32
    assert graph.device.type == device
    assert_graph_holds(graph, GOLDEN[f"{case}_jaccard"], 0.7)
    for eps in ("0.45", "0.60", "0.70"):
        labels = dbscan(graph, float(eps), min_samples=4).cpu().numpy()
        np.testing.assert_array_equal(labels, GOLDEN[f"{case}_labels_eps{eps}"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_distance", [0.0, 0.6, 0.95])
@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (21, 1), (1, 1), (10, 10)])
def test_equals_the_definition(k1, k2, max_distance, device, on_cpu):
    features = unit_rows(120, 12, seed=k1, num_groups=8)
    expected = jaccard_by_definition(features, k_nearest_neighbors(features, k1), k1, k2)
    graph = jaccard_graph(features.to(device), k1, k2, max_distance)
    assert_graph_holds(graph, expected, max_distance)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_small_blocks_give_the_same_to_the_bit(implementation, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    features = unit_rows(200, 12, num_groups=10)
    neighbors, similarities = search(features, 30)

    def pairs(memory_budget):
        encoding = implementation.encode(
            features, neighbors, similarities, 16, neighbors[:, :6], lambda values, rows: values.exp(), memory_budget
        )
        first, second, distances = implementation.pairs_within(encoding, 0.6, memory_budget)
        order = (first * 200 + second).argsort()
        return first[order], second[order], distances[order]

    whole = pairs(memory_budget=1 << 30)
    assert len(whole[0]) > 200
    for one, other in zip(whole, pairs(memory_budget=1_000_000), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_pair_within_the_bound_is_lost(implementation):
    features = unit_rows(200, 12, num_groups=10, spread=0.9)
    neighbors, similarities = search(features, 30)
    expected = jaccard_by_definition(features, neighbors, 30, 6)
    encoding = implementation.encode(
        features, neighbors, similarities, 16, neighbors[:, :6], lambda values, rows: (2 * values).exp()
    )
    for max_distance in (0.2, 0.5, 0.9, 0.999):
        first, second, _ = implementation.pairs_within(encoding, max_distance)
        found = set(zip(first.tolist(), second.tolist(), strict=True))
        clearly_within = np.triu(expected < max_distance - 1e-5, 1)
        barely_within = np.triu(expected < max_distance + 1e-5, 1)
        assert set(map(tuple, np.argwhere(clearly_within).tolist())) <= found
        assert found <= set(map(tuple, np.argwhere(barely_within).tolist()))


@st.composite
def encodings(draw):
    """Rows of weights that sum to one, some columns in most rows, some weights far heavier than others."""
    num_rows = draw(st.integers(2, 25))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    commonness = generator.random(num_rows) ** draw(st.sampled_from([0.2, 1, 4]))
    weights = generator.random((num_rows, num_rows)) ** draw(st.sampled_from([0, 1, 6]))
    weights *= generator.random((num_rows, num_rows)) < commonness
    if draw(st.booleans()):
        weights[num_rows // 2 :] = weights[0]
    weights += 1e-3 * np.eye(num_rows)
    return csr_matrix((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(encodings(), st.sampled_from([0.0, 0.2, 0.45, 0.7, 0.95]))
@settings(max_examples=50, deadline=None)
def test_pairs_are_those_that_comparing_all_would_find(implementation, encoding, max_distance):
    dense = encoding.toarray().astype(np.float64)
    overlaps = np.stack([np.minimum(row, dense).sum(axis=1) for row in dense])
    expected = 1 - overlaps / (2 - overlaps)
    encoding = SparseRows.of(encoding) if implementation is jaccard_torch else encoding
    first, second, distances = implementation.pairs_within(encoding, max_distance)
    np.testing.assert_allclose(distances, expected[first, second], atol=1e-5)
    found = np.zeros(expected.shape, dtype=bool)
    found[first, second] = True
    assert found.sum() == len(first)
    assert found[np.triu(expected < max_distance - 1e-5, 1)].all()
    assert not found[~np.triu(expected < max_distance + 1e-5, 1)].any()


class ShortMemory:
    """Stands in for a device that holds the results of no more than ``limit`` rows of a block."""

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, total, rows, work, task, threads=1, is_long=False):
        def work_within_limit(start, stop):
            if stop - start > self.limit:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return work(start, stop)

        return map_blocks(total, rows, work_within_limit, task, threads, is_long)


def test_out_of_memory_is_tried_again_in_smaller_blocks(on_cpu, monkeypatch):
    features = unit_rows(120, 12, num_groups=8)
    expected = jaccard_graph(features)
    for room in IMPLEMENTATIONS:
        monkeypatch.setattr(room, "map_blocks", ShortMemory(7))
    graph = jaccard_graph(features)
    assert torch.equal(graph.col_indices(), expected.col_indices())
    assert torch.equal(graph.values(), expected.values())


def test_hopeless_memory_is_one_clear_sentence(on_cpu, monkeypatch):
    for room in IMPLEMENTATIONS:
        monkeypatch.setattr(room, "map_blocks", ShortMemory(0))
    with pytest.raises(InputError, match=r"Out of memory in the .*, even one row at a time: free memory"):
        jaccard_graph(unit_rows(50, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_cpus_graph_and_the_same_one_twice():
    features = unit_rows(3000, 64, num_groups=200)
    on_cpu, on_gpu, again = (jaccard_graph(features.to(device)) for device in ("cpu", "cuda", "cuda"))
    assert torch.equal(on_gpu.values(), again.values())
    assert torch.equal(on_gpu.col_indices(), again.col_indices())
    expected, found = dense_graph(on_cpu), dense_graph(on_gpu)
    in_both = np.isfinite(expected) & np.isfinite(found)
    np.testing.assert_allclose(found[in_both], expected[in_both], atol=1e-5)
    in_one = np.isfinite(expected) != np.isfinite(found)
    assert (np.minimum(expected, found)[in_one] > 0.6 - 1e-5).all()


def test_rows_of_the_graph_are_a_valid_csr_matrix():
    graph = jaccard_graph(unit_rows(80, 8, num_groups=5))
    torch.sparse_csr_tensor(
        graph.crow_indices(), graph.col_indices(), graph.values(), graph.shape, check_invariants=True
    )


@pytest.mark.parametrize("num_rows", [1, 2, 5, 29, 30, 31])
def test_fewer_images_than_neighbours(num_rows, on_cpu):
    features = unit_rows(num_rows, 8)
    # With N neighbours to find, k1 = N asks for the same.
    k1 = min(30, num_rows)
    expected = jaccard_by_definition(features, k_nearest_neighbors(features, k1), k1, 6)
    assert_graph_holds(jaccard_graph(features, k1=30, k2=6), expected, 0.6)


def test_duplicates_are_at_distance_zero(on_cpu):
    graph = jaccard_graph(unit_rows(1, 8).expand(20, 8))
    np.testing.assert_allclose(dense_graph(graph), np.zeros((20, 20)), atol=1e-6)


@pytest.mark.parametrize("max_distance", [-0.1, 1.0, float("nan")])
def test_a_bad_bound_is_named(max_distance):
    with pytest.raises(InputError, match="max_distance"):
        jaccard_graph(unit_rows(10, 8), max_distance=max_distance)


def test_bad_neighbour_counts_are_named():
    with pytest.raises(InputError, match="k = 0"):
        jaccard_graph(unit_rows(10, 8), k1=0)
    with pytest.raises(InputError, match="k2 = 0"):
        jaccard_graph(unit_rows(10, 8), k2=0)


def test_sparse_graph_helper_round_trips():
    distances = np.array([[0, 0.5], [0.5, 0]], dtype=np.float32)
    np.testing.assert_array_equal(dense_graph(sparse_graph(distances)), distances)
