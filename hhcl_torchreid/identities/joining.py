"""New images into identities that were found before: who is near enough joins, and the rest are clustered."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clustering.centroids import cluster_members, cluster_sums
from ..clustering.neighbors import check_features
from ..errors import InputError
from ..features.saved import load_features
from ..files import as_in_tables
from ..labels import Images, Labeler
from ..labels.base import UNKNOWN as UNKNOWN_TRACK
from ..labels.tracks import none_can_join, whole_tracks, without_gaps
from ..log import late_progress_bar
from .assignment import OUTLIER
from .camera_looks import camera_looks, without_looks
from .crops import BY_CAMERA, Crops
from .numbers import UNKNOWN, Earlier, load_earlier

__all__ = ["JoinedTo", "JoiningLabeler", "JoiningRule", "Known", "find_rule", "load_known"]

STRANGERS_NEAR = 0.01
"""Of the old images whose identity is taken away, the share that another one may still be near enough to."""
HOME_LOST = 0.1
"""Of the old images, the share that may be too far from their own identity to find home."""
ASKED = 2000
"""Old images, or tracks, that the rule is learned from."""
ROWS_AT_ONCE = 256
FAR = -1.0
COMPANY = 30
"""Old images, the nearest to each new one, among which those that are left are clustered."""
SAME_IMAGE = 0.99
"""Cosine similarity of the features of a file that is as it was; a file with less holds another picture now."""
NEAR_COPIES = 3
"""By camera: a file is as it was if so many of the others, and ``SHARE_NEARER`` of them, at most are more like it."""
SHARE_NEARER = 0.02


class Known(NamedTuple):
    """Images with an identity."""

    features: Tensor
    """(M, D) float32 unit rows, identity after identity."""
    looks: Tensor
    """(K, D) float32, what the images of each camera have in common."""
    bare: Tensor
    """(M, D) float32 unit rows, the features without that."""
    counts: Tensor
    """(C,) int64, how many images each identity has."""
    units: Tensor
    """(M,) int64, the track of each image in its identity, or a number of its own."""
    numbers: Tensor
    """(C,) int64, the identities."""

    @classmethod
    def of(
        cls, features: Tensor, identity: np.ndarray, units: np.ndarray, cameras: np.ndarray, num_cameras: int
    ) -> "Known":
        """Sorts ``(N, D)`` features by their ``(N,)`` identities, and leaves outliers out.

        Args:
            features: unit rows.
            identity: int64, negative for outliers.
            units: int64, the tracks, or a number of its own for an image without one.
            cameras: int64 below ``num_cameras``.
            num_cameras: K; images may come from some that no image is of yet.
        """
        numbers, places = np.unique(identity[identity >= 0], return_inverse=True)
        labels = np.full(len(identity), OUTLIER)
        labels[identity >= 0] = places.reshape(-1)
        rows, counts = cluster_members(torch.from_numpy(labels), len(numbers))
        of_both = np.unique(units * (len(numbers) + 1) + labels, return_inverse=True)[1].reshape(-1)
        of_cameras, known = torch.from_numpy(cameras), features[rows.to(features.device)]
        looks = camera_looks(features, of_cameras, torch.from_numpy(labels), num_cameras)
        bare = without_looks(known, looks, of_cameras[rows])
        return cls(known, looks, bare, counts, torch.from_numpy(of_both)[rows], torch.from_numpy(numbers))

    def nearest(self, queries: Tensor, units: Tensor | None = None) -> Tensor:
        """Gives ``(B, C)`` float32 cosine similarities of queries to the nearest image of each identity.

        Args:
            queries: ``(B, D)`` unit rows without the looks of their cameras.
            units: ``(B,)`` int64 on the CPU; images of the same unit count as far away.
        """
        found = []
        batches = torch.arange(len(queries)).split(ROWS_AT_ONCE)
        for rows in late_progress_bar(batches, desc="compare with identities", unit="batch"):
            similarities = self.bare @ queries[rows.to(queries.device)].T
            if units is not None:
                similarities[(self.units[:, None] == units[rows]).to(queries.device)] = FAR
            found.append(torch.segment_reduce(similarities, "max", lengths=self.counts.to(queries.device), axis=0).T)
        return torch.cat(found)


class JoiningRule(NamedTuple):
    """When an image joins an identity."""

    near: float
    """Its cosine similarity to the nearest image of the identity is at least so much, and of no other identity."""

    def accepts(self, best_two: Tensor) -> Tensor:
        """(B,) bool for (B, 2) similarities."""
        return (best_two[:, 0] >= self.near) & (best_two[:, 1] < self.near)


@torch.no_grad()
def find_rule(known: Known) -> JoiningRule:
    """Learns from the old images when an image is near enough to an identity.

    Each is asked twice: with its identity there (but without itself and its track), and with its identity taken away,
    when it is a stranger. Near enough is what is nearer than all strangers but ``STRANGERS_NEAR``, and as near as all
    but ``HOME_LOST`` are to their own identity: clustering has made one identity of people who look alike, so that the
    strangers to learn from are easier ones than those that will come. All similarities are without what the images of a
    camera have in common, or a stranger would be near to those whom the same camera has seen.

    Args:
        known: at least two identities.
    """
    means, of_units = _means(known.bare, known.units)
    first = torch.full((len(means),), len(of_units)).scatter_reduce(0, of_units, torch.arange(len(of_units)), "amin")
    asked = torch.linspace(0, len(means) - 1, min(ASKED, len(means))).long()
    place = torch.repeat_interleave(torch.arange(len(known.counts)), known.counts)[first[asked], None]
    nearest = known.nearest(means[asked.to(means.device)], known.units[first[asked]]).cpu()
    at_home = nearest.gather(1, place).squeeze(1)
    others = nearest.scatter(1, place, FAR).amax(1)
    near = torch.quantile(others, 1 - STRANGERS_NEAR)
    has_home = at_home > FAR  # an identity of a single track has nothing to be compared with
    if has_home.any():
        near = torch.maximum(near, torch.quantile(at_home[has_home], HOME_LOST))
    return JoiningRule(float(near))


def _two(similarities: Tensor) -> Tensor:
    """(B, 2) the two largest of each row; where there is nobody else, the second is far away."""
    return F.pad(similarities, (0, 1), value=FAR).topk(2, dim=1).values


def _means(features: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """(U, D) unit rows, the mean of each unit, and (N,) int64 which of them each row is part of."""
    of_units = units.unique(return_inverse=True)[1]
    sums, _ = cluster_sums(features, of_units, int(of_units.max()) + 1)
    return F.normalize(sums), of_units


class JoinedTo(NamedTuple):
    """An earlier assignment, as new images join it."""

    earlier: Earlier
    known: Known
    """Its images that have an identity."""
    before: np.ndarray
    """(N,) int64, the identities that the N images of now had; -1 for outliers, -2 for new images and files that hold
    another picture now."""
    cameras: np.ndarray
    """(N,) int64, their cameras, places in the looks of the known ones."""


def load_known(folder: str | os.PathLike[str], crops: Crops, out: str | os.PathLike[str]) -> JoinedTo:
    """Reads the features and identities of an earlier assignment.

    Args:
        folder: of its results.
        crops: the images now, old and new.
        out: where the results will go.

    Raises:
        InputError: no results, or files that do not fit together; features of another model, no two identities, or
            ``out`` would lose the old images.
    """
    earlier = load_earlier(Path(folder))
    if earlier is None:
        raise InputError(f"{folder} holds no identities.csv: give the folder of an earlier assignment")
    saved = load_features(Path(folder, "features.npz"))
    ours, theirs = (model or "a model that is not named" for model in (crops.model, saved.model))
    is_other = crops.model and saved.model and crops.model != saved.model
    if is_other or crops.features.shape[1] != saved.features.shape[1]:
        raise InputError(
            f"the features in {folder} are of {theirs} ({saved.features.shape[1]} numbers an image), those of the "
            f"images of {ours} ({crops.features.shape[1]}): give --weights of the same model, or assign all anew"
        )
    if sorted(map(as_in_tables, saved.paths)) != sorted(earlier.identity):
        raise InputError(f"identities.csv and features.npz in {folder} are not of the same images: assign all anew")
    features = check_features(saved.features).to(crops.features.device)
    identity = earlier.of(saved.paths)
    row_of = {path: row for row, path in enumerate(saved.paths)}
    rows = np.array([row_of.get(path, -1) for path in crops.paths])
    is_old, by_camera = rows >= 0, crops.model.endswith(BY_CAMERA)
    is_old[is_old] = _is_as_it_was(features[torch.from_numpy(rows[is_old])], crops.features, is_old, by_camera)
    if by_camera:  # by the statistics of now, as those of new images are
        features[torch.from_numpy(rows[is_old])] = crops.features[torch.from_numpy(is_old)]
    before = np.where(is_old, identity[rows], UNKNOWN)
    if not is_old.any() and Path(folder).resolve() == Path(out).resolve():
        raise InputError(
            f"none of the images in {folder} are in {crops.root}, and these results would take their place: set --out "
            "to another folder"
        )
    units = len(crops.paths) + np.arange(len(saved.paths))
    units[rows[is_old]] = _units(crops.images)[is_old]
    if len(np.unique(identity[identity >= 0])) < 2:
        raise InputError(f"{folder} holds no two identities to tell apart: assign all images anew")
    then, now = earlier.cameras_of(saved.paths), np.array([as_in_tables(name) for name in crops.cameras], object)
    then[rows[is_old]] = now[is_old]
    names, cameras = np.unique(np.concatenate([then, now]), return_inverse=True)
    then, now = np.split(cameras.reshape(-1), [len(then)])
    return JoinedTo(earlier, Known.of(features, identity, units, then, len(names)), before, now)


def _is_as_it_was(then: Tensor, features: Tensor, is_old: np.ndarray, by_camera: bool) -> np.ndarray:
    """(M,) bool: whether files still hold the picture that (M, D) features were made of.

    Statistics of a camera, and with them the features, move with every image that comes. They leave a picture more like
    what it was than nearly all others are.
    """
    own = (then * features[torch.from_numpy(is_old)]).sum(1)
    if not by_camera:
        return (own >= SAME_IMAGE).cpu().numpy()
    others = features[torch.linspace(0, len(features) - 1, min(ASKED, len(features))).long()]
    parts = zip(then.split(ROWS_AT_ONCE), own.split(ROWS_AT_ONCE), strict=True)
    nearer = torch.cat([(rows @ others.T > best[:, None]).sum(1) for rows, best in parts])
    return (nearer <= NEAR_COPIES + SHARE_NEARER * len(others)).cpu().numpy()


def _units(images: Images) -> np.ndarray:
    return whole_tracks(images).of_images if images.have_tracks else np.arange(len(images))


def _part_simultaneous(identity: np.ndarray, apart: np.ndarray, strength: np.ndarray) -> None:
    """Of two tracks seen together that joined one identity, takes the one that is less like it out again."""
    one, other = apart.T
    for first, second in apart[(identity[one] == identity[other]) & (identity[one] >= 0)].tolist():
        weaker = first if strength[first] < strength[second] else second
        if identity[first] == identity[second] and np.isfinite(strength[weaker]):
            identity[weaker] = UNKNOWN


class JoiningLabeler:
    """Leaves old images in their identities, lets new ones join them, and clusters the rest.

    A new track is asked as one, by the mean of its features; one that old images belong to is theirs. Old outliers are
    clustered with the rest, so that they may belong to somebody new.

    Args:
        labeler: clusters the rest.
        joined_to: from :func:`load_known`, with the images that will be labelled.

    Attributes:
        earlier: the identities that were found before.
        rule: by which new images join.
        identities: (N,) int64, after a call: the identities that images had or joined; -1 or -2 for the others.
    """

    def __init__(self, labeler: Labeler, joined_to: JoinedTo) -> None:
        self.labeler = labeler
        self.earlier, self.known, self.before, self.cameras = joined_to
        self.rule = find_rule(self.known)
        self.identities = self.before

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the other labeler, and the rule."""
        return {**self.labeler.settings, "near": round(self.rule.near, 4)}

    @property
    def statistics(self) -> Any:
        """What the other labeler says of the rest."""
        return getattr(self.labeler, "statistics", None)

    @torch.no_grad()
    def __call__(self, features: Tensor, images: Images | None = None) -> Tensor:
        """Labels ``(N, D)`` unit rows: ``(N,)`` int64, clusters 0, 1, ...; -1 marks an outlier."""
        labels, units = self.before.copy(), _units(images) if images else np.arange(len(self.before))
        # A track goes on in the identity that it was in.
        is_old = labels >= 0
        of_units = np.full(units.max() + 1, UNKNOWN)
        of_units[units[is_old]] = labels[is_old]
        new = np.flatnonzero((labels == UNKNOWN) & (of_units[units] < 0))
        if len(new):
            cameras = torch.from_numpy(self.cameras[new])
            bare = without_looks(features[torch.from_numpy(new).to(features.device)], self.known.looks, cameras)
            means, _ = _means(bare, torch.from_numpy(units[new]))
            similarities = self.known.nearest(means).cpu()
            asked, best = np.unique(units[new]), _two(similarities)
            nearest = self.known.numbers[similarities.argmax(1)]
            of_units[asked] = torch.where(self.rule.accepts(best), nearest, UNKNOWN).numpy()
            if images is not None and images.have_tracks:
                strength = np.full(len(of_units), np.inf)
                strength[asked] = best[:, 0].numpy()
                _part_simultaneous(of_units, whole_tracks(images).apart, strength)
        labels[labels == UNKNOWN] = of_units[units[labels == UNKNOWN]]
        self.identities = labels.copy()
        rest = np.flatnonzero(labels < 0)
        found = self._label_rest(features, images, rest)
        labels[rest] = np.where(found >= 0, found + labels.max(initial=OUTLIER) + 1, OUTLIER)
        return torch.from_numpy(without_gaps(labels)).to(features.device)

    def state_dict(self) -> dict[str, Any]:
        """That of the other labeler."""
        return self.labeler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Gives it back."""
        self.labeler.load_state_dict(state)

    def _label_rest(self, features: Tensor, images: Images | None, rest: np.ndarray) -> np.ndarray:
        """(R,) labels of the images in no identity yet, clustered in the company of the old ones nearest to them."""
        if not len(rest):
            return rest
        features, some = features[torch.from_numpy(rest).to(features.device)], None
        if images is not None:
            some = images.part(torch.from_numpy(rest))
            if some.have_tracks and none_can_join(pieces := whole_tracks(some)):
                return np.where(some.tracks.numpy() == UNKNOWN_TRACK, OUTLIER, pieces.of_images)
        # Among few images all are neighbours of all: without company they would be one person.
        nearest = min(COMPANY, len(self.known.features))
        batches = late_progress_bar(features.split(ROWS_AT_ONCE), desc="compare with images", unit="batch")
        company = torch.cat(
            [(rows @ self.known.features.T).topk(nearest).indices.flatten() for rows in batches]
        ).unique()
        if some is not None:
            some = some.beside(len(company))
        labels = self.labeler(torch.cat([features, self.known.features[company]]), some).cpu().numpy()
        # Who is mostly among old images is somebody known whom the rule is not sure of, and nobody new.
        new, old = (np.bincount(part + 1, minlength=labels.max() + 2) for part in np.split(labels, [len(rest)]))
        return np.where((new >= old)[labels[: len(rest)] + 1], labels[: len(rest)], OUTLIER)
