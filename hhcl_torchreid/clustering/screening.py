"""Exact nearest neighbours at the speed of matrix units, which multiply numbers of half precision."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import rows_within
from .precision import cpu_has_matrix_units
from .products import PairProducts, RowProducts
from .selection import largest_in_rows
from .sparse import sparse_rows

__all__ = ["HalfPrecisionScreen", "has_matrix_units"]

# Candidates beyond the k nearest: so many may be as near as the last of those, for all that halves can tell.
MORE_CANDIDATES = {torch.float16: 16, torch.bfloat16: 34}
FARTHEST_CANDIDATES = 16
# Below, comparing the candidates takes as long as float32 products of all.
SMALLEST_ON_GPU, SMALLEST_ON_CPU = 12288, 8192
# Copies of rows in another precision: what rounding makes at a time, and what comparing may make whatever the budget.
BYTES_OF_COPIES_ON_GPU, BYTES_OF_COPIES_ON_CPU = 1 << 30, 8 << 20
BYTES_TO_COPY = 4 + 8  # a number of a row, in float32 and then in float64
SLACK = 1.01  # for the rounding of the bound itself


def has_matrix_units(gallery: Tensor) -> bool:
    """Whether products of half-precision numbers are many times faster than others where the ``(N, D)`` rows are."""
    if gallery.is_cuda:
        return len(gallery) >= SMALLEST_ON_GPU and torch.cuda.get_device_capability(gallery.device) >= (7, 0)
    return len(gallery) >= SMALLEST_ON_CPU and cpu_has_matrix_units()


class HalfPrecisionScreen:
    """Finds the most similar rows of a gallery among candidates that products of halves choose, and loses none.

    Let a row a be rounded to â, and δ(a) be the length of what that took. The similarity of a and b then strays from
    that of their halves by at most δ(a) |b| + |â| δ(b) (Cauchy-Schwarz). Matrix units multiply halves exactly and add
    the D products in float32, a GPU's cutting each sum off, a CPU's rounding it; D 2⁻²² |â| |b̂| bounds that twice over.
    The result's rounding to a half takes u of it, 2⁻¹¹ in fp16 and 2⁻⁸ in bf16. With B the sum of the three, no column
    whose rounded similarity is more than 2 B below the k-th largest one can be among the k most similar. Of every row a
    few more than k columns of the largest rounded similarities are taken (46 for 30 neighbours in fp16, on a GPU; 64 in
    bf16, on a CPU); where the last of those is not below that limit, the candidates come from float32 products instead.
    Those above the limit are then compared by inner products of the rows as they were, in float64 on a GPU, in float32
    on a CPU.

    Args:
        gallery (Tensor): (N, D) float32 rows of about unit length.
        k (int): rows wanted, at most N.
        memory_budget (int): bytes that a block of similarities may take, with what selecting takes on top.
        for_all (bool): whether every row of the gallery will be asked for. Where a CPU's budget holds half of all
            products, each is then multiplied once for both of its rows.

    Attributes:
        rows_at_once (int): how many rows to ask for at a time.
        rows_in_float32 (int): how many rows needed float32 products so far.

    References:
        Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 2021, for
        exact products and sums that are cut off. Intel 64 and IA-32 Architectures Software Developer's Manual,
        TDPBF16PS, for sums that are rounded.
    """

    def __init__(self, gallery: Tensor, k: int, memory_budget: int = 0, for_all: bool = False) -> None:
        self.gallery, self.k, self._memory_budget = gallery, k, memory_budget
        self.num_candidates = min(k + MORE_CANDIDATES[_dtype_of_halves(gallery)], len(gallery))
        self._own = _halve(gallery)
        self._longest, self._most_lost = self._own.lengths.max(), self._own.lost.max()
        room = memory_budget - PairProducts.ROWS * self._bytes_per_row
        if for_all and not gallery.is_cuda and PairProducts.bytes_of(len(gallery)) <= room:
            self._products: RowProducts = PairProducts(self._own.halves)
            self.rows_at_once = PairProducts.ROWS
        else:
            self._products = RowProducts(self._own.halves)
            self.rows_at_once = rows_within(memory_budget, self._bytes_per_row)
        self.rows_in_float32 = 0
        self._pays = True

    @property
    def _bytes_per_row(self) -> int:
        """What a row of a block takes: its similarities, and what selecting among them takes on top."""
        size = len(self.gallery)
        return 2 * size + 40 * int((self.num_candidates * size) ** 0.5)

    def nearest(self, rows: Tensor, lowest: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The ``k`` most similar rows of the gallery.

        Args:
            rows: ``(R, D)`` float32 rows of about unit length.
            lowest: ``(R,)`` float32, to be filled with the similarity of the least similar row of the gallery; None
                where nobody asks for it.

        Returns:
            ``(R, k)`` int64 row numbers of the gallery and inner products (float64 on a GPU, float32 on a CPU), the
            most similar first, equal ones in the order of their numbers.
        """
        halved = _halve(rows)
        return self._nearest(halved, lambda: self._products.of(halved.halves), lowest)

    def nearest_of(self, start: int, stop: int, lowest: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`nearest`, of the gallery's own rows from ``start`` to ``stop``."""
        halved = _Halved(*(part[start:stop] for part in self._own))
        return self._nearest(halved, lambda: self._products.of_own(start, stop), lowest)

    def _nearest(
        self, halved: "_Halved", multiply: Callable[[], Tensor], lowest: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        rows = halved.rows
        if not self._pays:  # neither will it for other rows of such a gallery
            candidates = torch.zeros(len(rows), self.num_candidates, dtype=torch.int64, device=rows.device)
            may_be = torch.ones_like(candidates, dtype=torch.bool)
            is_certain = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        else:
            candidates, may_be, is_certain = self._screen(halved, multiply(), lowest)
        failed = (~is_certain).nonzero().squeeze(1)
        for part in failed.split(max(1, len(rows) // 4)):  # as float32 takes more room
            similarities = rows[part] @ self.gallery.T
            candidates[part], may_be[part] = largest_in_rows(similarities, self.num_candidates)[0], True
            if lowest is not None:
                lowest[part] = similarities.amin(dim=1)
        self.rows_in_float32 += len(failed)
        self._pays = 2 * len(failed) <= len(rows)
        # Those that may be among the nearest come first in every row.
        most = int(may_be.sum(dim=1).max()) if len(rows) else self.k
        candidates, order = candidates[:, :most].sort(dim=1)
        similarities = self._compare(rows, candidates, may_be.gather(1, order))
        similarities, order = similarities.sort(dim=1, descending=True, stable=True)
        return candidates.gather(1, order[:, : self.k]), similarities[:, : self.k]

    def _screen(self, halved: "_Halved", products: Tensor, lowest: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The (R, C) candidates, which of them may be among the nearest, and (R,) whether no others may."""
        rows, _, lengths, lost = halved
        own, others = lengths + lost, self._longest + self._most_lost
        strays = lost * self._longest + own * self._most_lost + rows.shape[1] * 2**-22 * own * others
        candidates, rounded = largest_in_rows(products, self.num_candidates)
        may_be, is_certain = _told_apart(rounded, self.k, strays, len(self.gallery))
        if lowest is not None:
            count = min(FARTHEST_CANDIDATES, len(self.gallery))
            farthest, rounded = largest_in_rows(products.neg_(), count)
            may_be_lowest, is_lowest = _told_apart(rounded, 1, strays, len(self.gallery))
            farthest, order = farthest.sort(dim=1)
            similarities = self._compare(rows, farthest, may_be_lowest.gather(1, order), otherwise=torch.inf)
            lowest.copy_(similarities.amin(dim=1))
            is_certain &= is_lowest
        return candidates, may_be, is_certain

    def _compare(self, rows: Tensor, columns: Tensor, wanted: Tensor, otherwise: float = -torch.inf) -> Tensor:
        """(R, C) inner products with the gallery's rows of (R, C) ascending numbers; ``otherwise`` where not wanted."""
        dtype, products, size = rows.dtype, _products_at, max(1, len(rows))
        if rows.is_cuda:
            dtype, products = torch.float64, _products_in_float64
            # As much as a block of similarities takes, which is gone by now but where ``lowest`` is asked for. A part
            # copies its own rows and those of its candidates, or all of the gallery at most.
            room = rows_within(max(self._memory_budget, BYTES_OF_COPIES_ON_GPU), BYTES_TO_COPY * rows.shape[1])
            size = max(1, room // (1 + columns.shape[1]), room - len(self.gallery))
        similarities = torch.full(columns.shape, otherwise, dtype=dtype, device=rows.device)
        parts = zip(*(some.split(size) for some in (rows, columns, wanted)), strict=True)
        similarities[wanted] = torch.cat(
            [products(some, self.gallery, of_rows[which], which.sum(dim=1)) for some, of_rows, which in parts]
        )
        return similarities


class _Halved(NamedTuple):
    """(R, D) rows, the same in half precision, their (R,) lengths, and the lengths of what rounding took from them."""

    rows: Tensor
    halves: Tensor
    lengths: Tensor
    lost: Tensor


def _dtype_of_halves(rows: Tensor) -> torch.dtype:
    return torch.float16 if rows.is_cuda else torch.bfloat16


def _halve(rows: Tensor) -> _Halved:
    halves = rows.to(_dtype_of_halves(rows))
    size = rows_within(BYTES_OF_COPIES_ON_GPU if rows.is_cuda else BYTES_OF_COPIES_ON_CPU, 8 * rows.shape[1])
    parts = list(zip(rows.split(size), halves.split(size), strict=True))
    lost = torch.cat([torch.linalg.vector_norm(whole - half.float(), dim=1) for whole, half in parts])
    return _Halved(rows, halves, torch.linalg.vector_norm(rows, dim=1), lost)


def _told_apart(rounded: Tensor, k: int, strays: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Which of the largest (R, C) of ``size`` similarities may be of the ``k`` largest, and whether no others may.

    ``strays`` is how far the (R,) rows' similarities stray before they are rounded to halves.
    """
    half_ulp = torch.finfo(rounded.dtype).eps / 2
    rounded = rounded.float()
    kth = rounded[:, k - 1 : k]
    bound = strays.unsqueeze(1) + half_ulp * torch.maximum(kth.abs(), rounded.abs())
    may_be = rounded >= kth - 2 * SLACK * bound
    return may_be, ~may_be[:, -1] | (rounded.shape[1] == size)


def _products_at(rows: Tensor, gallery: Tensor, columns: Tensor, counts: Tensor) -> Tensor:
    """Inner products of every row with as many rows of the gallery as ``counts`` says, one after the other."""
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    wanted = sparse_rows(offsets, columns, rows.new_zeros(len(columns)), (len(rows), len(gallery)))
    # A batched product would copy the gallery's rows, which takes ten times as long.
    return torch.sparse.sampled_addmm(wanted, rows, gallery.T, beta=0.0).values()


def _products_in_float64(rows: Tensor, gallery: Tensor, columns: Tensor, counts: Tensor) -> Tensor:
    """The same in float64, to which no row of the gallery is copied twice."""
    is_used = torch.zeros(len(gallery), dtype=torch.bool, device=gallery.device)
    is_used[columns] = True
    places = is_used.cumsum(0) - 1
    return _products_at(rows.double(), gallery[is_used].double(), places[columns], counts)
