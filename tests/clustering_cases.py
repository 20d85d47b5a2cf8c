"""Inputs and slow, obvious re-computations that the clustering tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")),
]
GOLDEN = np.load(Path(__file__).parent / "golden" / "clustering.npz")


def unit_rows(num_rows, dimensions, seed=0, num_groups=None, spread=0.5):
    """Random unit rows, in ``num_groups`` groups where given."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_rows, dimensions, generator=generator)
    if num_groups:
        centers = torch.randn(num_groups, dimensions, generator=generator)
        rows = centers[torch.randint(num_groups, (num_rows,), generator=generator)] + spread * rows
    return torch.nn.functional.normalize(rows, dim=1)


def dense_graph(graph):
    """The distances of a sparse graph, with infinity where it stores nothing."""
    rows = torch.arange(graph.shape[0]).repeat_interleave(graph.crow_indices().diff().cpu()).numpy()
    dense = np.full(tuple(graph.shape), np.inf, dtype=np.float32)
    dense[rows, graph.col_indices().cpu().numpy()] = graph.values().cpu().numpy()
    return dense


def sparse_graph(distances, device="cpu", largest=np.inf):
    """The CSR graph of a dense matrix's entries up to ``largest``, explicit zeros included."""
    rows, columns = np.nonzero(distances <= largest)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(distances)))])
    return torch.sparse_csr_tensor(
        torch.from_numpy(offsets),
        torch.from_numpy(columns.copy()),
        torch.from_numpy(distances[rows, columns]),
        distances.shape,
        device=device,
        check_invariants=True,
    )


def jaccard_by_definition(features, neighbors, k1, k2):
    """METHOD.md's definition of the Jaccard distance, word by word, in float64."""
    features, neighbors = np.asarray(features, dtype=np.float64), np.asarray(neighbors)
    num_rows, num_columns = neighbors.shape

    def reciprocal(i, k):
        first = min(k + 1, num_columns)
        return {j for j in neighbors[i, :first] if i in neighbors[j, :first]}

    encoding = np.zeros((num_rows, num_rows))
    for i in range(num_rows):
        unexpanded = reciprocal(i, k1)
        expanded = set(unexpanded)
        for candidate in unexpanded:
            joining = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(joining & unexpanded) > 2 / 3 * len(joining):
                expanded |= joining
        members = sorted(expanded)
        weights = np.exp(-(2 - 2 * features[members] @ features[i]))
        encoding[i, members] = weights / weights.sum()
    if k2 > 1:
        encoding = np.stack([encoding[neighbors[i, :k2]].mean(axis=0) for i in range(num_rows)])
    overlaps = np.stack([np.minimum(row, encoding).sum(axis=1) for row in encoding])
    return np.maximum(1 - overlaps / (2 - overlaps), 0)
