"""Work in blocks of rows that fit into memory, and in smaller ones where they do not."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import explain_out_of_memory, is_out_of_memory
from ..log import late_progress_bar

__all__ = ["ScratchTable", "default_budget", "map_blocks", "rows_within"]

Result = TypeVar("Result")
# Tables of four bytes a cell then have fewer cells than int32 counts, which some kernels do.
LARGEST_ON_GPU = 4 * torch.iinfo(torch.int32).max


def default_budget(device: torch.device, on_cpu: int) -> int:
    """Bytes that the intermediate results of a block may take: ``on_cpu``, or an eighth of a GPU's memory, up to 8 GiB.

    Of all its memory and not of what is free: blocks of another size would round otherwise, and runs would differ.
    """
    if device.type != "cuda":
        return on_cpu
    return min(torch.cuda.get_device_properties(device).total_memory // 8, LARGEST_ON_GPU)


def rows_within(memory_budget: int, bytes_per_row: int) -> int:
    """Rows of ``bytes_per_row`` bytes that ``memory_budget`` bytes hold; at least one."""
    return max(1, memory_budget // max(1, bytes_per_row))


def map_blocks(
    total: int,
    rows: int,
    work: Callable[[int, int], Result],
    task: str,
    threads: int = 1,
    is_long: bool = False,
) -> list[Result]:
    """Calls ``work(start, stop)`` over consecutive blocks of ``range(total)``.

    A block that runs out of memory is tried again at a quarter of its size.

    Args:
        total: number of rows.
        rows: rows in a block to begin with.
        work: called with the block's bounds; it must have no effect when it fails.
        task: what is being done, for the error message and the progress bar.
        threads: how many blocks are worked on at the same time.
        is_long: whether many rows take so long that their progress is to be shown.

    Returns:
        What ``work`` returned, in the order of the blocks.

    Raises:
        InputError: not even a block of a single row fits into memory.
    """
    bar = late_progress_bar(
        total=total, is_short=not is_long, desc=task.removeprefix("the "), unit="row", unit_scale=True
    )
    with bar as progress:
        results = []
        for start, stop, result in _in_order(total, rows, work, task, threads):
            results.append(result)
            progress.update(stop - start)
        return results


def _in_order(
    total: int, rows: int, work: Callable[[int, int], Result], task: str, threads: int
) -> Iterator[tuple[int, int, Result]]:
    """The bounds of each block and what the work gave for it, one after the other."""
    if threads == 1 or rows >= total:
        yield from _in_turn(0, total, rows, work, task)
        return
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, total, rows)
        blocks = pool.map(lambda start: list(_in_turn(start, min(start + rows, total), rows, work, task)), starts)
        for block in blocks:
            yield from block


def _in_turn(
    start: int, end: int, rows: int, work: Callable[[int, int], Result], task: str
) -> Iterator[tuple[int, int, Result]]:
    while start < end:
        stop = min(start + rows, end)
        try:
            result = work(start, stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if stop - start == 1:
                with explain_out_of_memory(f"{task}, even one row at a time"):
                    raise
            rows = max(1, (stop - start) // 4)
        else:
            yield start, stop, result
            start = stop


class ScratchTable:
    """A flat table that one block after another uses as a hash map, without being filled anew for each.

    Filling a table of (rows of a block) x N for every block would take N x N writes in all.

    Args:
        fill: what an unmarked cell holds.
        dtype: of the cells.
        device: where the table lives.
    """

    def __init__(self, fill: float, dtype: torch.dtype, device: torch.device) -> None:
        self._fill, self._dtype, self._device = fill, dtype, device
        self._table: Tensor | None = None

    @contextmanager
    def lend(self, size: int, keys: Tensor) -> Iterator[Tensor]:
        """Lends ``size`` unmarked cells to a block that marks no others than ``keys``."""
        table, self._table = self._table, None
        if table is None or len(table) < size:
            table = torch.full((size,), self._fill, dtype=self._dtype, device=self._device)
        yield table
        # Not after an exception: the block may be tried again, and its memory had better be free by then.
        table[keys] = self._fill
        self._table = table
