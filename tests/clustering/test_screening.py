"""Neighbours that products of halves choose, against all inner products in float64.

They are multiplied on processors without matrix units too, only slowly: what is found is the same.
"""

from pathlib import Path

import pytest
import torch
from clustering_cases import DEVICES, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hhcl_torchreid.clustering import jaccard_graph, k_nearest_neighbors, neighbors, re_ranking
from hhcl_torchreid.clustering.neighbors import nearest, search
from hhcl_torchreid.clustering.products import PairProducts
from hhcl_torchreid.clustering.screening import HalfPrecisionScreen, has_matrix_units

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def nearest_by_definition(rows, gallery, k):
    similarities, columns = (rows.double() @ gallery.double().T).sort(dim=1, descending=True, stable=True)
    return columns[:, :k], similarities[:, :k]


def assert_as_near(found, rows, gallery, k, tolerance=None):
    """The same neighbours in the same order, but where similarities differ by rounding alone: a CPU's of float32."""
    columns, similarities = found
    tolerance = tolerance or (1e-14 if rows.is_cuda else 5e-7)
    expected_columns, expected = nearest_by_definition(rows, gallery, k)
    torch.testing.assert_close(similarities.double(), expected, atol=tolerance, rtol=0)
    is_clear = torch.ones_like(columns, dtype=torch.bool)
    is_clear[:, 1:] &= expected.diff(dim=1).abs() > 2 * tolerance
    is_clear[:, :-1] &= expected.diff(dim=1).abs() > 2 * tolerance
    is_clear[:, -1] = False  # the next one may be as near
    assert torch.equal(columns[is_clear], expected_columns[is_clear])
    assert all(len(row.unique()) == k for row in columns)


