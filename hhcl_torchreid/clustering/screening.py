"""Exact nearest neighbours at the speed of matrix units, which multiply numbers of half precision."""

import torch
from torch import Tensor

from .blocks import rows_within
from .selection import largest_in_rows

__all__ = ["HalfPrecisionScreen", "has_matrix_units"]

MORE_CANDIDATES = 16  # than neighbours: so many may be as near as the last of those, for all that halves can tell
SMALLEST_GALLERY = 16384  # below, comparing the candidates takes as long as float32 products of all
ROWS_AT_ONCE = 4096
BYTES_OF_PAIRS = 1 << 30  # that candidates' rows may take, beside a block of similarities
SLACK = 1.01  # for the rounding of the bound itself


def has_matrix_units(gallery: Tensor) -> bool:
    """Whether products of half-precision numbers are many times faster than others where the ``(N, D)`` rows are."""
    is_large = len(gallery) >= SMALLEST_GALLERY
    return is_large and gallery.is_cuda and torch.cuda.get_device_capability(gallery.device) >= (7, 0)


class HalfPrecisionScreen:
    """Finds the most similar rows of a gallery among candidates that products of halves choose, and loses none.

    Let a row a be rounded to â, and δ(a) be the length of what that took. The similarity of a and b then strays from
    that of their halves by at most δ(a) |b| + |â| δ(b) (Cauchy-Schwarz). Matrix units multiply halves exactly and add
    the D products in float32, cutting each sum off; D 2⁻²² |â| |b̂| bounds that twice over. The result's rounding to a
    half takes 2⁻¹¹ of it. With B the sum of the three, no column whose rounded similarity is more than 2 B below the
    k-th largest one can be among the k most similar. Of every row the k + 16 columns of the largest rounded
    similarities are taken; where the last of those is not below that limit, the candidates come from float32 products
    instead. All candidates are then compared by inner products in float64.

    Args:
        gallery (Tensor): (N, D) float32 rows of about unit length.
        k (int): rows wanted, at most N.

    Attributes:
        rows_in_float32 (int): how many rows needed float32 products so far.

    References:
        Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 2021, for
        exact products and sums that are cut off.
    """

    def __init__(self, gallery: Tensor, k: int) -> None:
        self.gallery, self.k = gallery, k
        self.num_candidates = min(k + MORE_CANDIDATES, len(gallery))
        self.halves, lengths, lost = _halve(gallery)
        self._longest, self._most_lost = lengths.max(), lost.max()
        self.rows_in_float32 = 0
        self._pays = True

    @property
    def bytes_per_row(self) -> int:
        """What a row of a block takes: its similarities, and what selecting among them takes on top."""
        size = len(self.gallery)
        return 2 * size + 40 * int((self.num_candidates * size) ** 0.5)

    def nearest(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The ``k`` most similar rows of the gallery.

        Args:
            rows: ``(R, D)`` float32 rows of about unit length.

        Returns:
            ``(R, k)`` int64 row numbers of the gallery and float64 inner products, the most similar first, equal ones
            in the order of their numbers.
        """
        columns, is_certain = self._screen(rows)
        failed = (~is_certain).nonzero().squeeze(1)
        for part in failed.split(max(1, len(rows) // 4)):  # as float32 takes more room
            columns[part] = largest_in_rows(rows[part] @ self.gallery.T, self.num_candidates)[0]
        self.rows_in_float32 += len(failed)
        self._pays = 2 * len(failed) <= len(rows)
        columns = columns.sort(dim=1).values
        similarities, order = self._exactly(rows, columns).sort(dim=1, descending=True, stable=True)
        return columns.gather(1, order[:, : self.k]), similarities[:, : self.k]

    def _screen(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The (R, k + 16) candidates, and whether they hold the nearest for certain."""
        if not self._pays:  # neither will it for other rows of such a gallery
            shape = (len(rows), self.num_candidates)
            nothing = torch.zeros(shape, dtype=torch.int64, device=rows.device)
            return nothing, torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        halves, lengths, lost = _halve(rows)
        columns, rounded = largest_in_rows(_product(halves, self.halves), self.num_candidates)
        rounded = rounded.float()
        kth, last = rounded[:, self.k - 1], rounded[:, -1]
        own, others = lengths + lost, self._longest + self._most_lost
        bound = lost * self._longest + own * self._most_lost
        bound += rows.shape[1] * 2**-22 * own * others
        bound += torch.finfo(halves.dtype).eps / 2 * torch.maximum(kth.abs(), last.abs())
        is_certain = last < kth - 2 * SLACK * bound
        return columns, is_certain | (self.num_candidates == len(self.gallery))

    def _exactly(self, rows: Tensor, columns: Tensor) -> Tensor:
        size = rows_within(BYTES_OF_PAIRS, 12 * rows.shape[1] * columns.shape[1])
        parts = [
            torch.bmm(self.gallery[of_rows].double(), some.double().unsqueeze(2)).squeeze(2)
            for some, of_rows in zip(rows.split(size), columns.split(size), strict=True)
        ]
        return torch.cat(parts)


def _halve(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows in half precision, their lengths, and the lengths of what rounding took from them."""
    halves = rows.to(torch.float16)
    parts = list(zip(rows.split(ROWS_AT_ONCE), halves.split(ROWS_AT_ONCE), strict=True))
    lost = torch.cat([torch.linalg.vector_norm(whole - half.float(), dim=1) for whole, half in parts])
    return halves, torch.linalg.vector_norm(rows, dim=1), lost


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """Inner products of halves, whose partial sums stay in float32."""
    switches = torch.backends.cuda.matmul
    before = switches.allow_fp16_reduced_precision_reduction
    switches.allow_fp16_reduced_precision_reduction = False
    try:
        return rows @ columns.T
    finally:
        switches.allow_fp16_reduced_precision_reduction = before
