"""Inner products of rows in half precision, a block of rows at a time."""

import torch
from torch import Tensor

__all__ = ["PairProducts", "RowProducts"]

ROWS_TO_TRANSPOSE = 256


class RowProducts:
    """Products of rows with all rows of a gallery, whose partial sums stay in float32.

    Args:
        gallery (Tensor): (N, D) rows in half precision.
    """

    def __init__(self, gallery: Tensor) -> None:
        self._gallery = gallery
        self._room = gallery.new_empty(0)

    def of(self, rows: Tensor) -> Tensor:
        """The ``(R, N)`` products of ``(R, D)`` halves, to be used before the next ones are asked for."""
        return multiply(rows, self._gallery, self._room_for(len(rows)))

    def of_own(self, start: int, stop: int) -> Tensor:
        """The same of the gallery's rows from ``start`` to ``stop``."""
        return self.of(self._gallery[start:stop])

    def _room_for(self, num_rows: int) -> Tensor:
        """Room that all blocks share on a CPU, where pages of memory at their first use take as long as products."""
        shape = (num_rows, len(self._gallery))
        if self._gallery.is_cuda:
            return self._gallery.new_empty(shape)
        size = num_rows * len(self._gallery)
        if len(self._room) < size:
            self._room = self._gallery.new_empty(size)
        return self._room[:size].view(shape)


class PairProducts(RowProducts):
    """The same, with the gallery's own multiplied once for a row and a column. They are kept, half of all pairs."""

    ROWS = 1024  # multiplied at a time, and a good many to ask for

    def __init__(self, gallery: Tensor) -> None:
        super().__init__(gallery)
        self._parts: list[Tensor] = []

    @classmethod
    def bytes_of(cls, num_rows: int) -> int:
        """What the products of so many rows take when all of them have been asked for."""
        return num_rows * (num_rows + cls.ROWS)

    def of_own(self, start: int, stop: int) -> Tensor:
        """As of the plain products."""
        while len(self._parts) * self.ROWS < stop:
            rows = self._gallery[len(self._parts) * self.ROWS :]
            self._parts.append(multiply(rows[: self.ROWS], rows))
        products = self._room_for(stop - start)
        for number, part in enumerate(self._parts):
            first, end = number * self.ROWS, number * self.ROWS + len(part)
            if first < stop and start < end:
                own = slice(max(start, first), min(stop, end))
                products[own.start - start : own.stop - start, first:] = part[own.start - first : own.stop - first]
            if end < stop:
                later = slice(max(start, end), stop)
                _transpose(
                    part[:, later.start - first : later.stop - first], products[later.start - start :, first:end]
                )
        return products


def _transpose(products: Tensor, out: Tensor) -> None:
    """Copies a transpose, of so few rows at a time that a core's cache holds the columns that they become."""
    for rows, columns in zip(products.split(ROWS_TO_TRANSPOSE), out.split(ROWS_TO_TRANSPOSE, dim=1), strict=True):
        columns.copy_(rows.T)


def multiply(rows: Tensor, columns: Tensor, out: Tensor | None = None) -> Tensor:
    """The ``(R, N)`` inner products of ``(R, D)`` and ``(N, D)`` halves, into ``out`` where it is given."""
    switches = torch.backends.cuda.matmul
    before = switches.allow_fp16_reduced_precision_reduction
    switches.allow_fp16_reduced_precision_reduction = False
    try:
        return torch.mm(rows, columns.T, out=out)
    finally:
        switches.allow_fp16_reduced_precision_reduction = before
