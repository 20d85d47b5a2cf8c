import sys
import time

import numpy as np
import pytest
import torch
from clustering_cases import DEVICES, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from hhcl_torchreid import log
from hhcl_torchreid.clustering import blocks, k_nearest_neighbors, neighbors, selection
from hhcl_torchreid.clustering.selection import largest_in_rows
from hhcl_torchreid.errors import InputError, explain_out_of_memory

BACKENDS = ["auto", "faiss", "torch"]


def neighbors_by_definition(features, k):
    rows = features.double().numpy()
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, -1)
    return distances.argsort(axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 7, 30])
def test_equals_sorting_all_distances(backend, k, device):
    features = unit_rows(150, 16)
    found = k_nearest_neighbors(features.to(device), k, backend=backend)
    assert found.dtype == torch.int64
    assert found.device.type == device
    np.testing.assert_array_equal(found.cpu().numpy(), neighbors_by_definition(features, k))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory_budget", [800, 3_000, 5_000, 20_000])
def test_small_blocks_find_the_same(backend, memory_budget):
    features = unit_rows(130, 16)
    whole = k_nearest_neighbors(features, 9, backend=backend)
    in_blocks = k_nearest_neighbors(features, 9, backend=backend, memory_budget=memory_budget)
    assert torch.equal(whole, in_blocks)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_budget", [None, 3000])
@pytest.mark.parametrize(("num_queries", "num_rows"), [(7, 50), (50, 50), (0, 50), (60, 3)])
def test_queries_are_given_their_most_similar_rows_of_a_gallery(num_queries, num_rows, memory_budget, device):
    queries, gallery = unit_rows(num_queries + 1, 16, seed=1)[1:], unit_rows(num_rows, 16, seed=2)
    found, similarities = neighbors.nearest(queries.to(device), gallery.to(device), 5, memory_budget)
    products = queries.double().numpy() @ gallery.double().numpy().T
    slow = np.argsort(-products, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found.cpu().numpy(), slow)
    np.testing.assert_allclose(similarities.cpu().numpy(), np.take_along_axis(products, slow, axis=1), atol=1e-6)


def test_equally_similar_rows_come_in_the_order_of_their_numbers():
    gallery = torch.eye(3).repeat(3, 1)
    found, similarities = neighbors.nearest(gallery[[2, 0]], gallery, 9)
    assert found.tolist() == [[2, 5, 8, 0, 1, 3, 4, 6, 7], [0, 3, 6, 1, 2, 4, 5, 7, 8]]
    assert similarities.tolist() == [[1.0] * 3 + [0.0] * 6] * 2


