"""k-reciprocal encoding and Jaccard distances in SciPy, for features on the CPU; :mod:`reciprocal` has the story.

Neighbour lists are sparse matrices here: reciprocal neighbours are a list matrix times its transpose entry by entry,
expansion and averaging are matrix products. SciPy's compiled loops release Python's lock, so that blocks of rows run on
all cores.
"""

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from .blocks import map_blocks, rows_within

__all__ = ["encode", "pairs_within"]

MEMORY_BUDGET = 128 << 20
BLOCKS_AT_LEAST = 32
GROUPS = 16
ROWS_AT_LEAST = 64  # of a block or group: fewer take as long
# Stored similarities must not be zero, which SciPy would drop: this lifts [-1, 1] to [1, 3].
LIFT = 2
# How much of the least overlap may hide in the columns that the search for close rows leaves out. More makes the search
# shorter and the pairs that it lets through more.
LEFT_OUT = 0.8
# Sums of rounded weights may fall short of a bound that the exact sums reach.
ROUNDING = 1e-4

_Pairs = tuple[Tensor, Tensor, Tensor]


def encode(
    features: Tensor,
    neighbors: Tensor,
    similarities: Tensor,
    half: int,
    averaged: Tensor,
    weigh: Callable[[Tensor, Tensor], Tensor],
    memory_budget: int = MEMORY_BUDGET,
) -> sparse.csr_matrix:
    """Encodes as :func:`~hhcl_torchreid.clustering.jaccard_torch.encode`, in ``(N, N)`` with sorted columns."""
    num_rows, k1 = neighbors.shape
    listed = _lists(neighbors, similarities + LIFT)
    listing = listed.T.tocsr()
    reciprocal = _pattern(listed.multiply(listing))
    halves = _lists(neighbors[:, :half])
    joining = _pattern(halves.multiply(halves.T.tocsr()))
    joining_transposed, joining_sizes = joining.T.tocsr(), np.diff(joining.indptr)

    def expand(start: int, stop: int) -> sparse.csr_matrix:
        own = reciprocal[start:stop]
        # The neighbours of a candidate join if more than two thirds of them are the row's own reciprocal neighbours.
        common = (own @ joining_transposed).multiply(own).tocsr()
        common.data = (3 * common.data > 2 * joining_sizes[common.indices]).astype(np.float32)
        common.eliminate_zeros()
        expanded = _pattern(common @ joining + own)
        lifted = expanded.multiply(listed[start:stop].maximum(listing[start:stop])).tocsr()
        lifted = lifted + _unlisted(features, _pattern(expanded - _pattern(lifted)), start)
        return _normalized(lifted, weigh, start)

    rows = min(rows_within(memory_budget, 64 * k1 * half), max(ROWS_AT_LEAST, -(-num_rows // BLOCKS_AT_LEAST)))
    blocks = map_blocks(num_rows, rows, expand, "the k-reciprocal encoding", torch.get_num_threads(), is_long=True)
    encoding = sparse.vstack(blocks, format="csr")
    if averaged.shape[1] > 1:
        encoding = (_lists(averaged) @ encoding).tocsr()
        encoding.data /= averaged.shape[1]
    encoding.sort_indices()
    return encoding


def pairs_within(encoding: sparse.csr_matrix, max_distance: float, memory_budget: int = MEMORY_BUDGET) -> _Pairs:
    """Gives all pairs i < j with a Jaccard distance of at most ``max_distance``: i, j and distance.

    The smaller of two weights is never larger than their geometric mean, and so the product of the matrix of square
    roots with its transpose bounds every overlap from above. Only the few pairs that pass that bound are compared.
    """
    num_rows = encoding.shape[0]
    # distance = 1 - s / (2 - s) is within the bound if the overlap s is at least this.
    least_overlap = 2 * (1 - max_distance) / (2 - max_distance)
    roots = _prefixes(encoding, LEFT_OUT * least_overlap)
    least_in_prefix = (1 - LEFT_OUT) * least_overlap - ROUNDING
    products = np.add.reduceat(np.bincount(roots.indices, minlength=num_rows)[roots.indices], roots.indptr[:-1])
    np.sqrt(roots.data, out=roots.data)
    roots_transposed = roots.T.tocsr()

    def compare(start: int, stop: int, later: sparse.csr_matrix, offset: int) -> _Pairs:
        bounds = (roots[start:stop] @ later).tocoo()
        first, second = bounds.row + start, bounds.col + offset
        kept = (bounds.data >= least_in_prefix) & (second > first)
        first, second = first[kept], second[kept]
        distances = _distances(encoding, first, second, memory_budget // threads)
        near = distances <= np.float32(max_distance)
        return _tensor(first[near]), _tensor(second[near]), torch.from_numpy(distances[near])

    threads = torch.get_num_threads()
    bytes_per_row = 16 * int(np.minimum(products, num_rows).mean())
    rows = rows_within(memory_budget // threads, bytes_per_row)

    def compare_group(start: int, stop: int) -> list[_Pairs]:
        # Pairs are wanted once, and leaving out earlier rows halves the work: but cutting them off costs as much as
        # the whole matrix, and so is done for a few groups only, however many blocks there are.
        later = roots_transposed[:, start:]
        return map_blocks(
            stop - start,
            min(rows, -(-(stop - start) // (2 * threads))),
            lambda begin, end: compare(start + begin, start + end, later, start),
            "the Jaccard distances",
            threads,
        )

    rows_of_group = max(ROWS_AT_LEAST, -(-num_rows // GROUPS))
    groups = map_blocks(num_rows, rows_of_group, compare_group, "the Jaccard distances", is_long=True)
    first, second, distances = (torch.cat(parts) for parts in zip(*chain.from_iterable(groups), strict=True))
    return first, second, distances


def _prefixes(encoding: sparse.csr_matrix, left_out: float) -> sparse.csr_matrix:
    """Gives the rows without their most common columns, of less than ``left_out`` in weight: prefix filtering.

    What two rows share and not both of them keep lies in what one of them leaves out, and weighs less than
    ``left_out``. Columns that many rows have are what makes comparing all rows that share one expensive. Columns are
    numbered anew, the rarest first.

    References:
        Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins in Data Cleaning, ICDE 2006.
    """
    num_rows = encoding.shape[0]
    by_rarity = np.bincount(encoding.indices, minlength=num_rows).argsort(kind="stable")
    rarity = np.empty(num_rows, dtype=np.int32)
    rarity[by_rarity] = np.arange(num_rows, dtype=np.int32)
    prefixes = sparse.csr_matrix((encoding.data, rarity[encoding.indices], encoding.indptr), encoding.shape, copy=True)
    prefixes.sort_indices()
    weight_up_to = np.concatenate([[0], prefixes.data.cumsum(dtype=np.float64)])
    weight_from = np.repeat(weight_up_to[prefixes.indptr[1:]], np.diff(prefixes.indptr)) - weight_up_to[:-1]
    prefixes.data[weight_from < left_out] = 0
    prefixes.eliminate_zeros()
    return prefixes


def _distances(
    encoding: sparse.csr_matrix, first: NDArray[np.integer], second: NDArray[np.integer], memory_budget: int
) -> NDArray[np.float32]:
    """Gives the Jaccard distances of pairs of rows."""
    ones = np.ones(encoding.shape[1], dtype=np.float32)

    def measure(start: int, stop: int) -> NDArray[np.float32]:
        overlaps = encoding[first[start:stop]].minimum(encoding[second[start:stop]]) @ ones
        return np.maximum(1 - overlaps / (2 - overlaps), 0)

    pairs = rows_within(memory_budget, 32 * int(np.diff(encoding.indptr).mean()))
    parts = map_blocks(len(first), pairs, measure, "the Jaccard distances")
    return np.concatenate([np.empty(0, dtype=np.float32), *parts])


def _lists(columns: Tensor, values: Tensor | None = None) -> sparse.csr_matrix:
    """Gives the ``(N, N)`` matrix that holds ``values``, or ones, in ``(N, k)`` columns of its rows."""
    num_rows, length = columns.shape
    data = np.ones(columns.numel(), dtype=np.float32) if values is None else values.numpy().ravel()
    matrix = sparse.csr_matrix(
        (data, columns.numpy().astype(np.int32).ravel(), np.arange(num_rows + 1) * length), shape=(num_rows, num_rows)
    )
    matrix.sort_indices()
    return matrix


def _pattern(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """Gives ones where ``matrix`` is not zero."""
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    return sparse.csr_matrix((np.ones(matrix.nnz, dtype=np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def _unlisted(features: Tensor, pairs: sparse.csr_matrix, start: int) -> sparse.csr_matrix:
    """Gives the lifted similarities of pairs that do not list each other; row 0 is row ``start`` of the features."""
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr)) + start
    matrix, at_once = features.numpy(), rows_within(4 << 20, 8 * features.shape[1])
    for begin in range(0, pairs.nnz, at_once):
        part = slice(begin, begin + at_once)
        np.einsum("ij,ij->i", matrix[rows[part]], matrix[pairs.indices[part]], out=pairs.data[part])
    pairs.data += LIFT
    return pairs


def _normalized(lifted: sparse.csr_matrix, weigh: Callable[[Tensor, Tensor], Tensor], start: int) -> sparse.csr_matrix:
    """Rows of weights that sum to one, from lifted similarities."""
    lengths = np.diff(lifted.indptr)
    rows = torch.from_numpy(np.repeat(np.arange(len(lengths)) + start, lengths))
    weights = weigh(torch.from_numpy(lifted.data - LIFT), rows).numpy()
    sums = np.add.reduceat(weights, lifted.indptr[:-1])
    return sparse.csr_matrix((weights / np.repeat(sums, lengths), lifted.indices, lifted.indptr), shape=lifted.shape)


def _tensor(numbers: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64))
