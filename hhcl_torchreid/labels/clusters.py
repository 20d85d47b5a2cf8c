"""Pseudo labels by clustering: k-reciprocal Jaccard distances, then DBSCAN."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..clustering.dbscan import dbscan
from ..clustering.neighbors import BACKENDS, agree_on_copies, check_features, search
from ..clustering.reciprocal import graph_from_neighbors
from ..errors import InputError
from ..stopwatch import Stopwatch
from .base import Images, register_labeler
from .reliability import reliable_labels
from .tracks import ENOUGH_PAIRS, JOINED, Pieces, find_pieces, joined_share, label_pieces

__all__ = ["ClusteringStatistics", "Ground", "PseudoLabeler"]

logger = logging.getLogger(__name__)

TRACKS_REACHED = 5
"""Tracks that the k1 neighbours of an image reach over, if each is of as many images as are clustered."""
MOST_IMAGES = 200_000
"""Of many tracks fewer images are clustered, two at least, and fewer neighbours looked at, so that they fit in this."""
STEP, WIDEST_EPS = 0.05, 0.75
NEAR = 0.2
WIDEST = 0.9
"""Jaccard distances up to this one say which parts of a cluster belong together that tracks take apart."""


@dataclass(frozen=True)
class ClusteringStatistics:
    """What one clustering found, and what it took."""

    num_clusters: int
    num_outliers: int
    largest_cluster: int
    """Images in the largest cluster."""
    seconds: dict[str, float]
    """Wall-clock seconds of the main process: with tracks ``"tracks"``, then ``"neighbors"``, ``"graph"``, ``"dbscan"``
    and ``"parts"``, which gives all images of a track its label."""
    eps: float
    """What the clusters were made with: the middle one of three, and where tracks allow it, a wider one."""
    near_copies: float
    """Share of the images of which the nearest k1 / 4 are all within ``NEAR`` of the mean distance of two images, as
    the frames of a track are; 0 where tracks are known."""

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of all stages."""
        return sum(self.seconds.values())


class Ground(NamedTuple):
    """What the clustering of a moment stands on, whichever eps."""

    graph: Tensor | None
    """``(M, M)`` sparse CSR Jaccard distances between the images that are clustered; in the main process only."""
    pieces: Pieces | None
    """The tracks of all N images, where they are looked at."""
    chosen: np.ndarray | None
    """``(M,)`` int64, the images that are clustered; None for all."""
    near_copies: float
    """See :class:`ClusteringStatistics`."""

    def label_images(self, labels: Tensor) -> Tensor:
        """Gives ``(N,)`` labels of all images for ``(M,)`` of those that were clustered, both int64 on the CPU."""
        if self.pieces is None or self.chosen is None or self.graph is None:
            return labels
        return torch.from_numpy(label_pieces(self.pieces, self.chosen, labels.numpy(), self.graph))

    def joined(self, labels: Tensor) -> float:
        """The ``joined_share`` of ``(M,)`` labels of what was clustered; NaN where too little is known to say."""
        if self.pieces is None or self.chosen is None or len(self.pieces.apart) < ENOUGH_PAIRS:
            return float("nan")
        return joined_share(self.pieces, self.chosen, labels.numpy())


