"""The largest values of long rows."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["largest_in_rows"]

# A core works on so many bytes of rows at a time, which stay in its caches, and on no fewer rows than that.
BYTES_AT_ONCE, FEWEST_AT_ONCE = 4 << 20, 8
LARGEST_NUMBER = 1 << 16  # of a group, which shares 32 bits with a value

Bits = NDArray[np.int16]


def largest_in_rows(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns and values of the ``k`` largest of every row, the largest first.

    They lie in the ``k`` groups of columns with the largest maxima, which one pass over all values finds. Selecting
    groups, and then columns in them, takes two selections among few, where selecting among all takes many passes.

    Args:
        similarities: ``(R, N)`` finite floating-point numbers.
        k: how many, at most N.

    Returns:
        ``(R, k)`` int64 columns, and their values in the dtype of ``similarities``.
    """
    num_columns = similarities.shape[1]
    if similarities.dtype == torch.bfloat16 and not similarities.is_cuda:
        # A core takes the maximum of a group much faster than it fetches one more candidate.
        width = max(1, math.isqrt(num_columns // (4 * k)))
        if num_columns // width <= LARGEST_NUMBER:
            return _largest_of_bf16(similarities, k, width)
    width = math.isqrt(num_columns // k)
    if width < 2:
        values, columns = similarities.topk(k, dim=1)
        return columns, values
    num_groups = num_columns // width
    # Column c is in group c % num_groups, so that maxima are taken over whole rows of groups at a time.
    maxima = similarities[:, : num_groups * width].unflatten(1, (width, num_groups)).amax(dim=1)
    groups = maxima.topk(k, dim=1, sorted=False).indices
    numbers = torch.arange(num_columns, device=similarities.device)
    left_over = numbers[num_groups * width :].expand(len(groups), -1)
    candidates = torch.cat([(groups.unsqueeze(2) + numbers[::num_groups][:width]).flatten(1), left_over], dim=1)
    values, places = similarities.gather(1, candidates).topk(k, dim=1)
    return candidates.gather(1, places), values


def _largest_of_bf16(similarities: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """The same on a CPU, with the few rows that fit into a core's cache at a time.

    A CPU compares whole numbers of 16 bits many times faster than bf16, and NumPy selects among whole numbers with the
    instructions that PyTorch's ``topk`` does not use.
    """
    bits = similarities.contiguous().view(torch.int16).numpy()
    at_once = max(FEWEST_AT_ONCE, BYTES_AT_ONCE // (2 * bits.shape[1]))
    parts = np.split(bits, range(at_once, len(bits), at_once))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = list(pool.map(lambda part: _largest_of_bits(part, k, width), parts))
    columns, values = (torch.from_numpy(np.concatenate(some)) for some in zip(*found, strict=True))
    return columns, values.view(torch.bfloat16)


def _largest_of_bits(bits: Bits, k: int, width: int, is_ordered: bool = False) -> tuple[NDArray[np.int64], Bits]:
    """Columns and bits of the ``k`` largest of every row, by groups of ``width`` columns.

    Bits of positive floating-point numbers have the order of whole numbers. Those of negative ones have the opposite
    order, and are turned over where they are among the largest.
    """
    num_rows, num_columns = bits.shape
    num_groups = num_columns // width
    maxima = bits[:, : num_groups * width].reshape(num_rows, width, num_groups).max(axis=1)
    largest, groups = _select(maxima, k)
    if not is_ordered and largest.min(initial=0) < 0:
        columns, largest = _largest_of_bits(_turn_negatives(bits), k, width, is_ordered=True)
        return columns, _turn_negatives(largest)
    num_grouped = num_groups * width
    candidates = np.empty((num_rows, k * width + num_columns - num_grouped), np.int64)
    members = candidates[:, : k * width].reshape(num_rows, k, width)
    np.add(groups[:, :, None], np.arange(0, num_grouped, num_groups), out=members)
    candidates[:, k * width :] = np.arange(num_grouped, num_columns)
    starts = np.arange(0, bits.size, num_columns)[:, None]
    largest, places = _select(bits.reshape(-1).take(candidates + starts), k)
    return np.take_along_axis(candidates, places, axis=1), largest


def _select(values: Bits, k: int) -> tuple[Bits, NDArray[np.int64]]:
    """The ``k`` largest of every row, the largest first, and their places."""
    keys = values.astype(np.int32)
    keys <<= 16
    keys |= np.arange(keys.shape[1], dtype=np.int32)
    first = keys.shape[1] - k
    keys.partition(first, axis=1)
    keys = np.sort(keys[:, first:], axis=1)[:, ::-1]
    return (keys >> 16).astype(np.int16), (keys & (LARGEST_NUMBER - 1)).astype(np.int64)


def _turn_negatives(bits: Bits) -> Bits:
    """Bits of floating-point numbers in the order of the numbers, and back."""
    return bits ^ ((bits >> 15) & np.int16(0x7FFF))
