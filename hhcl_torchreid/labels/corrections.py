"""Labels that respect what people have said: who is one person, who is two, and what is nobody."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..clustering.centroids import cluster_sums
from ..data.corrections import Correction, latest, on_paths
from ..errors import InputError
from .base import UNKNOWN, Images, Labeler
from .tracks import without_gaps

__all__ = ["Answers", "CorrectedLabeler", "combine_answers", "correct_labels"]

NOBODY = 0
"""The person of images that show none: another than every other."""


@dataclass(frozen=True)
class Answers:
    """What all answers together say; a person is what ``same`` joins, directly or over others."""

    persons: dict[str, int]
    """Image -> person, 1, 2, ..., or ``NOBODY``."""
    apart: frozenset[tuple[int, int]]
    """Pairs of persons that are two: first the one on ``path``, who leaves where both are in one cluster."""
    names: dict[str, str]
    """Image -> name of its identity; a later name stands behind an earlier one."""
    rows: tuple[Correction, ...]
    """The answers themselves, those that no later one replaces."""
    digest: str
    """Another one whenever the answers are others."""

    def names_of(self, paths: Sequence[str], identities: Sequence[int]) -> dict[int, str]:
        """Gives the name of each identity that has one, from the images named; the latest of several names."""
        identity_of = dict(zip(paths, identities, strict=True))
        given = {identity_of.get(path, UNKNOWN): name for path, name in self.names.items()}
        return {number: name for number, name in given.items() if number != UNKNOWN and name}


def combine_answers(
    corrections: Sequence[Correction], names: Mapping[str, str], root: str | os.PathLike[str]
) -> Answers:
    """Puts answers together.

    Args:
        corrections: in the order in which they were given.
        names: path of each image relative to ``root`` -> what :class:`Images` calls it.
        root: the folder of the images.

    Raises:
        InputError: answers that cannot all be right, with their rows, or about images that are not there.
    """
    given = [
        answer._replace(path=names.get(answer.path, answer.path), other=names.get(answer.other, answer.other))
        for answer in latest(on_paths(corrections, names, root))
    ]
    links: dict[str, list[tuple[str, Correction]]] = {}
    for answer in given:
        links.setdefault(answer.path, [])
        if answer.other:
            links.setdefault(answer.other, [])
        if answer.answer == "same":
            links[answer.path].append((answer.other, answer))
            links[answer.other].append((answer.path, answer))
    nobody = {answer.path for answer in given if answer.answer == "nobody"}
    persons = dict.fromkeys(nobody, NOBODY)
    for image in links:
        if image not in persons:
            persons |= dict.fromkeys(_reached(image, links), 1 + max(persons.values(), default=NOBODY))
    apart = set()
    for answer in given:
        one, other = persons[answer.path], persons[answer.other or answer.path]
        if answer.answer == "different" and NOBODY not in (one, other):
            if one == other:
                raise _contradiction(answer, _reached(answer.path, links), answer.other)
            apart.add((one, other))
    called = {answer.path: answer.name for answer in given if answer.answer == "name"}
    rows = tuple(latest(corrections))
    text = repr([answer[:4] for answer in rows])
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return Answers(persons, frozenset(apart), called, rows, digest)


def _reached(image: str, links: Mapping[str, list[tuple[str, Correction]]]) -> dict[str, list[Correction]]:
    """Every image that ``same`` leads to, and the shortest chain of answers there."""
    chains: dict[str, list[Correction]] = {image: []}
    waiting = deque([image])
    while waiting:
        here = waiting.popleft()
        for there, answer in links[here]:
            if there not in chains:
                chains[there] = [*chains[here], answer]
                waiting.append(there)
    return chains


def _contradiction(answer: Correction, chains: Mapping[str, list[Correction]], other: str) -> InputError:
    rows = " and ".join(joining.row for joining in chains[other])
    return InputError(
        f"{answer.row} says that {answer.path!r} and {answer.other!r} show two people, and {rows} "
        "that they show one: take one of these answers back"
    )


def correct_labels(labels: Tensor, features: Tensor, images: Images, answers: Answers) -> Tensor:
    """Joins and parts clusters as the answers say, and leaves all others as they are.

    An answer about an image counts for its whole track, or where a track has several labels for its images of that
    label; answers that contradict each other within a track split it: each image goes with the one nearest in time
    that was asked about. In a cluster of two people who must stay apart, the one whom a row names first gets a label of
    its own, and every image of which nothing was said goes with those whom it is most similar to on the mean. Then the
    clusters that hold one person are joined, unless two people would come together: of those, only the images of that
    person move. Who is left alone becomes an outlier, unless it has a name.

    Args:
        labels: ``(N,)`` int64 clusters, -1 for outliers.
        features: ``(N, D)`` unit rows.
        images: of the same N images.
        answers: about any images.

    Returns:
        ``(N,)`` int64 labels 0, 1, ... without gaps on the CPU; -1 for outliers and nobody.
    """
    rows = np.array([row for row, path in enumerate(images.paths) if path in answers.persons], np.int64)
    if not len(rows):
        return labels.cpu()
    before = labels.cpu().numpy()
    groups = _Groups(answers.apart | {(NOBODY, person) for person in answers.persons.values() if person != NOBODY})
    persons = _persons_of_tracks(before, rows, images, answers, groups)
    found = np.where(persons == NOBODY, UNKNOWN, before)
    # What is never parted: a person, a track, an image alone.
    units = np.where(persons == UNKNOWN, _pieces_of(before, images) + persons.max() + 1, persons)
    apart = {(groups.first(one), groups.first(other)) for one, other in answers.apart}
    _part_clusters(found, persons, units, features, apart)
    _join_clusters(found, persons, groups)
    is_named = np.isin(persons, [persons[row] for row in rows if answers.names.get(images.paths[row])])
    sizes, sizes_before = (np.bincount(some + 1)[some + 1] for some in (found, before))
    was_alone = (before != UNKNOWN) & (sizes_before == 1)
    found[(sizes == 1) & ~is_named & ~was_alone] = UNKNOWN
    return torch.from_numpy(without_gaps(found))


class _Groups:
    """Numbers that are joined one by one, as far as no two of them must stay apart."""

    def __init__(self, apart: Iterable[tuple[int, int]]) -> None:
        self.joined_with: dict[int, int] = {}
        self.far: dict[int, set[int]] = {}
        for one, other in apart:
            self._keep_apart(one, other)

    def _keep_apart(self, one: int, other: int) -> None:
        self.far.setdefault(one, set()).add(other)
        self.far.setdefault(other, set()).add(one)

    def first(self, number: int) -> int:
        """The one that stands for all that are joined with it."""
        while number in self.joined_with:
            number = self.joined_with[number]
        return number

    def pairs(self) -> list[tuple[int, int]]:
        """Those that must stay apart, the lower first."""
        return sorted((one, other) for one, others in self.far.items() for other in others if one < other)

    def join(self, numbers: Iterable[int]) -> bool:
        """Makes them one; False, and nothing, where two of them must stay apart."""
        one, *others = sorted({self.first(number) for number in numbers})
        if any(second in self.far.get(first, ()) for first, second in combinations([one, *others], 2)):
            return False
        for other in others:
            self.joined_with[other] = one
            for far in self.far.pop(other, ()):
                self.far[far].discard(other)
                self._keep_apart(one, far)
        return True


def _pieces_of(labels: np.ndarray, images: Images) -> np.ndarray:
    """(N,) the images of a track that have one label have one number; an image without a track has its own."""
    tracks = images.tracks.numpy()
    of_tracks = tracks * (int(labels.max(initial=0)) + 2) + labels + 1
    keys = np.where(tracks == UNKNOWN, -1 - np.arange(len(labels)), of_tracks)
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _persons_of_tracks(
    labels: np.ndarray, rows: np.ndarray, images: Images, answers: Answers, groups: _Groups
) -> np.ndarray:
    """(N,) the person of each image that an answer counts for, else -1; joins those of one track in ``groups``."""
    pieces = _pieces_of(labels, images)
    persons = np.full(len(labels), UNKNOWN)
    persons[rows] = [answers.persons[images.paths[row]] for row in rows]
    order = np.lexsort((np.arange(len(labels)), images.frames.numpy(), pieces))
    of_answers = np.unique(pieces[rows])
    begins, ends = (np.searchsorted(pieces[order], of_answers, side) for side in ("left", "right"))
    for begin, end in zip(begins, ends, strict=True):
        piece = order[begin:end]
        asked = np.flatnonzero(persons[piece] != UNKNOWN)
        nearest = np.abs(np.arange(len(piece))[:, None] - asked).argmin(axis=1)
        is_one = groups.join(persons[piece[asked]].tolist())
        persons[piece] = persons[piece[asked[0]]] if is_one else persons[piece[asked[nearest]]]
    return np.array([groups.first(person) for person in persons.tolist()])


def _labels_of_persons(labels: np.ndarray, persons: np.ndarray) -> dict[int, dict[int, int]]:
    """Person -> label -> images of that person with it."""
    found: dict[int, dict[int, int]] = {}
    for row in np.flatnonzero(persons > NOBODY).tolist():
        counts = found.setdefault(int(persons[row]), {})
        counts[int(labels[row])] = counts.get(int(labels[row]), 0) + 1
    return found


def _part_clusters(
    labels: np.ndarray, persons: np.ndarray, units: np.ndarray, features: Tensor, apart: Iterable[tuple[int, int]]
) -> None:
    """Gives everybody who leaves a cluster a label, which the images most like them share."""
    of_persons = _labels_of_persons(labels, persons)
    leaving: dict[int, set[int]] = {}
    staying: dict[int, set[int]] = {}
    for one, other in apart:
        for label in of_persons.get(one, {}).keys() & of_persons.get(other, {}).keys() - {UNKNOWN}:
            leaving.setdefault(label, set()).add(one)
            staying.setdefault(label, set()).add(other)
    for label in sorted(leaving):
        stay = sorted(staying[label] - leaving[label])
        people = [*stay, *sorted(leaving[label])]
        rows = np.flatnonzero(labels == label)
        nearest = _most_similar(features[torch.from_numpy(rows).to(features.device)], units[rows], people)
        labels[rows] = labels.max() + 1 + np.maximum(nearest - max(len(stay) - 1, 0), 0)


def _most_similar(features: Tensor, units: np.ndarray, people: Sequence[int]) -> np.ndarray:
    """(N,) int64, which of the people, units themselves, the unit of each image is most similar to on the mean."""
    members, place = np.unique(units, return_inverse=True)
    sums, counts = cluster_sums(features, torch.from_numpy(place.reshape(-1)), len(members))
    means = sums / counts[:, None]
    known = np.searchsorted(members, people)
    nearest = (means @ means[torch.from_numpy(known).to(means.device)].T).argmax(1).cpu().numpy()
    nearest[known] = np.arange(len(people))
    return nearest[place.reshape(-1)]


def _join_clusters(labels: np.ndarray, persons: np.ndarray, groups: _Groups) -> None:
    """Gives each person one label, and all clusters that the person was in, as far as nobody else forbids it."""
    of_persons = _labels_of_persons(labels, persons)
    clusters = _Groups(
        (first, second)
        for one, other in groups.pairs()
        for first in of_persons.get(one, {}).keys() - {UNKNOWN}
        for second in of_persons.get(other, {}).keys() - {UNKNOWN}
    )
    new_label = int(labels.max()) + 1
    for person, counts in sorted(of_persons.items()):
        known = sorted(counts.keys() - {UNKNOWN}, key=lambda label: (-counts[label], label))
        for other in known[1:]:
            clusters.join((known[0], other))
        labels[persons == person] = known[0] if known else new_label
        new_label += not known
    standing = np.array([clusters.first(label) for label in range(new_label)], np.int64)
    labels[labels != UNKNOWN] = standing[labels[labels != UNKNOWN]]


class CorrectedLabeler:
    """Another labeler, whose labels are corrected by what people have said.

    Args:
        labeler: any.
        answers: about its images.

    Raises:
        InputError: nothing is said of the images, or a run goes on that began with other answers.
    """

    def __init__(self, labeler: Labeler, answers: Answers) -> None:
        self.labeler = labeler
        self.answers = answers

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the other labeler, and how many images are spoken of."""
        return {**self.labeler.settings, "corrected": len(self.answers.persons)}

    @property
    def statistics(self) -> Any:
        """What the other labeler says of its latest call, before the corrections."""
        return getattr(self.labeler, "statistics", None)

    def __call__(self, features: Tensor, images: Images | None = None) -> Tensor:
        """Labels ``(N, D)`` unit rows: ``(N,)`` int64 on the features' device."""
        if images is None:
            raise InputError("corrections name images by their paths: give the labeler the images too")
        labels = self.labeler(features, images)
        corrected = distributed.from_main(lambda: correct_labels(labels, features, images, self.answers))
        return corrected.to(features.device)

    def state_dict(self) -> dict[str, Any]:
        """That of the other labeler, and which answers there were."""
        return {**self.labeler.state_dict(), "corrections": self.answers.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it back."""
        if state.get("corrections", self.answers.digest) != self.answers.digest:
            raise InputError(
                "cluster.corrections has other answers than when the run began: put them back, or begin a new run from "
                "its weights with model.load_weights, in another data.save_dir"
            )
        self.labeler.load_state_dict(state)
