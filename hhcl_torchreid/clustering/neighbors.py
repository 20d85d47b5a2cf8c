"""Exact nearest neighbours of unit vectors, in blocks that respect a memory budget."""

import logging
import math
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, explain_out_of_memory, is_out_of_memory
from ..log import late_progress_bar
from .blocks import default_budget, map_blocks, rows_within
from .precision import in_float32
from .screening import HalfPrecisionScreen, has_matrix_units
from .selection import largest_in_rows

BlockSearch = Callable[[int, int], tuple[Tensor, Tensor]]

__all__ = ["BACKENDS", "check_features", "k_nearest_neighbors", "nearest", "rows_at_once", "search"]

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "faiss", "torch")
MANY = 512  # queries; to halve the gallery's precision takes as long as float32 products with some hundreds
MEMORY_BUDGET_ON_CPU = 256 << 20
MEMORY_BUDGET_ON_MATRIX_UNITS = 3 << 29  # half of the products of 37,000 images: each is then multiplied once
LARGEST_TILE = 1024  # stays in a processor's cache, and matrix products gain nothing from larger ones
COPY_TOLERANCE = 1e-4  # what rounding may take from the similarity of a row to its copy
NORM_TOLERANCE = 0.01  # half-precision features stray this far from length one


def k_nearest_neighbors(features: Tensor, k: int, backend: str = "auto", memory_budget: int | None = None) -> Tensor:
    """Finds the ``k`` nearest rows of every row, by Euclidean distance, itself first.

    The search is exact: every pair is compared. Equally near neighbours come in the order of their numbers. A row with
    ``k`` or more exact copies is given the lowest of them, so that all copies agree about their neighbours.

    Args:
        features: ``(N, D)`` floating-point rows of unit length, on any device.
        k: neighbours per row, the row itself included; at most N are given.
        backend: ``"faiss"``, ``"torch"`` or ``"auto"``, which takes the one that is faster on the features' device,
            and ``"torch"`` where there is no FAISS.
        memory_budget: bytes that blocks of similarities may take; None takes 256 MB, 1.6 GB where a CPU has matrix
            units, and an eighth of a GPU's memory.

    Returns:
        ``(N, min(k, N))`` int64 row numbers on the features' device, nearest first.

    Raises:
        InputError: features that are not finite unit rows, k below 1, an unknown backend, FAISS where there is none, or
            out of memory.

    Example:
        >>> rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), dim=1)
        >>> k_nearest_neighbors(rows, 2)
        tensor([[0, 2],
                [1, 2],
                [2, 0]])
    """
    return search(features, k, backend, memory_budget)[0]


def check_features(features: Tensor) -> Tensor:
    """Checks that ``features`` are ``(N, D)`` finite unit rows.

    Returns:
        The same rows, detached, contiguous, in float32.

    Raises:
        InputError: they are not.
    """
    if features.ndim != 2 or 0 in features.shape or not features.is_floating_point():
        raise InputError(
            f"Features must be a non-empty floating-point matrix (images x dimensions), not {features.dtype} of shape "
            f"{tuple(features.shape)}: stack one row per image"
        )
    features = features.detach().float().contiguous()
    norms = torch.linalg.vector_norm(features, dim=1)
    if not norms.isfinite().all():
        row = int((~norms.isfinite()).nonzero()[0])
        raise InputError(
            f"Row {row} of the features holds NaN or infinity: look for a diverged loss, a broken image or weights; "
            "lower the learning rate, remove the image or give other weights"
        )
    strays = (norms - 1).abs() > NORM_TOLERANCE
    if strays.any():
        row = int(strays.nonzero()[0])
        raise InputError(
            f"Row {row} of the features has length {float(norms[row]):.4g} where unit rows are needed: pass them "
            "through torch.nn.functional.normalize(features, dim=1), and drop rows that are all zero; where a model "
            "makes such rows, give other weights, or data.norm_mean and data.norm_std as in its training"
        )
    return features


