"""Jaccard distances of k-reciprocal neighbourhoods as a sparse graph.

Every image is described by a sparse row of weights over its reciprocal neighbours, and two images are as far apart as
their rows fail to overlap. Rows that share no column are at distance 1, so that a graph of the pairs within a smaller
distance loses nothing that DBSCAN would see, and memory grows with N.

There are two implementations of the same encoding: whole-matrix operations on the device for a GPU, where nothing goes
to the host, and compiled sparse products for the CPU, several times faster there than the former.

References:
    Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
"""

import torch
from torch import Tensor

from ..errors import InputError, explain_out_of_memory
from . import jaccard_scipy, jaccard_torch
from .neighbors import check_features, search
from .precision import in_float32
from .sparse import sparse_rows

__all__ = ["graph_from_neighbors", "jaccard_graph"]


def jaccard_graph(
    features: Tensor, k1: int = 30, k2: int = 6, max_distance: float = 0.6, backend: str = "auto"
) -> Tensor:
    """Gives the Jaccard distances of k-reciprocal neighbourhoods, of every pair within ``max_distance``.

    Args:
        features: ``(N, D)`` floating-point rows of unit length, on any device.
        k1: nearest neighbours, the row itself included, among which reciprocal ones are sought.
        k2: nearest neighbours, the row itself included, over which encodings are averaged; 1 leaves them as they are.
        max_distance: the largest distance to keep, below 1; DBSCAN needs no more than its eps.
        backend: of the neighbour search, see :func:`~hhcl_torchreid.clustering.k_nearest_neighbors`.

    Returns:
        ``(N, N)`` sparse CSR float32 distances in [0, max_distance] on the features' device, symmetric, the zero
        diagonal included.

    Raises:
        InputError: features that are not finite unit rows, a k below 1, max_distance outside [0, 1), or out of memory.

    References:
        Zhong et al., CVPR 2017, sections 3.2 to 3.4, with unit features and the softmax of their distances as weights.

    Example:
        >>> rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=1)
        >>> jaccard_graph(rows, k1=2, k2=1).to_dense().shape
        torch.Size([3, 3])
    """
    neighbors, similarities = search(features, k1, backend)
    return graph_from_neighbors(features, neighbors, similarities, k2, max_distance)


@torch.no_grad()
@in_float32()
@explain_out_of_memory("the Jaccard graph")
def graph_from_neighbors(
    features: Tensor, neighbors: Tensor, similarities: Tensor, k2: int = 6, max_distance: float = 0.6
) -> Tensor:
    """As :func:`jaccard_graph`, from the ``(N, k1)`` neighbours and similarities that a search has found."""
    if not 0 <= max_distance < 1:
        raise InputError(
            f"max_distance = {max_distance} must be in [0, 1): all pairs without a common neighbour are at distance 1"
        )
    if k2 < 1:
        raise InputError(f"k2 = {k2} leaves nothing to average: use 1 to keep every encoding as it is")
    jaccard = jaccard_scipy if features.device.type == "cpu" else jaccard_torch
    k1 = neighbors.shape[1]
    # Halves round to the even number, as numpy's around does in the original.
    half = min(round(k1 / 2) + 1, k1)
    averaged = neighbors[:, :k2]
    encoding = jaccard.encode(check_features(features), neighbors, similarities, half, averaged, _softmax_weights)
    first, second, distances = jaccard.pairs_within(encoding, max_distance)
    return _symmetric_csr(first, second, distances, len(neighbors))


def _softmax_weights(similarities: Tensor, rows: Tensor) -> Tensor:
    """Terms of the softmax over negative squared distances between unit rows."""
    return torch.exp(2 * similarities - 2)


def _symmetric_csr(first: Tensor, second: Tensor, distances: Tensor, num_rows: int) -> Tensor:
    """Gives the sparse CSR matrix of pairs i < j, both ways, and a zero diagonal."""
    diagonal = torch.arange(num_rows, device=first.device)
    keys = torch.cat([first * num_rows + second, second * num_rows + first, diagonal * (num_rows + 1)])
    keys, order = keys.sort()
    values = torch.cat([distances, distances, distances.new_zeros(num_rows)])[order]
    rows, columns = keys // num_rows, keys % num_rows
    offsets = torch.cat([rows.new_zeros(1), torch.bincount(rows, minlength=num_rows).cumsum(0)])
    return sparse_rows(offsets, columns, values, (num_rows, num_rows))
