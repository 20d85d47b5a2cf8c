"""Products of halves, block by block, against one product of everything."""

import pytest
import torch
from clustering_cases import unit_rows

from hhcl_torchreid.clustering import products as products_of_halves
from hhcl_torchreid.clustering.products import PairProducts, RowProducts

HALVES = unit_rows(150, 32).bfloat16()
# In float64 products of halves are exact, so that a row times a column is that column times that row to the bit.
EXPECTED = (HALVES.double() @ HALVES.double().T).bfloat16()


@pytest.fixture(params=[RowProducts, PairProducts])
def products(request, monkeypatch):
    monkeypatch.setattr(PairProducts, "ROWS", 40)
    monkeypatch.setattr(products_of_halves, "ROWS_TO_TRANSPOSE", 12)
    return request.param(HALVES)


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-20)  # one place of bf16


@pytest.mark.parametrize("size", [150, 64, 40, 17, 1])
def test_blocks_of_own_rows_are_those_of_the_whole_product(products, size):
    for start in range(0, 150, size):
        stop = min(150, start + size)
        assert_equal(products.of_own(start, stop), EXPECTED[start:stop])


def test_rows_are_asked_for_in_any_order_and_after_smaller_blocks(products):
    for start, stop in ((90, 130), (10, 20), (140, 150), (0, 150), (39, 41), (5, 5)):
        assert_equal(products.of_own(start, stop), EXPECTED[start:stop])


def test_other_rows_are_multiplied_beside_own_ones(products):
    others = unit_rows(9, 32, seed=1).bfloat16()
    expected = (others.double() @ HALVES.double().T).bfloat16()
    assert_equal(products.of(others), expected)
    assert_equal(products.of_own(100, 140), EXPECTED[100:140])
    assert_equal(products.of(others[:3]), expected[:3])


def test_a_pair_is_multiplied_once(monkeypatch):
    monkeypatch.setattr(PairProducts, "ROWS", 40)
    multiplied = []

    def multiply(rows, columns, out=None):
        multiplied.append(len(rows) * len(columns))
        return rows @ columns.T

    monkeypatch.setattr(products_of_halves, "multiply", multiply)
    products = PairProducts(HALVES)
    of_first, of_last = products.of_own(0, 40).clone(), products.of_own(110, 150)
    assert torch.equal(of_first[:, 110:], of_last[:, :40].T)
    assert sum(multiplied) < 0.7 * EXPECTED.numel()
    assert 2 * sum(multiplied) <= PairProducts.bytes_of(len(HALVES))