class PseudoLabeler:
    """Labels images by clustering their features: k-reciprocal Jaccard distances, then DBSCAN.

    In a run of several processes (:mod:`~hhcl_torchreid.distributed`) all of them call it, with the same features: each
    searches the neighbours of its own part of the images, the main process makes the labels, and all get them.

    Args:
        eps: DBSCAN's largest distance between neighbours, between 0 and 1; 0.45 suits Market-1501, 0.6 DukeMTMC-reID,
            0.7 MSMT17. Three values turn on SpCL's reliability test, see
            :func:`~hhcl_torchreid.labels.reliability.reliable_labels`: the middle one clusters, the tighter and the
            looser one vote.
        min_samples: images within eps, the image itself included, that make a core image.
        k1: nearest neighbours among which reciprocal ones are sought.
        k2: nearest neighbours whose encodings are averaged.
        knn: back end of the neighbour search, ``"auto"``, ``"faiss"`` or ``"torch"``.
        tracks: ``"auto"`` gives one label per track where tracks are known, with an eps as wide as they allow, see
            :meth:`__call__`; ``"fixed"`` with eps as it is; ``"off"`` looks at images alone.

    Attributes:
        statistics: :class:`ClusteringStatistics` of the latest call; None before the first.
        independence_limit: with three eps, the limit that the first call has found.

    Raises:
        InputError: eps is neither one nor three numbers between 0 and 1, or another setting is out of range.

    References:
        Hu, Zhu, He: Hard-sample Guided Hybrid Contrast Learning for Unsupervised Person Re-Identification, 2021,
        section 3.1.

    Example:
        >>> features = torch.nn.functional.normalize(torch.eye(2).repeat_interleave(8, dim=0), dim=1)
        >>> labeler = PseudoLabeler(eps=0.6)
        >>> labeler(features).tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
        >>> labeler.statistics.num_clusters
        2
    """

    def __init__(
        self,
        eps: float | Sequence[float] = 0.45,
        min_samples: int = 4,
        k1: int = 30,
        k2: int = 6,
        knn: str = "auto",
        tracks: str = "auto",
    ) -> None:
        self.eps = tuple(sorted(eps)) if isinstance(eps, Sequence) else (float(eps),)
        if len(self.eps) not in (1, 3) or not all(0 < value < 1 for value in self.eps):
            raise InputError(f"cluster.eps is {eps}: give one number between 0 and 1, both excluded, or three of them")
        for name, value in (("min_samples", min_samples), ("k1", k1), ("k2", k2)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"cluster.{name} is {value!r}: give a whole number, 1 or more")
        if knn not in BACKENDS:
            raise InputError(f"cluster.knn is {knn!r}: choose one of {', '.join(BACKENDS)}")
        if tracks not in ("auto", "fixed", "off"):
            raise InputError(f"cluster.tracks is {tracks!r}: choose auto, fixed or off")
        self.min_samples, self.k1, self.k2, self.knn, self.tracks = min_samples, k1, k2, knn, tracks
        self.statistics: ClusteringStatistics | None = None
        self.independence_limit: float | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides which images end up together; after a call that has widened eps, the wider one too."""
        settings: dict[str, Any] = {"eps": self.eps, "min_samples": self.min_samples, "k1": self.k1, "k2": self.k2}
        if self.tracks != "auto":
            settings["tracks"] = self.tracks
        if self.statistics and self.statistics.eps not in self.eps:
            settings["widened_eps"] = round(self.statistics.eps, 2)
        return settings

    @torch.no_grad()
    def __call__(self, features: Tensor, images: Images | None = None) -> Tensor:
        """Labels ``(N, D)`` unit rows.

        Where tracks are known, all images of a track get one label. The neighbours of an image are first of all those
        of its own track, its near-copies, so of every track a few images are clustered, spread over it: so many that
        the k1 neighbours reach over ``TRACKS_REACHED`` tracks. The cluster that most of them are in is the track's.
        Tracks that hold two people, and those that cannot be one, are what :mod:`~hhcl_torchreid.labels.tracks` says.

        Tracks seen together say how far eps may go: with ``tracks="auto"`` it is widened from the one given, by
        ``STEP`` up to ``WIDEST_EPS``, as long as there are ``ENOUGH_PAIRS`` of them, of which at most ``JOINED`` fall
        into one cluster before they are parted. ``statistics.eps`` says where it ended.

        Args:
            features: of the images.
            images: of the same number; only looked at for tracks.

        Returns:
            ``(N,)`` int64 labels on the features' device, clusters 0, 1, ...; -1 marks an outlier.

        Raises:
            InputError: the features are not finite unit rows, memory is too short, or no two tracks may be joined.
        """
        watch = Stopwatch(features.device)
        ground = self.prepare(features, images, watch)

        def label() -> tuple[Tensor, float, float]:
            labels, eps = self._scan(ground)
            watch.lap("dbscan")
            if ground.pieces is None:
                return labels, eps, ground.near_copies
            of_images = ground.label_images(labels)
            watch.lap("parts")
            return of_images, eps, ground.near_copies

        labels, eps, near_copies = distributed.from_main(label)
        labels = labels.to(features.device)
        sizes = torch.bincount(labels[labels >= 0])
        self.statistics = ClusteringStatistics(
            num_clusters=len(sizes),
            num_outliers=int((labels < 0).sum()),
            largest_cluster=int(sizes.max()) if len(sizes) else 0,
            seconds=watch.seconds,
            eps=eps,
            near_copies=near_copies,
        )
        seconds = ", ".join(f"{step} {taken:.2f} s" for step, taken in watch.seconds.items())
        logger.debug(f"Clustered {len(features)} images with eps {eps:g}: {seconds}")
        return labels

    @torch.no_grad()
    def prepare(self, features: Tensor, images: Images | None = None, watch: Stopwatch | None = None) -> "Ground":
        """Does all that does not depend on eps, but for that the graph reaches no farther than the largest.

        Args:
            features: as for :meth:`__call__`.
            images: likewise.
            watch: takes the laps.

        Raises:
            InputError: as :meth:`__call__` does.
        """
        watch = watch or Stopwatch(features.device)
        features, k1, k2, max_distance = check_features(features), self.k1, self.k2, self.eps[-1]
        pieces = chosen = None
        if self.tracks != "off" and images is not None and images.have_tracks:
            pieces = find_pieces(features, images)
            most = max(1, k1 // TRACKS_REACHED)
            of_each = min(most, max(2, MOST_IMAGES // len(pieces)))
            if of_each < most:
                k1, k2 = TRACKS_REACHED * of_each, max(1, round(k2 * of_each / most))
            chosen = pieces.thin(of_each)
            features, max_distance = features[torch.from_numpy(chosen).to(features.device)], max(max_distance, WIDEST)
            watch.lap("tracks")
        of_ranks = distributed.parts(len(features))
        found = search(features, k1, self.knn, rows=of_ranks[distributed.rank()])
        neighbors, similarities = (distributed.gather_rows(rows, of_ranks) for rows in found)
        neighbors = agree_on_copies(features, neighbors, similarities)
        watch.lap("neighbors")
        if not distributed.is_main():
            return Ground(None, pieces, chosen, 0.0)
        graph = graph_from_neighbors(features, neighbors, similarities, k2, max_distance=max_distance)
        watch.lap("graph")
        return Ground(graph, pieces, chosen, _near_copies(features, similarities) if pieces is None else 0.0)

    def _scan(self, ground: Ground) -> tuple[Tensor, float]:
        """Clusters what was chosen: (M,) labels on the CPU, and the eps that made them."""
        graph = cast(Tensor, ground.graph)
        if len(self.eps) == 3:
            tight, normal, loose = (dbscan(graph, eps, self.min_samples) for eps in self.eps)
            labels, self.independence_limit = reliable_labels(tight, normal, loose, self.independence_limit)
            return labels.cpu(), self.eps[1]
        labels, eps = dbscan(graph, self.eps[0], self.min_samples).cpu(), self.eps[0]
        while self.tracks == "auto" and ground.joined(labels) <= JOINED and eps + STEP <= WIDEST_EPS + 1e-9:
            wider = dbscan(graph, eps + STEP, self.min_samples).cpu()
            if ground.joined(wider) > JOINED:
                break
            labels, eps = wider, eps + STEP
        return labels, eps

    def state_dict(self) -> dict[str, Any]:
        """The limit of the reliability test, which the first epoch finds for all."""
        return {"independence_limit": self.independence_limit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the limit back.

        Raises:
            TypeError: it is no number.
        """
        limit = state.get("independence_limit")
        self.independence_limit = None if limit is None else float(limit)


def _near_copies(features: Tensor, similarities: Tensor) -> float:
    """The share of ``(N, k)`` similarities, the largest first, that stay within ``NEAR`` down to a quarter of them."""
    typical = 1 - features.float().mean(0).square().sum()
    return float((1 - similarities[:, similarities.shape[1] // 4] < NEAR * typical).float().mean())


register_labeler("clusters", lambda cfg: PseudoLabeler(**cfg.cluster))
