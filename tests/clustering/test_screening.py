"""Neighbours that products of halves choose, against all inner products in float64."""

import pytest
import torch
from clustering_cases import DEVICES, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hhcl_torchreid.clustering import k_nearest_neighbors
from hhcl_torchreid.clustering.neighbors import nearest
from hhcl_torchreid.clustering.screening import HalfPrecisionScreen, has_matrix_units

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def nearest_by_definition(rows, gallery, k):
    similarities, columns = (rows.double() @ gallery.double().T).sort(dim=1, descending=True, stable=True)
    return columns[:, :k], similarities[:, :k]


def assert_as_near(found, rows, gallery, k, tolerance=1e-14):
    """The same neighbours in the same order, but where similarities differ by rounding alone."""
    columns, similarities = found
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


KINDS = {"random": lambda seed: unit_rows(300, 64, seed), "clustered": clustered, "nearly equal": nearly_equal}
KINDS |= {"one ulp apart": one_ulp_apart, "halves": lambda seed: F.normalize(clustered(seed).half().float(), dim=1)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([1, 7, 30]))
@settings(max_examples=8, deadline=None)
def test_no_neighbour_is_lost(kind, device, seed, k):
    gallery = KINDS[kind](seed).to(device)
    screen = HalfPrecisionScreen(gallery, k)
    # Of twenty rows that float32 products cannot tell apart, any may be among the candidates.
    tolerance = 2e-7 if kind == "one ulp apart" else 1e-14
    assert_as_near(screen.nearest(gallery), gallery, gallery, k, tolerance)
    assert_as_near(screen.nearest(gallery[5:12]), gallery[5:12], gallery, k, tolerance)


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
    assert columns.shape == (4, 3) and torch.allclose(similarities, torch.ones(4, 3, dtype=torch.float64))
    gallery = unit_rows(9, 16)
    assert_as_near(HalfPrecisionScreen(gallery, 9).nearest(gallery), gallery, gallery, 9)
    assert HalfPrecisionScreen(gallery, 3).nearest(gallery[:0])[0].shape == (0, 3)


def test_a_cpu_keeps_to_float32():
    assert not has_matrix_units(torch.zeros(20000, 4))


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
