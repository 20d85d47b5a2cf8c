"""The largest values of long rows."""

import math

import torch
from torch import Tensor

__all__ = ["largest_in_rows"]


def largest_in_rows(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns and values of the ``k`` largest of every row.

    They lie in the ``k`` groups of columns with the largest maxima, which one pass over all values finds. Selecting
    groups, and then columns in them, takes two selections among few, where selecting among all takes many passes.
    """
    num_columns = similarities.shape[1]
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
