"""DBSCAN on a sparse graph of distances, on the graph's device."""

import torch
from torch import Tensor

from ..errors import InputError, explain_out_of_memory

__all__ = ["dbscan"]


@explain_out_of_memory("DBSCAN")
def dbscan(graph: Tensor, eps: float = 0.6, min_samples: int = 4) -> Tensor:
    """Clusters a sparse graph of distances as scikit-learn's ``DBSCAN(metric="precomputed")`` does, number for number.

    Clusters are numbered by their lowest core point; a border point belongs to the lowest-numbered cluster that
    reaches it. Pairs that the graph does not store are farther apart than any ``eps``.

    Args:
        graph: ``(N, N)`` sparse CSR distances, symmetric, as :func:`~hhcl_torchreid.clustering.jaccard_graph` gives
            them; the diagonal may be stored or not.
        eps: the largest distance at which two points are neighbours, itself included.
        min_samples: neighbours, the point itself included, that make a core point.

    Returns:
        ``(N,)`` int64 labels on the graph's device; -1 marks an outlier.

    Raises:
        InputError: the graph is no square sparse CSR matrix, or eps or min_samples is not positive.

    References:
        Ester, Kriegel, Sander, Xu: A Density-Based Algorithm for Discovering Clusters, KDD 1996.

    Example:
        >>> distances = torch.tensor([[0.0, 0.2, 0.9], [0.2, 0.0, 0.9], [0.9, 0.9, 0.0]])
        >>> dbscan(distances.to_sparse_csr(), eps=0.5, min_samples=2)
        tensor([ 0,  0, -1])
    """
    if graph.layout != torch.sparse_csr or graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        raise InputError(
            f"DBSCAN needs a square sparse CSR matrix of distances, not {graph.layout} of shape {tuple(graph.shape)}: "
            "make one with jaccard_graph, or with Tensor.to_sparse_csr"
        )
    if not eps > 0 or min_samples < 1:
        raise InputError(f"eps = {eps} and min_samples = {min_samples} must both be positive")
    rows, columns = _edges_within(graph, eps)
    num_points = graph.shape[0]
    is_core = torch.bincount(rows, minlength=num_points) + 1 >= min_samples

    between_cores = is_core[rows] & is_core[columns]
    components = _lowest_of_component(rows[between_cores], columns[between_cores], num_points)
    is_first_core = is_core & (components == torch.arange(num_points, device=graph.device))
    cluster_of_first_core = is_first_core.cumsum(0) - 1
    no_cluster = num_points
    labels = torch.where(is_core, cluster_of_first_core[components], no_cluster)

    reaches_border = is_core[columns] & ~is_core[rows]
    labels.scatter_reduce_(0, rows[reaches_border], labels[columns[reaches_border]], "amin")
    return labels.masked_fill_(labels == no_cluster, -1)


def _edges_within(graph: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Gives the end points of every edge no longer than ``eps``, both ways, without loops."""
    distances, columns = graph.values(), graph.col_indices().long()
    lengths = graph.crow_indices().diff()
    rows = torch.arange(len(lengths), device=graph.device).repeat_interleave(lengths, output_size=len(columns))
    # The comparison must see the same eps as scikit-learn's, which compares in the type of the distances.
    within = distances <= torch.tensor(eps, dtype=distances.dtype, device=graph.device)
    kept = within & (rows != columns)
    return rows[kept], columns[kept]


def _lowest_of_component(rows: Tensor, columns: Tensor, num_points: int) -> Tensor:
    """Finds the lowest point of each point's connected component.

    Every round hooks the tree of a point to the lowest tree next to it and halves the height of the trees, so that
    even a chain takes a logarithmic number of rounds.

    References:
        Zhang, Azad, Hu: FastSV: A Distributed-Memory Connected Component Algorithm with Fast Convergence, 2020.
    """
    parents = torch.arange(num_points, device=rows.device)
    while True:
        grandparents = parents[parents]
        lowest_beside = grandparents[columns]
        hooked = grandparents.clone()
        hooked.scatter_reduce_(0, parents[rows], lowest_beside, "amin")
        hooked.scatter_reduce_(0, rows, lowest_beside, "amin")
        if torch.equal(hooked, parents):
            return parents
        parents = hooked
