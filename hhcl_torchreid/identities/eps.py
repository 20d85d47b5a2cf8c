"""The choice of eps: what the clustering finds at one value after the other, from one graph."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import writing
from ..clustering import dbscan, jaccard_graph
from ..errors import InputError

__all__ = ["ClustersAtEps", "clusters_by_eps", "draw_clusters_by_eps", "table_of_clusters"]


class ClustersAtEps(NamedTuple):
    """What DBSCAN finds at one eps."""

    eps: float
    identities: int
    outliers: int
    outlier_share: float
    """Of all images, 0 to 1."""
    largest: int
    """Images of the largest identity."""
    largest_share: float
    """Of all images, 0 to 1."""


def clusters_by_eps(
    features: Tensor, values: Sequence[float], min_samples: int = 4, k1: int = 30, k2: int = 6
) -> list[ClustersAtEps]:
    """Clusters the same features at several eps; the graph of distances is made once, for the largest.

    Args:
        features: ``(N, D)`` floating-point unit rows.
        values: of eps, between 0 and 1.
        min_samples: as for :class:`~hhcl_torchreid.PseudoLabeler`.
        k1: likewise.
        k2: likewise.

    Returns:
        One line for each eps, in ascending order.

    Raises:
        InputError: no eps, one that is not between 0 and 1, or features that are not finite unit rows.
    """
    if not values or not all(0 < eps < 1 for eps in values):
        raise InputError(f"eps = {list(values)}: give numbers between 0 and 1")
    graph = jaccard_graph(features, k1, k2, max_distance=max(values))
    progress = tqdm(sorted(values), desc="cluster", unit="eps", disable=None, leave=False)
    return [_describe(eps, dbscan(graph, eps, min_samples)) for eps in progress]


def _describe(eps: float, labels: Tensor) -> ClustersAtEps:
    sizes = torch.bincount(labels[labels >= 0])
    outliers, largest = int((labels < 0).sum()), int(sizes.max()) if len(sizes) else 0
    return ClustersAtEps(eps, len(sizes), outliers, outliers / len(labels), largest, largest / len(labels))


def table_of_clusters(lines: Sequence[ClustersAtEps]) -> str:
    """Lays out what :func:`clusters_by_eps` found as plain text."""
    head = f"{'eps':>6}{'identities':>12}{'outliers':>10}{'share':>8}{'largest':>10}{'share':>8}"
    return "\n".join(
        [head]
        + [
            f"{line.eps:>6.3g}{line.identities:>12}{line.outliers:>10}{line.outlier_share:>8.1%}"
            f"{line.largest:>10}{line.largest_share:>8.1%}"
            for line in lines
        ]
    )


def draw_clusters_by_eps(lines: Sequence[ClustersAtEps], path: str | Path) -> None:
    """Draws identities, and the shares of outliers and of the largest identity, against eps.

    Args:
        lines: from :func:`clusters_by_eps`.
        path: the picture; its suffix says of which kind.

    Raises:
        InputError: it cannot be written, or not as this kind of picture.
    """
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    eps = [line.eps for line in lines]
    top.plot(eps, [line.identities for line in lines], marker="o", markersize=3)
    top.set_ylabel("identities")
    top.set_ylim(bottom=0)
    bottom.plot(eps, [line.outlier_share for line in lines], marker="o", markersize=3, label="outliers")
    bottom.plot(eps, [line.largest_share for line in lines], marker="o", markersize=3, label="largest identity")
    bottom.set_ylabel("share of all images")
    bottom.set_ylim(-0.02, 1.02)
    bottom.set_xlabel("eps")
    bottom.legend()
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    try:
        with writing(path, option="--plot"):
            figure.savefig(path, dpi=110)
    except ValueError as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}: give a name that ends in .png or .svg") from None
