"""The choice of eps: what the clustering finds at one value after the other, from one graph."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor

from ..clustering import dbscan
from ..errors import InputError
from ..files import replacing
from ..labels import Images, PseudoLabeler
from ..labels.tracks import JOINED
from ..log import progress_bar
from .assignment import Identities, compare_with_centroids

__all__ = ["ClustersAtEps", "clusters_by_eps", "draw_clusters_by_eps", "recommend_eps", "table_of_clusters"]

COLLAPSED = 0.4


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
    joined: float = float("nan")
    """Of the pairs of tracks seen together, the share that would be one identity if they were not kept apart; NaN where
    there are too few to say."""


def clusters_by_eps(
    features: Tensor,
    values: Sequence[float],
    min_samples: int = 4,
    k1: int = 30,
    k2: int = 6,
    images: Images | None = None,
) -> list[ClustersAtEps]:
    """Clusters the same features at several eps; the graph of distances is made once, for the largest.

    Args:
        features: ``(N, D)`` floating-point unit rows.
        values: of eps, between 0 and 1.
        min_samples: as for :class:`~hhcl_torchreid.PseudoLabeler`.
        k1: likewise.
        k2: likewise.
        images: of the same number; where their tracks are known, labels are made per track.

    Returns:
        One line for each eps, in ascending order.

    Raises:
        InputError: no eps, one that is not between 0 and 1, or features that are not finite unit rows.

    See Also:
        :func:`recommend_eps`
    """
    if not values or not all(0 < eps < 1 for eps in values):
        raise InputError(f"eps = {list(values)}: give numbers between 0 and 1")
    ground = PseudoLabeler(max(values), min_samples, k1, k2).prepare(features, images)
    graph = cast(Tensor, ground.graph)
    lines = []
    for eps in progress_bar(sorted(values), desc="cluster", unit="eps", leave=False):
        labels = dbscan(graph, eps, min_samples).cpu()
        found = compare_with_centroids(features, ground.label_images(labels))
        lines.append(_describe(eps, found, ground.joined(labels)))
    return lines


def _describe(eps: float, found: Identities, joined: float) -> ClustersAtEps:
    leads = (found.similarity - found.runner_up_similarity).nan_to_num(0)
    return ClustersAtEps(
        eps,
        found.num_identities,
        found.num_outliers,
        found.num_outliers / len(found),
        found.largest,
        found.largest / len(found),
        float(leads.mean()),
        joined,
    )


def recommend_eps(lines: Sequence[ClustersAtEps]) -> tuple[float, str] | None:
    """Chooses an eps without labels.

    No eps counts at which one identity has more than ``COLLAPSED`` of all images: identities that have grown into one
    another are far from the few that are left, and lead. Where tracks are seen together, the largest eps is taken at
    which at most ``JOINED`` of those pairs fall into one cluster, before they are parted; they are people whom nobody
    could mistake for one, and what joins few of them joins few others. Else it is the eps with the highest lead.

    Args:
        lines: from :func:`clusters_by_eps`.

    Returns:
        The eps and the reason; None where none is any good.
    """
    good = [line for line in lines if line.lead > 0 and line.largest_share <= COLLAPSED]
    together = [line for line in good if line.joined <= JOINED]
    if together:
        return together[
            -1
        ].eps, f"the largest that takes at most {JOINED:.0%} of the tracks seen together for one person"
    if not good or good[0].joined == good[0].joined:
        return None
    return max(good, key=lambda line: line.lead).eps, "the highest lead"


def table_of_clusters(lines: Sequence[ClustersAtEps]) -> str:
    """Lays out what :func:`clusters_by_eps` found as plain text."""
    have_pairs = any(line.joined == line.joined for line in lines)
    head = f"{'eps':>6}{'identities':>12}{'outliers':>10}{'share':>8}{'largest':>10}{'share':>8}{'lead':>8}"
    rows = [head + f"{'joined':>8}" * have_pairs]
    for line in lines:
        rows.append(
            f"{line.eps:>6.3g}{line.identities:>12}{line.outliers:>10}{line.outlier_share:>8.1%}"
            f"{line.largest:>10}{line.largest_share:>8.1%}{line.lead:>8.3f}" + f"{line.joined:>8.1%}" * have_pairs
        )
    return "\n".join(rows)


def draw_clusters_by_eps(lines: Sequence[ClustersAtEps], path: str | Path) -> None:
    """Draws what :func:`clusters_by_eps` found against eps.

    Args:
        lines: from :func:`clusters_by_eps`.
        path: the picture; its suffix says of which kind.

    Raises:
        InputError: it cannot be written, or not as this kind of picture.
    """
    from matplotlib.figure import Figure  # takes a second, for which tools that draw nothing need not wait

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
