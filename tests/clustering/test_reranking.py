import numpy as np
import pytest
import torch
import torchreid
from clustering_cases import DEVICES, unit_rows

from hhcl_torchreid.clustering import jaccard_scipy, jaccard_torch, re_ranking, reranking
from hhcl_torchreid.errors import InputError


def torchreids(queries, gallery, metric="euclidean", **settings):
    def distances(one, other):
        return torchreid.metrics.compute_distance_matrix(one, other, metric).numpy()

    return torchreid.utils.re_ranking(
        distances(queries, gallery), distances(queries, queries), distances(gallery, gallery), **settings
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("implementation", [jaccard_scipy, jaccard_torch])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"k1": 7, "k2": 1, "lambda_value": 0.0}, {"k1": 10, "k2": 3, "lambda_value": 0.8}, {"k1": 4, "k2": 9}],
)
def test_equals_torchreid(settings, metric, implementation, device, monkeypatch):
    monkeypatch.setattr(reranking, "jaccard_scipy", implementation)
    rows = unit_rows(230, 24, num_groups=20)
    queries, gallery = rows[:60], rows[60:]
    result = re_ranking(queries.to(device), gallery.to(device), **settings)
    assert result.dtype == torch.float32
    assert result.device.type == device
    np.testing.assert_allclose(result.cpu().numpy(), torchreids(queries, gallery, metric, **settings), atol=1e-5)


def test_small_blocks_give_the_same(monkeypatch):
    rows = unit_rows(230, 24, num_groups=20)
    whole = re_ranking(rows[:60], rows[60:])
    monkeypatch.setattr(reranking, "MEMORY_BUDGET", 20_000)
    torch.testing.assert_close(re_ranking(rows[:60], rows[60:]), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_queries", "num_gallery"), [(1, 1), (1, 5), (5, 1), (8, 12)])
def test_fewer_images_than_neighbours(num_queries, num_gallery):
    rows = unit_rows(num_queries + num_gallery, 16)
    queries, gallery = rows[:num_queries], rows[num_queries:]
    np.testing.assert_allclose(re_ranking(queries, gallery).numpy(), torchreids(queries, gallery), atol=1e-5)


@pytest.mark.parametrize("implementation", [jaccard_scipy, jaccard_torch])
@pytest.mark.parametrize("dimensions", [3, 64, 2048])
def test_duplicates_only_are_at_distance_zero(dimensions, implementation, monkeypatch):
    monkeypatch.setattr(reranking, "jaccard_scipy", implementation)
    rows = unit_rows(1, dimensions).expand(12, dimensions)
    torch.testing.assert_close(re_ranking(rows[:4], rows[4:]), torch.zeros(4, 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("implementation", [jaccard_scipy, jaccard_torch])
@pytest.mark.parametrize("dimensions", [3, 64, 2048])
def test_features_that_differ_by_rounding_alone_give_distances(dimensions, implementation, monkeypatch):
    monkeypatch.setattr(reranking, "jaccard_scipy", implementation)
    noise = torch.randn(40, dimensions, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(unit_rows(1, dimensions) + 1e-7 * noise, dim=1)
    result = re_ranking(rows[:10], rows[10:])
    assert result.min() > -1e-5 and result.max() < 1


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_network_computes_in_does_not_matter(device):
    rows = unit_rows(90, 24, num_groups=9).to(device)
    expected = re_ranking(rows[:30], rows[30:])
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast(device, torch.bfloat16):
            result = re_ranking(rows[:30], rows[30:])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    assert result.dtype == torch.float32 and torch.equal(result, expected)


def test_bad_input_is_named():
    rows = unit_rows(20, 8)
    with pytest.raises(InputError, match="do not match"):
        re_ranking(rows, rows[:, :4])
    with pytest.raises(InputError, match="at least one query"):
        re_ranking(rows[:0], rows)
    with pytest.raises(InputError, match=r"Row 23 .*NaN"):
        re_ranking(rows, rows.clone().index_fill_(0, torch.tensor(3), torch.nan))
    with pytest.raises(InputError, match="k1 = 0"):
        re_ranking(rows, rows, k1=0)
    with pytest.raises(InputError, match="lambda_value = 2"):
        re_ranking(rows, rows, lambda_value=2)