def clustered(seed, count=300, length=64, spread=0.3):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(count // 15, length, generator=generator)
    rows = centers.repeat_interleave(15, dim=0) + spread * torch.randn(count, length, generator=generator)
    return F.normalize(rows, dim=1)


def nearly_equal(seed, count=300, length=64):
    """As features of random weights are: all similarities above 0.99."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(1 + 0.03 * torch.randn(count, length, generator=generator), dim=1)


def one_ulp_apart(seed, count=300, length=64):
    """Rows in bundles that differ by the last bit of some numbers, which halves cannot see."""
    generator = torch.Generator().manual_seed(seed)
    rows = clustered(seed, count, length).view(-1, 20, length)[:, :1].expand(-1, 20, -1).reshape(count, length).clone()
    chosen = torch.rand(count, length, generator=generator) < 0.1
    rows[chosen] = torch.nextafter(rows[chosen], torch.tensor(2.0))
    return rows


def one_ulp_around(seed, count=300, length=64):
    """Rows whose similarities to the first differ by some last bits, so that many are about the k-th."""
    generator = torch.Generator().manual_seed(seed)
    first = F.normalize(torch.randn(1, length, generator=generator), dim=1)
    others = torch.randn(count - 1, length, generator=generator)
    others = F.normalize(others - others @ first.T * first, dim=1)
    alike = 0.7 + torch.randint(-3, 4, (count - 1, 1), generator=generator) * 2**-24
    return torch.cat([first, F.normalize(alike * first + (1 - alike.square()).sqrt() * others, dim=1)])


KINDS = {"random": lambda seed: unit_rows(300, 64, seed), "clustered": clustered, "nearly equal": nearly_equal}
KINDS |= {
    "one ulp apart": one_ulp_apart,
    "one ulp around": one_ulp_around,
    "halves": lambda seed: F.normalize(clustered(seed).half().float(), dim=1),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([1, 7, 30]))
@settings(max_examples=8, deadline=None)
def test_no_neighbour_is_lost(kind, device, seed, k):
    gallery = KINDS[kind](seed).to(device)
    screen = HalfPrecisionScreen(gallery, k)
    # Of twenty rows that float32 products cannot tell apart, any may be among the candidates.
    tolerance = 5e-7 if kind.startswith("one ulp") else None
    assert_as_near(screen.nearest(gallery), gallery, gallery, k, tolerance)
    assert_as_near(screen.nearest(gallery[5:12]), gallery[5:12], gallery, k, tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_budget", [0, 1 << 20])
def test_own_rows_are_found_as_others_are(kind, memory_budget, monkeypatch):
    monkeypatch.setattr(PairProducts, "ROWS", 70)
    gallery = KINDS[kind](1)
    screen = HalfPrecisionScreen(gallery, 7, memory_budget, for_all=True)
    assert screen.rows_at_once == (70 if memory_budget else 1)
    lowest = gallery.new_ones(300)
    blocks = [screen.nearest_of(start, start + 60, lowest[start : start + 60]) for start in range(0, 300, 60)]
    assert_as_near([torch.cat(parts) for parts in zip(*blocks, strict=True)], gallery, gallery, 7, 5e-7)
    torch.testing.assert_close(lowest, (gallery @ gallery.T).amin(dim=1), atol=5e-7, rtol=0)


def test_float32_decides_where_the_screen_cannot():
    gallery = nearly_equal(0)
    screen = HalfPrecisionScreen(gallery, 5)
    screen.nearest(gallery[:100])
    assert screen.rows_in_float32 > 50
    assert_as_near(screen.nearest(gallery[100:]), gallery[100:], gallery, 5)  # which are not screened any more
    assert screen.rows_in_float32 >= 250


def test_the_screen_is_enough_for_clusters():
    gallery = clustered(0, count=3000, length=32)
    screen = HalfPrecisionScreen(gallery, 10)
    assert_as_near(screen.nearest(gallery), gallery, gallery, 10)
    assert screen.rows_in_float32 < 300


def test_all_rows_alike_and_galleries_as_small_as_k():
    copies = unit_rows(1, 16).repeat(50, 1)
    columns, similarities = HalfPrecisionScreen(copies, 3).nearest(copies[:4])
    assert columns.shape == (4, 3) and torch.allclose(similarities.double(), torch.ones(4, 3, dtype=torch.float64))
    gallery = unit_rows(9, 16)
    assert_as_near(HalfPrecisionScreen(gallery, 9).nearest(gallery), gallery, gallery, 9)
    assert HalfPrecisionScreen(gallery, 3).nearest(gallery[:0])[0].shape == (0, 3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [300, 9])
def test_the_lowest_similarity_of_every_row_is_float32s(kind, count, device):
    gallery = KINDS[kind](3)[:count].to(device)
    screen = HalfPrecisionScreen(gallery, 7)
    lowest = gallery.new_ones(count)
    columns, similarities = screen.nearest(gallery, lowest)
    expected = (gallery.double() @ gallery.double().T).amin(dim=1)
    torch.testing.assert_close(lowest.double(), expected, atol=5e-7, rtol=0)
    assert_as_near((columns, similarities), gallery, gallery, 7, 5e-7)


def test_a_cpu_screens_where_it_has_matrix_units_and_rows_are_many():
    description = Path("/proc/cpuinfo")
    has_units = description.exists() and "amx_bf16" in description.read_text().split()
    assert has_matrix_units(torch.zeros(20000, 4)) == has_units
    assert not has_matrix_units(torch.zeros(2000, 4))


@pytest.fixture
def units(monkeypatch):
    """Takes matrix units for there or not, whatever the machine has."""

    def have(answer):
        monkeypatch.setattr(neighbors, "has_matrix_units", lambda rows: answer)

    return have


@pytest.mark.parametrize("memory_budget", [None, 2 << 20])
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_searches_finds_the_same_with_matrix_units(kind, memory_budget, units):
    rows = KINDS[kind](4)
    queries = F.normalize(rows.repeat(2, 1)[:520] + KINDS["random"](5).repeat(2, 1)[:520], dim=1)
    found = []
    for answer in (False, True):
        units(answer)
        everything = k_nearest_neighbors(rows, 20, memory_budget=memory_budget)
        some, similarities = search(rows, 20, memory_budget=memory_budget, rows=slice(40, 90))
        ranked = nearest(queries, rows, 20, memory_budget)
        found.append([everything, some, similarities, *ranked])
    if kind in ("random", "clustered", "halves"):
        for before, after in zip(*found, strict=True):
            torch.testing.assert_close(after, before, atol=5e-7, rtol=0)
    for columns, *_ in (found[1][:1], found[1][1:]):
        assert all(len(row.unique()) == 20 for row in columns)


@pytest.mark.parametrize("kind", ["random", "clustered", "halves"])
def test_graphs_and_re_ranked_distances_are_the_same_with_matrix_units(kind, units):
    rows = KINDS[kind](6)
    found = []
    for answer in (False, True):
        units(answer)
        found.append((jaccard_graph(rows, 12, 4).to_dense(), re_ranking(rows[:40], rows[40:])))
    for before, after in zip(*found, strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


@NEEDS_GPU
@pytest.mark.parametrize("memory_budget", [None, 60 << 20])
def test_a_gpu_screens_and_finds_what_the_cpu_does(memory_budget):
    rows = clustered(1, count=18000, length=128)
    assert has_matrix_units(rows.cuda())
    expected = k_nearest_neighbors(rows, 20)
    found = k_nearest_neighbors(rows.cuda(), 20, memory_budget=memory_budget).cpu()
    assert (found == expected).float().mean() > 0.999  # float32 rounds near ties
    queries = clustered(2, count=600, length=128).cuda()
    assert_as_near(nearest(queries, rows.cuda(), 20, memory_budget), queries, rows.cuda(), 20, 1e-6)
