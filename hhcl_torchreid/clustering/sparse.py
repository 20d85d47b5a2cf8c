"""Sparse matrices of PyTorch, without what it says about them."""

import warnings

import torch
from torch import Tensor

__all__ = ["sparse_rows"]


def sparse_rows(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse CSR matrix of parts that fit together, which nobody checks.

    Args:
        offsets: ``(R + 1,)`` int64: where each row starts and ends.
        columns: ``(entries,)`` int64.
        values: ``(entries,)`` floating-point numbers.
        shape: R, and how many columns there are.
    """
    with warnings.catch_warnings():
        # PyTorch calls CSR a beta, and 2.11 tells of the checks that it leaves out those too who asked for that.
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support is in beta|invariant checks are)")
        return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)
