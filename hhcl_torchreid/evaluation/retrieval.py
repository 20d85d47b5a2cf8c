"""Finding query people again in a gallery: distances, ranking, CMC and mAP."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torchreid
from numpy.typing import NDArray
from torch import Tensor

from ..clustering import re_ranking
from .ranking import can_be_found, evaluate_rank

__all__ = ["Retrieval", "TestSet", "findable_targets", "retrieve"]

logger = logging.getLogger(__name__)


class TestSet(NamedTuple):
    """The images of a query or gallery set, on the CPU."""

    features: Tensor
    """(N, D) float32 unit rows."""
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]

    @classmethod
    def gather(cls, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> "TestSet":
        """Puts batches of features, identities and cameras together."""
        features, identities, cameras = zip(*batches, strict=True)
        return cls(torch.cat(features).cpu(), torch.cat(identities).numpy(), torch.cat(cameras).numpy())


class Retrieval(NamedTuple):
    """How well the queries were found."""

    distances: NDArray[np.float32]
    """(Q, G)."""
    results: dict[str, float]
    """``mAP``, ``Rank-1``, ... as fractions; rank 1 always, others as asked for and as the gallery has them."""


def retrieve(
    query: TestSet,
    gallery: TestSet,
    dist_metric: str = "euclidean",
    normalize_feature: bool = False,
    rerank: bool = False,
    use_metric_cuhk03: bool = False,
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> Retrieval:
    """Ranks the gallery for every query as ``torchreid.engine.Engine`` does, and measures the rankings.

    Args:
        query: the queries.
        gallery: where they are looked for; images of the query's person at the query's camera do not count.
        dist_metric: ``"euclidean"`` or ``"cosine"``.
        normalize_feature: bring the features to unit length first.
        rerank: re-rank by k-reciprocal neighbours, see :func:`~hhcl_torchreid.clustering.re_ranking`.
        use_metric_cuhk03: draw one gallery image per identity, as CUHK03's protocol does.
        ranks: of the CMC curve that are reported.
    """
    queries, others = query.features, gallery.features
    if normalize_feature:
        queries, others = (torch.nn.functional.normalize(features) for features in (queries, others))
    if rerank:
        logger.info("Applying person re-ranking ...")
        distances = re_ranking(queries, others).numpy()
    else:
        distances = torchreid.metrics.compute_distance_matrix(queries, others, dist_metric).numpy()
    cmc, mean_ap = evaluate_rank(
        distances,
        query.identities,
        gallery.identities,
        query.cameras,
        gallery.cameras,
        use_metric_cuhk03=use_metric_cuhk03,
    )
    shown = [rank for rank in sorted({1, *ranks}) if rank <= len(cmc)]
    return Retrieval(distances, {"mAP": float(mean_ap), **{f"Rank-{rank}": float(cmc[rank - 1]) for rank in shown}})


def findable_targets(test_loader: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The test sets that can be tested; of each other one it is said once why not.

    Args:
        test_loader: torchreid's, data set -> ``"query"`` and ``"gallery"`` -> loader.
    """
    findable = {}
    for name, loaders in test_loader.items():
        query, gallery = loaders["query"].dataset.data, loaders["gallery"].dataset.data
        if not len(query):
            continue
        columns = [np.array([record[1:3] for record in records]).reshape(-1, 2).T for records in (query, gallery)]
        (query_identities, query_cameras), (gallery_identities, gallery_cameras) = columns
        if can_be_found(query_identities, gallery_identities, query_cameras, gallery_cameras).any():
            findable[name] = loaders
        else:
            logger.warning(
                f"=> {name} cannot be tested: no query image has one of the same identity at another camera in the "
                "gallery, and images of its own camera do not count"
            )
    return findable
