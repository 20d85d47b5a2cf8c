"""Which images meet in a batch: P clusters, K images each, from as many cameras as possible."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from ..errors import InputError

__all__ = ["BatchPlan", "CrossCameraBatchSampler", "check_batch_size"]

UNKNOWN_TRACK = -1
GOLDEN = (5**0.5 - 1) / 2  # its multiples, without their whole parts, spread evenly however many are taken


class BatchPlan(NamedTuple):
    """What the batches of an epoch are made of."""

    batch_size: int
    """Images in a batch, P * K, of all processes together."""
    num_instances: int
    """Images per identity, K."""
    iters: int
    """Batches in an epoch."""
    bn_groups: int
    """Parts of a batch that have batch-norm statistics of their own."""

    @property
    def group_size(self) -> int:
        """Images that stay together in one process, and share batch-norm statistics."""
        return self.batch_size // self.bn_groups


class CrossCameraBatchSampler(Sampler[list[int]]):
    """Yields the batches of one epoch: P clusters of ``num_instances`` images each, P * K = ``batch_size``.

    The clusters are shuffled; from each comes one random image, then K - 1 others from the *other* cameras of the
    cluster, with replacement where those have fewer than K images. A cluster seen by one camera gives K - 1 other
    images of that camera; a cluster of one image is skipped. When the clusters are used up they are shuffled again,
    and what does not fill a batch is dropped. With fewer than P usable clusters, a batch holds each of them once.

    The authors' code calls it RandomMultipleGallerySampler.

    Where tracks are known, an image's neighbours in its track are nearly its copies: a cluster then gives its first
    image and K - 1 others from different cameras, of each from different tracks, of each frames that are far apart, and
    the same ones again only when there are no others. Cameras and tracks follow in random order, those of the first
    image last.

    Args:
        labels (numpy.ndarray): (N,) int, the cluster of each image; -1 (outlier) never reaches a batch.
        cameras (numpy.ndarray): (N,) int, the camera of each image.
        batch_size (int): P * K, a multiple of ``num_instances``.
        num_instances (int): K.
        iters (int): number of batches.
        generator (numpy.random.Generator): source of all choices.
        tracks (numpy.ndarray, optional): (N,) int, the track of each image, -1 where it is not known.
        frames (numpy.ndarray, optional): (N,) int, its frame; -1: in the order of the images.

    Raises:
        InputError: ``batch_size`` is no multiple of ``num_instances``, or no cluster has two images.
    """

    def __init__(
        self,
        labels: np.ndarray,
        cameras: np.ndarray,
        batch_size: int = 256,
        num_instances: int = 16,
        iters: int = 200,
        generator: np.random.Generator | None = None,
        tracks: np.ndarray | None = None,
        frames: np.ndarray | None = None,
    ) -> None:
        check_batch_size(batch_size, num_instances)
        self.cameras = cameras
        self.tracks = np.full_like(labels, UNKNOWN_TRACK) if tracks is None else tracks
        self.frames = np.full_like(labels, 0) if frames is None else frames
        self.num_instances = num_instances
        self.iters = iters
        self.generator = generator or np.random.default_rng()
        members = (np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1))
        self.clusters = [images for images in members if len(images) > 1]
        if not self.clusters:
            raise InputError("no cluster has two images, so there is no batch to train on: raise cluster.eps")
        self.clusters_per_batch = min(batch_size // num_instances, len(self.clusters))

    def __len__(self) -> int:
        return self.iters

    def __iter__(self) -> Iterator[list[int]]:
        yielded = 0
        while yielded < self.iters:
            shuffled = self.generator.permutation(len(self.clusters))
            full_batches = len(shuffled) // self.clusters_per_batch
            for chosen in shuffled[: full_batches * self.clusters_per_batch].reshape(full_batches, -1):
                if yielded == self.iters:
                    return
                yield [image for cluster in chosen for image in self._draw_images(self.clusters[cluster])]
                yielded += 1

    def _draw_images(self, images: np.ndarray) -> list[int]:
        first = self.generator.choice(images)
        if self.tracks[first] != UNKNOWN_TRACK:
            return self._draw_along_tracks(first, images)
        others = images[self.cameras[images] != self.cameras[first]]
        if len(others) == 0:
            others = images[images != first]
        # The authors compare with K, not with the K - 1 images they need.
        too_few = len(others) < self.num_instances
        return [int(first), *self.generator.choice(others, self.num_instances - 1, replace=too_few).tolist()]

    def _draw_along_tracks(self, first: int, images: np.ndarray) -> list[int]:
        """The first image, then in turns one of each camera, in its turns of each track, there far from the last."""
        others = images[images != first]
        cameras, tracks = self.cameras[others], self.tracks[others]
        by_camera = self._shuffled_ranks(cameras, self.cameras[first])
        by_track = self._shuffled_ranks(tracks, self.tracks[first])
        position = _ranks_in_groups(tracks, self.frames[others])
        by_frame = _ranks_in_groups(tracks, (position * GOLDEN + self.generator.random()) % 1)
        # Ranks of a camera's images: first one of each of its tracks, then a second of each, ...
        turn = _ranks_in_groups(cameras, by_frame * (by_track.max() + 1) + by_track)
        chosen = others[np.argsort(turn * (by_camera.max() + 1) + by_camera, kind="stable")]
        return [int(first), *np.resize(chosen, self.num_instances - 1).tolist()]

    def _shuffled_ranks(self, groups: np.ndarray, last: int) -> np.ndarray:
        """Numbers groups 0, 1, ... in random order, the given one last, for each of their members."""
        names, group = np.unique(groups, return_inverse=True)
        order = self.generator.random(len(names))
        order[names == last] = 2
        return np.argsort(np.argsort(order))[group]


def _ranks_in_groups(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Numbers the members of each group 0, 1, ... by ascending key."""
    order = np.lexsort((keys, groups))
    begins = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    ranks = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    numbered = np.empty_like(ranks)
    numbered[order] = ranks
    return numbered


def check_batch_size(batch_size: int, num_instances: int) -> None:
    """Checks that a batch divides into identities.

    Raises:
        InputError: it does not.
    """
    if num_instances < 2 or batch_size < num_instances or batch_size % num_instances:
        raise InputError(
            f"train.batch_size ({batch_size}) must be a multiple of sampler.num_instances ({num_instances}, at least "
            "2): a batch holds that many images of each of its identities"
        )