@pytest.mark.parametrize("memory_budget", [20_000, 1 << 20])
@pytest.mark.parametrize("backend", BACKENDS)
def test_lowest_similarities_are_found_on_the_way(backend, memory_budget):
    features = unit_rows(130, 16)
    lowest = torch.ones(130)
    neighbors.search(features, 9, backend, memory_budget, lowest)
    torch.testing.assert_close(lowest, (features @ features.T).amin(dim=1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_row_is_its_own_first_neighbour_among_duplicates(backend, device):
    features = unit_rows(3, 8).repeat_interleave(20, dim=0).to(device)
    found = k_nearest_neighbors(features, 5, backend=backend).cpu()
    assert torch.equal(found[:, 0], torch.arange(60))
    assert torch.equal(found // 20, torch.arange(60).unsqueeze(1).expand(60, 5) // 20)
    assert all(len(set(row)) == 5 for row in found.tolist())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_of_many_copies_have_the_lowest_of_them_as_neighbours(backend, device):
    # 40 copies of one row and 3 of another, shuffled among others.
    rows = torch.cat([unit_rows(1, 8, seed=1).expand(40, 8), unit_rows(1, 8, seed=2).expand(3, 8), unit_rows(60, 8)])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    copies = (order < 40).nonzero().squeeze(1).tolist()
    found = k_nearest_neighbors(rows[order].to(device), 10, backend=backend).tolist()
    for row in copies:
        assert found[row] == [row, *[other for other in copies if other != row][:9]]
    few = ((order >= 40) & (order < 43)).nonzero().squeeze(1).tolist()
    for row in few:
        assert found[row][:3] == [row, *[other for other in few if other != row]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_is_its_own_first_neighbour_where_others_are_more_similar_to_it(backend):
    # A longer row in the same direction has the larger inner product, and more of them than are wanted push it out.
    features = unit_rows(1, 8) * torch.linspace(0.995, 1.005, 20).unsqueeze(1)
    found = k_nearest_neighbors(features, 5, backend=backend)
    assert torch.equal(found[:, 0], torch.arange(20))
    assert all(len(set(row)) == 5 for row in found.tolist())


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equally_near_rows_the_lower_come_first(backend):
    # Every other row of a cross is equally near, and exactly so.
    features = torch.cat([torch.eye(6), -torch.eye(6)])
    found = k_nearest_neighbors(features, 11, backend=backend)
    for row in range(12):
        opposite = (row + 6) % 12
        assert found[row].tolist() == [row, *(other for other in range(12) if other not in (row, opposite))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(st.integers(1, 3000), st.integers(1, 40), st.sampled_from([0, -25, -60]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_largest_are_found_by_their_groups(device, dtype, num_columns, k, lowest, seed):
    k = min(k, num_columns)
    # Few distinct values: ties within groups and between them.
    values = torch.randint(50, (5, num_columns), generator=torch.Generator().manual_seed(seed)) + lowest
    values = values.to(device, dtype)
    columns, largest = largest_in_rows(values, k)
    assert torch.equal(largest, values.sort(dim=1, descending=True).values[:, :k])
    assert torch.equal(values.gather(1, columns), largest)
    assert all(len(set(row)) == k for row in columns.tolist())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_may_be_in_the_columns_that_no_group_takes(device, dtype):
    values = torch.zeros(2, 1007, device=device, dtype=dtype)
    values[:, -5:] = torch.arange(1, 6)
    columns, _ = largest_in_rows(values, 3)
    assert columns.tolist() == [[1006, 1005, 1004]] * 2


@pytest.mark.parametrize("columns_of_bf16", [2**16, 100])
def test_the_largest_of_more_columns_than_their_numbers_have_bits_for(columns_of_bf16, monkeypatch):
    monkeypatch.setattr(selection, "LARGEST_NUMBER", columns_of_bf16)
    values = torch.randn(3, 7000, generator=torch.Generator().manual_seed(0)).bfloat16()
    columns, largest = largest_in_rows(values, 9)
    assert torch.equal(largest, values.sort(dim=1, descending=True).values[:, :9])
    assert torch.equal(values.gather(1, columns), largest)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_more_neighbours_than_rows(backend):
    found = k_nearest_neighbors(unit_rows(5, 4), 30, backend=backend)
    assert torch.equal(found.sort(dim=1).values, torch.arange(5).expand(5, 5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_row_has_itself(backend):
    assert k_nearest_neighbors(unit_rows(1, 4), 30, backend=backend).tolist() == [[0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(dtype):
    features = torch.eye(4).to(dtype)
    assert torch.equal(k_nearest_neighbors(features, 1), torch.arange(4).unsqueeze(1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.index_fill_(0, torch.tensor(3), torch.nan), "Row 3 .* NaN"),
        (lambda rows: rows.index_fill_(0, torch.tensor(2), torch.inf), "Row 2 .* infinity"),
        (lambda rows: rows.index_fill_(0, torch.tensor(4), 0), "Row 4 .*normalize"),
        (lambda rows: rows * 2, "Row 0 .* length 2 .*normalize"),
        (lambda rows: rows[0], "matrix"),
        (lambda rows: rows[:0], "non-empty"),
        (lambda rows: rows.long(), "floating-point"),
    ],
)
def test_bad_features_are_named(spoil, words):
    with pytest.raises(InputError, match=words):
        k_nearest_neighbors(spoil(unit_rows(10, 8)), 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_copies_agree_in_other_precisions_too(dtype):
    for seed in range(20):  # rounding brings the length of some rows above one and of others below
        rows = torch.cat([unit_rows(1, 64, seed).expand(40, 64), unit_rows(60, 64, seed=1)]).to(dtype)
        found, similarities = neighbors.search(rows, 10, rows=slice(0, 100))
        agreed = neighbors.agree_on_copies(rows, found, similarities)
        for row in range(40):
            assert agreed[row].tolist() == [row, *[other for other in range(11) if other != row][:9]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_network_computes_in_does_not_matter(backend, device):
    features = unit_rows(300, 64).to(device)
    expected = neighbors.search(features, 20, backend)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast(device, torch.bfloat16):
            found = neighbors.search(features, 20, backend)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_without_rows_of_its_own_finds_none(backend):
    found = neighbors.search(unit_rows(3, 8), 2, backend, rows=slice(3, 3))
    assert [tuple(part.shape) for part in found] == [(0, 2), (0, 2)]


def test_bad_settings_are_named():
    with pytest.raises(InputError, match=r"'annoy'.*faiss"):
        k_nearest_neighbors(unit_rows(10, 8), 3, backend="annoy")
    with pytest.raises(InputError, match="k = 0"):
        k_nearest_neighbors(unit_rows(10, 8), 0)
    with pytest.raises(InputError, match="memory_budget = -1"):
        k_nearest_neighbors(unit_rows(10, 8), 3, memory_budget=-1)


class ShortMemory:
    """Stands in for a device that cannot hold more than ``limit`` rows of a block."""

    def __init__(self, work, limit):
        self.work, self.limit, self.sizes = work, limit, []

    def __call__(self, *settings):
        start, stop = settings[-2:]
        self.sizes.append(stop - start)
        if stop - start > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.work(*settings)


def test_out_of_memory_is_tried_again_in_smaller_blocks(monkeypatch):
    features = unit_rows(100, 8)
    expected = k_nearest_neighbors(features, 5, backend="torch")
    short = ShortMemory(neighbors.torch_block, limit=30)
    monkeypatch.setattr(neighbors, "torch_block", short)
    assert torch.equal(k_nearest_neighbors(features, 5, backend="torch"), expected)
    assert short.sizes == [100, 25, 25, 25, 25]


def test_tiles_shrink_where_memory_is_short(monkeypatch):
    features, empty, sizes = unit_rows(100, 8), torch.empty, []
    expected = k_nearest_neighbors(features, 5, backend="faiss")

    def short_empty(*shape, **settings):
        sizes.append(shape)
        if shape[1] > 30 * 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80000 bytes.")
        return empty(*shape, **settings)

    monkeypatch.setattr(torch, "empty", short_empty)
    assert torch.equal(k_nearest_neighbors(features, 5, backend="faiss"), expected)
    assert sizes == [(2, 100 * 100), (2, 50 * 50), (2, 25 * 25)]


def test_hopeless_memory_is_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(neighbors, "torch_block", ShortMemory(neighbors.torch_block, limit=0))
    with pytest.raises(InputError, match=r"Out of memory in the neighbour search.*even one row.*move the features"):
        k_nearest_neighbors(unit_rows(100, 8), 5, backend="torch")


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("bad_alloc")]
)
def test_out_of_memory_between_blocks_is_one_clear_sentence(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(neighbors, "in_order", fail)
    with pytest.raises(InputError, match=r"Out of memory in the neighbour search: free memory"):
        k_nearest_neighbors(unit_rows(10, 8), 3)


def test_other_errors_are_not_taken_for_memory():
    def fail(start=0, stop=0):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        blocks.map_blocks(10, 5, fail, "a test")
    with pytest.raises(RuntimeError, match="a bug"):
        explain_out_of_memory("a test")(fail)()


@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_that_take_long_show_how_far_they_are(is_long, threads, terminal, monkeypatch):
    monkeypatch.setattr(log, "LATE", 0.2)
    shown = terminal()
    blocks.map_blocks(40, 10, lambda start, stop: time.sleep(0.3), "the test", threads, is_long)
    assert ("test: " in shown.getvalue() and "75%" in shown.getvalue()) == is_long


@pytest.mark.parametrize("backend", ["faiss", "torch"])
@pytest.mark.parametrize("seconds", [0, 60])
def test_a_search_shows_a_bar_where_it_takes_long(seconds, backend, terminal, monkeypatch):
    monkeypatch.setattr(log, "LATE", seconds)
    shown = terminal()
    k_nearest_neighbors(unit_rows(100, 8), 5, backend)
    assert ("neighbour search: " in shown.getvalue()) == (seconds == 0)


def test_a_scratch_table_comes_back_clean_or_not_at_all():
    table = blocks.ScratchTable(-1, torch.int32, torch.device("cpu"))
    keys = torch.tensor([2, 4])
    with table.lend(6, keys) as cells:
        cells[keys] = 7
    with pytest.raises(RuntimeError), table.lend(6, keys) as cells:
        assert cells.tolist() == [-1] * 6
        cells[keys] = 7
        raise RuntimeError
    with table.lend(6, keys) as cells:
        assert cells.tolist() == [-1] * 6


def test_without_faiss_pytorch_searches(monkeypatch, capsys):
    features = unit_rows(100, 8)
    expected = k_nearest_neighbors(features, 5)
    expected_of_two = neighbors.nearest(features[:2], features, 5)[0]
    monkeypatch.setitem(sys.modules, "faiss", None)
    for backend in ("torch", "auto", "auto"):
        assert torch.equal(k_nearest_neighbors(features, 5, backend), expected)
    assert torch.equal(neighbors.nearest(features[:2], features, 5)[0], expected_of_two)
    assert capsys.readouterr().out.count("FAISS, which cannot be imported") == 1
    with pytest.raises(InputError, match=r'install faiss-cpu.*"torch"'):
        k_nearest_neighbors(features, 5, backend="faiss")
