"""The labels of one epoch: what stands around every labeler, whichever it is."""

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .base import Images, Labeler
from .cameras import UNLIKE_CAMERAS, camera_share

__all__ = ["EpochLabels", "label_epoch"]

logger = logging.getLogger(__name__)

MOSTLY = 0.5


class EpochLabels(NamedTuple):
    """What an epoch trains on."""

    labels: Tensor
    """(N,) int64 on the CPU; -1 marks an outlier."""
    found: Tensor
    """(N,) likewise, what the labeler found; another than ``labels`` where it found no two clusters."""
    sizes: dict[str, int]
    """``clusters``, ``outliers`` and ``largest_cluster`` of what was found."""


def label_epoch(
    labeler: Labeler, features: Tensor, images: Images, epoch: int, labels_before: Tensor | None
) -> EpochLabels:
    """Labels the images of an epoch; with those of the epoch before where no two clusters are found.

    Args:
        labeler: any.
        features: (N, D) unit rows.
        images: the N images.
        epoch: its number, from 1, for messages.
        labels_before: (N,) int64, what the epoch before has found; None where it had no two clusters either.

    Raises:
        InputError: no two clusters, and no labels of the epoch before.
    """
    found = labeler(features, images).cpu()
    counts = torch.bincount(found[found >= 0])
    sizes = {
        "clusters": len(counts),
        "outliers": int((found < 0).sum()),
        "largest_cluster": int(counts.max()) if len(counts) else 0,
    }
    logger.info(
        f"=> Epoch {epoch}: {sizes['clusters']} clusters, {sizes['outliers']} outliers of {len(found)} images, "
        f"largest cluster {sizes['largest_cluster']}"
    )
    if epoch == 1 and getattr(getattr(labeler, "statistics", None), "near_copies", 0.0) > MOSTLY:
        logger.warning(
            "=> Most images have near-copies for neighbours, as the frames of a track are: training on them as they "
            "are may harm. Give the tracks, by a table crops.csv in the folder or by data.track_regex, or keep fewer "
            "frames"
        )
    if len(counts) >= 2:
        if epoch == 1:
            _tell_of_cameras(features, images)
        return EpochLabels(found, found, sizes)
    what, advice = _explain(len(counts), labeler.settings)
    if labels_before is None:
        raise InputError(f"epoch {epoch} found {what} in {len(found)} images: {advice}")
    logger.warning(f"=> Epoch {epoch} found {what} and goes on with the labels of the epoch before: {advice}")
    return EpochLabels(labels_before, found, sizes)


def _tell_of_cameras(features: Tensor, images: Images) -> None:
    share = camera_share(features, images)
    if share >= UNLIKE_CAMERAS:
        logger.info(
            f"=> Cameras make {share:.0%} of the differences between features: where that is their light and not who "
            "passes them, train.camera_bn 8 labels better"
        )


def _explain(num_clusters: int, settings: Any) -> tuple[str, str]:
    what, directions = (
        ("no cluster", ("raise", "lower")) if num_clusters == 0 else ("a single cluster", ("lower", "raise"))
    )
    if {"eps", "min_samples"} <= settings.keys():
        eps, min_samples = settings["eps"], settings["min_samples"]
        return (
            what,
            f"{directions[0]} cluster.eps (now {eps}) or {directions[1]} cluster.min_samples (now {min_samples})",
        )
    return what, f"change the settings of the labeler (now {dict(settings)})"
