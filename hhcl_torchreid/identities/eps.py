"""The choice of eps: what the clustering finds at one value after the other, from one graph."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ..clustering import dbscan, jaccard_graph
from ..errors import InputError
from ..files import replacing
from .assignment import Identities, compare_with_centroids

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
    lead: float
    """How much more similar an image is to the centroid of its identity than to that of its runner-up, the mean over
    all images; an outlier, and an image of the only identity, counts 0. The higher, the better: small where most images
    are outliers, and where identities have grown into one another."""


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
        One line for each eps, in ascending order; the highest ``lead`` is a good choice where nothing else is known.

    Raises:
        InputError: no eps, one that is not between 0 and 1, or features that are not finite unit rows.
    """
    if not values or not all(0 < eps < 1 for eps in values):
        raise InputError(f"eps = {list(values)}: give numbers between 0 and 1")
    graph = jaccard_graph(features, k1, k2, max_distance=max(values))
    progress = tqdm(sorted(values), desc="cluster", unit="eps", disable=None, leave=False)
    return [_describe(eps, compare_with_centroids(features, dbscan(graph, eps, min_samples))) for eps in progress]


def _describe(eps: float, found: Identities) -> ClustersAtEps:
    leads = (found.similarity - found.runner_up_similarity).nan_to_num(0)
    return ClustersAtEps(
        eps,
        found.num_identities,
        found.num_outliers,
        found.num_outliers / len(found),
        found.largest,
        found.largest / len(found),
        float(leads.mean()),
    )


def table_of_clusters(lines: Sequence[ClustersAtEps]) -> str:
    """Lays out what :func:`clusters_by_eps` found as plain text."""
    head = f"{'eps':>6}{'identities':>12}{'outliers':>10}{'share':>8}{'largest':>10}{'share':>8}{'lead':>8}"
    return "\n".join(
        [head]
        + [
            f"{line.eps:>6.3g}{line.identities:>12}{line.outliers:>10}{line.outlier_share:>8.1%}"
            f"{line.largest:>10}{line.largest_share:>8.1%}{line.lead:>8.3f}"
            for line in lines
        ]
    )


def draw_clusters_by_eps(lines: Sequence[ClustersAtEps], path: str | Path) -> None:
    """Draws what :func:`clusters_by_eps` found against eps.

    Args:
        lines: from :func:`clusters_by_eps`.
        path: the picture; its suffix says of which kind.

    Raises:
        InputError: it cannot be written, or not as this kind of picture.
    """
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    eps = [line.eps for line in lines]
    top.plot(eps, [line.identities for line in lines], marker="o", markersize=3)
    top.set_ylabel("identities")
    top.set_ylim(bottom=0)
    middle.plot(eps, [line.outlier_share for line in lines], marker="o", markersize=3, label="outliers")
    middle.plot(eps, [line.largest_share for line in lines], marker="o", markersize=3, label="largest identity")
    middle.set_ylabel("share of all images")
    middle.set_ylim(-0.02, 1.02)
    middle.legend()
    bottom.plot(eps, [line.lead for line in lines], marker="o", markersize=3)
    bottom.set_ylabel("mean lead over runner-up")
    bottom.set_xlabel("eps")
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3)
    kind = Path(path).suffix[1:].lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise InputError(f"{path} is no kind of picture that can be written: give a name that ends in .png or .svg")
    with replacing(path, "wb", option="--plot") as file:
        figure.savefig(file, format=kind, dpi=110)
