"""k-reciprocal encoding and Jaccard distances in PyTorch, for features on a GPU; :mod:`reciprocal` has the story.

Rows are built, averaged and compared in blocks, with a dense table of a block's rows as a hash map, so that time and
memory grow with the number of entries and never with N x N. No sum depends on the order in which threads finish:
results are reproducible.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from .blocks import ScratchTable, default_budget, map_blocks, rows_within

__all__ = ["SparseRows", "encode", "pairs_within", "spans"]

MEMORY_BUDGET_ON_CPU = 1 << 30
# How much of the least overlap may hide in the columns that the search for close rows leaves out. More makes the search
# shorter and the pairs that it lets through more.
LEFT_OUT = 0.4
# Sums of rounded weights may fall short of a bound that the exact sums reach.
ROUNDING = 1e-4


class SparseRows(NamedTuple):
    """A sparse matrix, row by row, whose columns are in no particular order within a row."""

    offsets: Tensor  # (rows + 1,) int64: where each row starts and ends
    columns: Tensor  # (entries,) int64
    values: Tensor  # (entries,) float32

    @classmethod
    def of(cls, encoding: "SparseRows | csr_matrix") -> "SparseRows":
        """Gives the same matrix, from SciPy's where it is not one already."""
        if isinstance(encoding, SparseRows):
            return encoding
        offsets, columns = (torch.from_numpy(part.astype(np.int64)) for part in (encoding.indptr, encoding.indices))
        return cls(offsets, columns, torch.from_numpy(encoding.data))

    def select(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Lays the entries of ``rows`` end to end.

        Args:
            rows: ``(R,)`` int64 row numbers, repeated or not.

        Returns:
            For every entry, in order: which element of ``rows`` it comes from, and its position in this matrix.
        """
        starts = self.offsets[rows]
        return spans(starts, self.offsets[rows + 1] - starts)


def encode(
    features: Tensor,
    neighbors: Tensor,
    similarities: Tensor,
    half: int,
    averaged: Tensor,
    weigh: Callable[[Tensor, Tensor], Tensor],
    memory_budget: int | None = None,
) -> SparseRows:
    """Gives the k-reciprocal encoding: for every row its weights over its expanded reciprocal neighbours.

    Args:
        features: ``(N, D)`` unit rows.
        neighbors: ``(N, k)`` int64 nearest neighbours of every row, itself included.
        similarities: ``(N, k)`` their inner products with the row.
        half: how many of a neighbour's nearest neighbours may join.
        averaged: ``(N, k2)`` int64 nearest neighbours whose encodings are averaged into the row's own, itself included.
        weigh: from similarities and the rows that they belong to, to positive weights.
        memory_budget: bytes that the intermediate results of a block may take; None takes the device's default.

    Returns:
        N sparse rows of weights that sum to one.
    """
    memory_budget = memory_budget or default_budget(neighbors.device, MEMORY_BUDGET_ON_CPU)
    num_rows, k1 = neighbors.shape
    is_reciprocal, is_reciprocal_half = _reciprocal(neighbors, half, memory_budget)

    is_neighbor = ScratchTable(0, torch.bool, neighbors.device)
    first_places = _FirstPlaces(neighbors.device)

    def expand(start: int, stop: int) -> SparseRows:
        rows, ranks = is_reciprocal[start:stop].nonzero(as_tuple=True)
        candidates = neighbors[start:stop][rows, ranks]
        keys = rows * num_rows + candidates
        # The neighbours of a candidate join if more than two thirds of them are the row's own reciprocal neighbours.
        may_join = is_reciprocal_half[candidates]
        joining = neighbors[candidates, :half] + (rows * num_rows).unsqueeze(1)
        with is_neighbor.lend((stop - start) * num_rows, keys) as table:
            table[keys] = True
            is_known = table[joining]
        joins = 3 * (is_known & may_join).sum(dim=1) > 2 * may_join.sum(dim=1)
        added = first_places.distinct(joining[joins.unsqueeze(1) & may_join & ~is_known], (stop - start) * num_rows)

        added_similarities = _similarities(features, added // num_rows + start, added % num_rows)
        keys, order = torch.cat([keys, added]).sort()
        values = torch.cat([similarities[start:stop][rows, ranks], added_similarities])[order]
        return _normalized(keys, weigh(values, keys // num_rows + start), stop - start, num_rows)

    rows = rows_within(memory_budget, 5 * num_rows + 32 * k1 * half)
    encoding = _stack(map_blocks(num_rows, rows, expand, "the k-reciprocal encoding", is_long=True))
    return encoding if averaged.shape[1] == 1 else _average(encoding, averaged, memory_budget)


def _reciprocal(neighbors: Tensor, half: int, memory_budget: int) -> tuple[Tensor, Tensor]:
    """Tells which neighbours have the row among theirs: ``(N, k1)`` over all k1, ``(N, half)`` over the first half."""
    num_rows, k1 = neighbors.shape

    def look_back(start: int, stop: int) -> tuple[Tensor, Tensor]:
        own = torch.arange(start, stop, device=neighbors.device).view(-1, 1, 1)
        is_own = neighbors[neighbors[start:stop]] == own
        return is_own.any(dim=2), is_own[:, :half, :half].any(dim=2)

    rows = rows_within(memory_budget, 10 * k1 * k1)
    full, halves = zip(*map_blocks(num_rows, rows, look_back, "the reciprocal neighbours"), strict=True)
    return torch.cat(full), torch.cat(halves)


def _normalized(keys: Tensor, weights: Tensor, num_rows: int, num_columns: int) -> SparseRows:
    """Gives sparse rows that sum to one, from ascending keys, row * num_columns + column, and their weights."""
    offsets = _offsets(torch.bincount(keys // num_columns, minlength=num_rows))
    sums = torch.segment_reduce(weights, "sum", offsets=offsets)
    return SparseRows(offsets, keys % num_columns, weights / sums.repeat_interleave(offsets.diff()))


def _similarities(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gives the inner products of pairs of features, as many at a time as make a small block."""
    if len(rows) == 0:
        return features.new_empty(0, dtype=torch.float32)
    pairs = rows_within(32 << 20, 12 * features.shape[1])

    def multiply(start: int, stop: int) -> Tensor:
        return torch.linalg.vecdot(features[rows[start:stop]].float(), features[columns[start:stop]].float())

    return torch.cat(map_blocks(len(rows), pairs, multiply, "the similarities of expanded neighbours"))


def _average(encoding: SparseRows, neighbors: Tensor, memory_budget: int) -> SparseRows:
    """Gives the mean encoding of every row's ``(N, k2)`` nearest neighbours: local query expansion."""
    num_rows, k2 = neighbors.shape

    sums = ScratchTable(0, torch.float32, neighbors.device)

    def average(start: int, stop: int) -> SparseRows:
        sources, entries = encoding.select(neighbors[start:stop].flatten())
        keys = (sources // k2) * num_rows + encoding.columns[entries]
        slots, values = sources % k2, encoding.values[entries]
        is_first = torch.empty_like(keys, dtype=torch.bool)
        with sums.lend((stop - start) * num_rows, keys) as table:
            # One neighbour at a time: no two of its entries meet in a cell, and sums have one order on any device.
            for slot in range(k2):
                of_slot = (slots == slot).nonzero().squeeze(1)
                cells = keys[of_slot]
                before = table[cells]
                is_first[of_slot] = before == 0
                table[cells] = before + values[of_slot]
            kept = keys[is_first]
            means = table[kept] / k2
        return SparseRows(_offsets(torch.bincount(kept // num_rows, minlength=stop - start)), kept % num_rows, means)

    longest_row = int(encoding.offsets.diff().max())
    rows = rows_within(memory_budget, 4 * num_rows + 40 * k2 * longest_row)
    return _stack(map_blocks(num_rows, rows, average, "the local query expansion"))


def pairs_within(
    encoding: SparseRows, max_distance: float, memory_budget: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives all pairs i < j with a Jaccard distance of at most ``max_distance``: i, j and distance."""
    memory_budget = memory_budget or default_budget(encoding.columns.device, MEMORY_BUDGET_ON_CPU)
    num_rows = len(encoding.offsets) - 1
    # distance = 1 - s / (2 - s) is within the bound if the overlap s is at least this.
    least_overlap = 2 * (1 - max_distance) / (2 - max_distance)
    index = _prefix_index(encoding, LEFT_OUT * least_overlap)
    least_in_prefix = (1 - LEFT_OUT) * least_overlap - ROUNDING
    first_places = _FirstPlaces(encoding.columns.device)
    sums, weights = (ScratchTable(0, torch.float32, encoding.columns.device) for _ in range(2))

    def compare(start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        keys, smaller = index.meetings(start, stop)
        with sums.lend((stop - start) * num_rows, keys) as table:
            # The order of these additions may vary: they only choose, with a margin, what is then compared exactly.
            table.index_add_(0, keys, smaller)
            keys = keys[table[keys] >= least_in_prefix]
        keys = first_places.distinct(keys, (stop - start) * num_rows)
        first, second = keys // num_rows + start, keys % num_rows
        overlaps = _overlaps(encoding, first, second, start, stop, weights, memory_budget)
        distances = (1 - overlaps / (2 - overlaps)).clamp_(min=0)
        kept = distances <= torch.tensor(max_distance, dtype=distances.dtype, device=distances.device)
        return first[kept], second[kept], distances[kept]

    most_meetings = int(index.num_meetings.max())
    rows = rows_within(memory_budget, 12 * num_rows + 56 * most_meetings)
    first, second, distances = zip(
        *map_blocks(num_rows, rows, compare, "the Jaccard distances", is_long=True), strict=True
    )
    return torch.cat(first), torch.cat(second), torch.cat(distances)


class _PrefixIndex(NamedTuple):
    """An inverted index over the part of every row in which rows that are close enough overlap."""

    offsets: Tensor  # (N + 1,): where each row's prefix starts and ends
    values: Tensor  # (entries,): weights, row by row
    positions: Tensor  # (entries,): where in ``members`` the entry is
    ends: Tensor  # (entries,): where in ``members`` the entry's column ends
    members: Tensor  # (entries,): row numbers, column by column, ascending in each
    member_values: Tensor  # (entries,): their weights
    num_meetings: Tensor  # (N,): how many entries of later rows share a column with a row

    def meetings(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Gives pairs i < j, i in a block, for every shared column: (i - start) * N + j, and the smaller weight."""
        num_rows = len(self.offsets) - 1
        rows = torch.arange(start, stop, device=self.offsets.device)
        first, entries = spans(self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows])
        behind = self.positions[entries] + 1
        which, places = spans(behind, self.ends[entries] - behind)
        smaller = torch.minimum(self.values[entries][which], self.member_values[places])
        return first[which] * num_rows + self.members[places], smaller


def _prefix_index(encoding: SparseRows, left_out: float) -> _PrefixIndex:
    """Indexes what two rows can overlap in but for less than ``left_out``.

    All rows order their columns alike, rare ones first, and leave out the end of the row, with less than ``left_out``
    of its weight. A shared column that is not in both prefixes comes after the shorter of the two, in that row's end:
    prefix filtering, from the joins of weighted sets. What is left out are the columns that most rows share.

    References:
        Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins in Data Cleaning, ICDE 2006.
    """
    device, num_rows = encoding.columns.device, len(encoding.offsets) - 1
    rows = torch.arange(num_rows, device=device).repeat_interleave(encoding.offsets.diff())
    by_rarity = torch.bincount(encoding.columns, minlength=num_rows).argsort(stable=True)
    rarity = torch.empty_like(by_rarity)
    rarity[by_rarity] = torch.arange(num_rows, device=device)
    keys, order = (rows * num_rows + rarity[encoding.columns]).sort()

    weight_up_to = torch.cat(
        [torch.zeros(1, dtype=torch.float64, device=device), encoding.values[order].double().cumsum(0)]
    )
    weight_from = weight_up_to[encoding.offsets[1:]][rows] - weight_up_to[:-1]
    in_prefix = weight_from >= left_out
    keys, rows, values = keys[in_prefix], rows[in_prefix], encoding.values[order][in_prefix]
    columns = keys - rows * num_rows

    by_column = columns.argsort(stable=True)
    positions = torch.empty_like(by_column)
    positions[by_column] = torch.arange(len(by_column), device=device)
    ends = torch.bincount(columns, minlength=num_rows).cumsum(0)[columns]
    num_meetings = torch.zeros(num_rows, dtype=torch.int64, device=device).index_add_(0, rows, ends - positions - 1)
    offsets = _offsets(torch.bincount(rows, minlength=num_rows))
    return _PrefixIndex(offsets, values, positions, ends, rows[by_column], values[by_column], num_meetings)


def _overlaps(
    encoding: SparseRows,
    first: Tensor,
    second: Tensor,
    start: int,
    stop: int,
    weights: ScratchTable,
    memory_budget: int,
) -> Tensor:
    """Gives the sums of the smaller weights of pairs of rows; ``first`` are among rows ``start`` to ``stop``."""
    if len(first) == 0:
        return encoding.values.new_empty(0)
    num_rows, lengths = len(encoding.offsets) - 1, encoding.offsets.diff()
    rows, entries = encoding.select(torch.arange(start, stop, device=first.device))
    keys = rows * num_rows + encoding.columns[entries]
    with weights.lend((stop - start) * num_rows, keys) as table:
        table[keys] = encoding.values[entries]

        def overlap(begin: int, end: int) -> Tensor:
            pairs, entries = encoding.select(second[begin:end])
            cells = ((first[begin:end] - start) * num_rows)[pairs] + encoding.columns[entries]
            smaller = torch.minimum(table[cells], encoding.values[entries])
            return torch.segment_reduce(smaller, "sum", lengths=lengths[second[begin:end]])

        pairs = rows_within(memory_budget, 40 * int(lengths.max()))
        return torch.cat(map_blocks(len(first), pairs, overlap, "the Jaccard distances"))


def _offsets(lengths: Tensor) -> Tensor:
    """Tells where rows of these lengths start, and where the last one ends."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def spans(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Counts through spans: for every element of every span, which span it is in, and its position."""
    offsets = _offsets(lengths)
    total = int(offsets[-1])
    which = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths, output_size=total)
    positions = torch.arange(total, device=lengths.device) + (starts - offsets[:-1])[which]
    return which, positions


class _FirstPlaces:
    """Finds distinct keys without sorting them."""

    NOWHERE = torch.iinfo(torch.int32).max

    def __init__(self, device: torch.device) -> None:
        self._places = ScratchTable(self.NOWHERE, torch.int32, device)

    def distinct(self, keys: Tensor, num_keys: int) -> Tensor:
        """Gives the distinct ``keys``, all below ``num_keys``, in the order in which they first appear."""
        places = torch.arange(len(keys), device=keys.device, dtype=torch.int32)
        with self._places.lend(num_keys, keys) as table:
            table.scatter_reduce_(0, keys, places, "amin")
            return keys[table[keys] == places]


def _stack(blocks: list[SparseRows]) -> SparseRows:
    """Puts blocks of rows on top of each other."""
    lengths = torch.cat([block.offsets.diff() for block in blocks])
    columns, values = (torch.cat([block[part] for block in blocks]) for part in (1, 2))
    return SparseRows(_offsets(lengths), columns, values)