@in_float32()
@explain_out_of_memory("the search")
def nearest(queries: Tensor, gallery: Tensor, k: int, memory_budget: int | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` most similar rows of a gallery for every query, by inner product; every pair is compared.

    Args:
        queries: ``(Q, D)`` float32 rows that :func:`check_features` has seen.
        gallery: ``(N, D)`` likewise, on the same device.
        k: rows wanted; at most N are given.
        memory_budget: bytes that blocks of similarities may take, see :func:`k_nearest_neighbors`.

    Returns:
        ``(Q, min(k, N))`` int64 row numbers and float32 inner products, the most similar first, equal ones in the order
        of their numbers.
    """
    k = min(k, len(gallery))
    memory_budget = memory_budget or _default_budget(gallery)
    is_screened = len(queries) >= MANY and has_matrix_units(gallery)
    if is_screened or gallery.is_cuda or not _has_faiss():
        if is_screened:
            rows, search_block = _screened(queries, gallery, k, memory_budget)
        else:
            rows = rows_at_once(gallery, k, memory_budget)
            search_block = partial(torch_block, queries, gallery, k, None)
        blocks = map_blocks(len(queries), rows, search_block, "the search", is_long=True) or [search_block(0, 0)]
        neighbors, similarities = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    else:
        neighbors, similarities = _search_tiles(gallery, 0, len(queries), k, memory_budget, queries=queries)
    neighbors, order = neighbors.sort(dim=1)
    similarities, order = similarities.gather(1, order).sort(dim=1, descending=True, stable=True)
    return neighbors.gather(1, order), similarities.float()


@in_float32()
@explain_out_of_memory("the neighbour search")
def search(
    features: Tensor,
    k: int,
    backend: str = "auto",
    memory_budget: int | None = None,
    lowest: Tensor | None = None,
    rows: slice | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`k_nearest_neighbors`, with the similarities, and for some of the rows if need be.

    Args:
        features: ``(N, D)`` floating-point rows of unit length.
        k: neighbours per row.
        backend: who searches.
        memory_budget: bytes that blocks of similarities may take, see :func:`k_nearest_neighbors`.
        lowest: ``(N,)`` float32 ones on the features' device, to be filled with every row's lowest similarity; not by
            FAISS on a GPU, which never shows it.
        rows: the rows whose neighbours are wanted, with start and stop; None for all.

    Returns:
        ``(N, min(k, N))`` int64 row numbers and float32 inner products, the most similar first; with ``rows``, of these
        only, and before :func:`agree_on_copies`, which needs those of all rows.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown neighbour search backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if memory_budget is not None and memory_budget < 1:
        raise InputError(
            f"memory_budget = {memory_budget} bytes hold nothing: give at least 1, or None for the default"
        )
    if k < 1:
        raise InputError(f"k = {k} neighbours cannot be searched for: ask for at least 1, the row itself")
    features = check_features(features)
    k = min(k, len(features))
    if memory_budget is None:
        memory_budget = _default_budget(features)
    if backend == "auto":
        is_torch = features.is_cuda or has_matrix_units(features) or not _has_faiss()
        backend = "torch" if is_torch else "faiss"
    first, last = (rows.start, rows.stop) if rows else (0, len(features))
    logger.debug(f"{backend} searches {k} neighbours of {last - first} of {tuple(features.shape)} on {features.device}")
    if backend == "faiss" and not features.is_cuda:
        neighbors, similarities = _search_tiles(features.cpu(), first, last, k, memory_budget, lowest)
    else:
        at_once, search_block = _block_search(
            features, k, backend, memory_budget, lowest, last - first == len(features)
        )
        blocks = map_blocks(
            last - first,
            at_once,
            lambda start, stop: search_block(first + start, first + stop),
            "the neighbour search",
            is_long=True,
        )
        # Of many processes and few images, some have no rows of their own.
        blocks = blocks or [search_block(first, last)]
        neighbors, similarities = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    neighbors, similarities = in_order(neighbors.to(features.device), similarities.to(features.device), first)
    similarities = similarities.float()
    return neighbors if rows else agree_on_copies(features, neighbors, similarities), similarities


def _block_search(
    features: Tensor, k: int, backend: str, memory_budget: int, lowest: Tensor | None, for_all: bool
) -> tuple[int, BlockSearch]:
    """How many rows to search for at once, and how."""
    rows = rows_at_once(features, k, memory_budget)
    if backend == "faiss":
        return rows, partial(_faiss_block, _gpu_resources(), features, k)
    if has_matrix_units(features):
        return _screened(features, features, k, memory_budget, lowest, for_all)
    return rows, partial(torch_block, features, features, k, lowest)


def _screened(
    queries: Tensor, gallery: Tensor, k: int, memory_budget: int, lowest: Tensor | None = None, for_all: bool = False
) -> tuple[int, BlockSearch]:
    screen = HalfPrecisionScreen(gallery, k, memory_budget, for_all)

    def search_block(start: int, stop: int) -> tuple[Tensor, Tensor]:
        of_block = None if lowest is None else lowest[start:stop]
        if queries is gallery:
            return screen.nearest_of(start, stop, of_block)
        return screen.nearest(queries[start:stop], of_block)

    return screen.rows_at_once, search_block


def rows_at_once(features: Tensor, k: int, memory_budget: int | None = None) -> int:
    """Rows whose similarities to all others, and what selecting the ``k`` largest takes on top, a budget holds."""
    memory_budget = memory_budget or _default_budget(features)
    return rows_within(memory_budget, 4 * len(features) + 40 * math.isqrt(k * len(features)))


def _default_budget(features: Tensor) -> int:
    on_cpu = MEMORY_BUDGET_ON_MATRIX_UNITS if has_matrix_units(features) else MEMORY_BUDGET_ON_CPU
    return default_budget(features.device, on_cpu)


def torch_block(
    queries: Tensor, gallery: Tensor, k: int, lowest: Tensor | None, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    similarities = queries[start:stop] @ gallery.T
    if lowest is not None:
        lowest[start:stop] = similarities.amin(dim=1)
    return largest_in_rows(similarities, k)


def _faiss_block(resources: Any, features: Tensor, k: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    faiss = _faiss()
    import_module("faiss.contrib.torch_utils")  # teaches FAISS to take CUDA tensors as they are
    with torch.cuda.device(features.device):  # FAISS works on the current one
        values, neighbors = faiss.knn_gpu(
            resources, features[start:stop], features, k, metric=faiss.METRIC_INNER_PRODUCT
        )
    return neighbors, values


def _search_tiles(
    features: Tensor,
    first: int,
    last: int,
    k: int,
    memory_budget: int,
    lowest: Tensor | None = None,
    queries: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Searches on the CPU for all rows with half of the products: a tile of similarities serves its rows and columns.

    FAISS's heaps keep the best of every row while tile after tile passes by. The neighbours of some rows, ``first`` to
    ``last``, are those that a search for all gives them. With ``queries``, it is their rows that are sought for.
    """
    faiss = _faiss()
    num_rows, rows = len(features), features if queries is None else queries
    is_symmetric = queries is None and last - first == num_rows
    similarities, neighbors = np.empty((last - first, k), np.float32), np.empty((last - first, k), np.int64)
    heaps = faiss.float_minheap_array_t()
    heaps.nh, heaps.k = last - first, k
    heaps.val, heaps.ids = faiss.swig_ptr(similarities), faiss.swig_ptr(neighbors)
    heaps.heapify()
    side, buffers = _tile_buffers(min(num_rows, LARGEST_TILE, math.isqrt(memory_budget // 8)))

    def offer(tile: Tensor, start: int, column_start: int) -> None:
        values = faiss.swig_ptr(tile.numpy())
        if lowest is not None:
            lowest[start : start + len(tile)].clamp_(max=tile.amin(dim=1))
        heaps.addn(tile.shape[1], values, column_start, start - first, tile.shape[0])

    parts = _even_parts(first, last, side)
    num_pairs = sum((stop - start) * (num_rows - (start if is_symmetric else 0)) for start, stop in parts)
    with late_progress_bar(total=num_pairs, desc="neighbour search", unit="pair", unit_scale=True) as progress:
        for number, (start, stop) in enumerate(parts):
            for column_start, column_stop in parts[number:] if is_symmetric else _even_parts(0, num_rows, side):
                block, columns = rows[start:stop], features[column_start:column_stop]
                tile = buffers[0, : len(block) * len(columns)].view(len(block), len(columns))
                torch.mm(block, columns.T, out=tile)
                offer(tile, start, column_start)
                if is_symmetric and column_start > start:
                    transposed = buffers[1, : tile.numel()].view(len(columns), len(block))
                    offer(transposed.copy_(tile.T), column_start, start)
                progress.update(tile.numel())
    heaps.reorder()
    return torch.from_numpy(neighbors), torch.from_numpy(similarities)


def _even_parts(first: int, last: int, side: int) -> list[tuple[int, int]]:
    """Bounds of parts of at most ``side`` rows, none much smaller: products of a few rows round in another way."""
    count = -(-(last - first) // side)
    bounds = [first + (last - first) * part // max(count, 1) for part in range(count + 1)]
    return list(pairwise(bounds))


def _tile_buffers(side: int) -> tuple[int, Tensor]:
    """Gives room for a square tile and its transpose, smaller ones where memory is short, and their side."""
    while side > 1:
        try:
            return side, torch.empty(2, side * side, dtype=torch.float32)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            side //= 2
    return 1, torch.empty(2, 1, dtype=torch.float32)


def _has_faiss() -> bool:
    try:
        import_module("faiss")
    except ImportError as error:
        _tell_of_no_faiss(str(error))
        return False
    return True


@cache
def _tell_of_no_faiss(reason: str) -> None:
    logger.warning(
        f"=> PyTorch searches neighbours in place of FAISS, which cannot be imported ({reason}); it is slower"
    )


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise InputError(
            f"FAISS cannot be imported ({error}): install faiss-cpu, or set the neighbour search backend "
            '(cluster.knn) to "torch"'
        ) from None


def _gpu_resources() -> Any:
    faiss = _faiss()
    if faiss.get_num_gpus() == 0:
        raise InputError('this FAISS sees no GPU: install faiss-gpu, or set the neighbour search backend to "torch"')
    return faiss.StandardGpuResources()


def in_order(neighbors: Tensor, similarities: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Sorts neighbours by similarity, and equals by row number, after putting every row first among its own.

    The rows are those from ``first`` on.
    """
    own = torch.arange(first, first + len(neighbors), device=neighbors.device).unsqueeze(1)
    is_own = neighbors == own
    # Copies may have pushed the row itself out; the last of them makes room.
    is_own[:, -1] |= ~is_own.any(dim=1)
    neighbors, order = torch.where(is_own, own, neighbors).sort(dim=1)
    similarities = similarities.masked_fill(is_own, torch.inf).gather(1, order)
    similarities, order = similarities.sort(dim=1, descending=True, stable=True)
    similarities[:, 0] = 1
    return neighbors.gather(1, order), similarities


@explain_out_of_memory("the neighbour search")
def agree_on_copies(features: Tensor, neighbors: Tensor, similarities: Tensor) -> Tensor:
    """Gives all copies of a row the same neighbours, the lowest of them, where there are more copies than neighbours.

    Which ones a search happens to find would leave no two copies reciprocal neighbours of each other.

    Args:
        features: ``(N, D)`` rows of unit length.
        neighbors: ``(N, k)`` int64 row numbers of a search for all rows; changed in place.
        similarities: ``(N, k)`` float32 inner products with them.

    Returns:
        ``neighbors``.
    """
    k = neighbors.shape[1]
    squares = torch.linalg.vector_norm(features, dim=1, dtype=torch.float32).square_()
    rows = (similarities[:, -1] >= squares - COPY_TOLERANCE).nonzero().squeeze(1)
    if k == 1 or len(rows) <= k:
        return neighbors
    copies = features[rows].unique(dim=0, return_inverse=True)[1]
    sizes = torch.bincount(copies)
    is_crowded = sizes[copies] > k
    rows_by_copy, starts = rows[copies.argsort(stable=True)], sizes.cumsum(0) - sizes
    rows, starts = rows[is_crowded].unsqueeze(1), starts[copies[is_crowded]].unsqueeze(1)
    lowest = rows_by_copy[starts + torch.arange(k, device=rows.device)]
    is_other = lowest != rows
    is_other[:, -1] &= ~is_other.all(dim=1)
    neighbors[rows.squeeze(1)] = torch.cat([rows, lowest[is_other].view(len(rows), k - 1)], dim=1)
    return neighbors
