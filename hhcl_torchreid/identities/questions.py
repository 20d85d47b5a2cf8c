"""Which questions to ask people first: of two groups of images, whether they show one person.

Two identities may be one person, an outlier may be of the nearest identity, and a part of an identity may be somebody
else. An answer that says so moves every pair of images between the two groups, so that the questions worth most are
those with many pairs and a good chance. Images of one camera are alike whoever is on them, which is why clustering
mixes people of one camera and parts those of several: similarities are taken without what a camera's images have in
common.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import linkage
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..clustering.centroids import cluster_sums
from ..clustering.neighbors import check_features
from ..labels import Images
from ..labels.tracks import whole_tracks
from .assignment import OUTLIER, Identities
from .camera_looks import camera_looks, without_looks

__all__ = ["Question", "find_questions"]

MOST = 2000
"""Questions that are kept: more than anybody answers."""
NEAREST = 10
"""Other identities that each one is compared with."""
MOST_IMAGES = 100_000
"""Images of all parts together that are asked about: the page holds their numbers."""
LARGEST = 5000
"""Images, or tracks, of an identity that average linkage takes one by one: memory for it grows with their square."""
HEAPS = 2000
"""What the images, or tracks, of a larger identity are gathered to first."""
ROWS_AT_ONCE = 1024
Chance = Callable[[np.ndarray], np.ndarray]
"""From mean similarities of two groups to the chances that they show one person."""


class Question(NamedTuple):
    """Whose are these images: of ``own``, of ``other``, or of neither? Without images: are those two one person?"""

    images: tuple[int, ...]
    """Numbers of the images of a part of ``own``, the most typical one first, or of an outlier; else none."""
    own: int
    """-1 for an outlier."""
    other: int
    """-1 where there is no other identity."""
    similarity: float
    """Mean cosine similarity between the images of the two groups, without what the images of a camera have in common:
    about 0 for strangers, 1 for the same look."""
    worth: float
    """Pairs of images that the answer is expected to move."""


class _Tree(NamedTuple):
    """An identity as average linkage puts it together: nodes are its units, then its joins.

    A unit is a track, or an image without one, or in a very large identity several that are alike.
    """

    identity: int
    units: list[np.ndarray]
    """The images of each."""
    joins: np.ndarray
    """(U - 1, 2) int64, the two nodes of each join; the second one is asked about."""
    similarity: np.ndarray
    """(U - 1,) of the two nodes, the mean over the pairs of their units."""
    sizes: np.ndarray
    """(U - 1, 2) int64, the images of the two nodes."""

    def images(self, node: int) -> np.ndarray:
        """Those of a node."""
        found, waiting = [], [node]
        while waiting:
            here = waiting.pop()
            if here < len(self.units):
                found.append(self.units[here])
            else:
                waiting += self.joins[here - len(self.units)].tolist()
        return np.sort(np.concatenate(found))


@torch.no_grad()
def find_questions(features: Tensor, identities: Identities, images: Images) -> list[Question]:
    """Finds the questions whose answers are expected to put most pairs of images right.

    The parts of an identity are what average linkage joins, the last join first. Chances are the result's own: most of
    what it has joined is one person, and most of what it has kept apart is two, so that a logistic curve of the mean
    similarity, through the last join of each identity and the identities nearest to each, says how sure either is.

    Args:
        features: ``(N, D)`` unit rows.
        identities: of the same images.
        images: likewise.

    Returns:
        At most ``MOST`` questions, the one worth most first.
    """
    numbers, places = identities.numbered
    if not len(numbers):
        return []
    features, (cameras, of_images) = check_features(features).cpu(), images.cameras.unique(return_inverse=True)
    features = without_looks(features, camera_looks(features, of_images, places, len(cameras)), of_images)
    sums, counts = cluster_sums(features, places, len(numbers))
    means = sums / counts[:, None]
    pairs, similarity = _nearest_pairs(means)
    trees = _trees(features, identities, images)
    chance = _chance_of_one([tree.similarity[-1] for tree in trees], similarity)
    found = [
        *_merges(pairs, similarity, chance(similarity) * counts.numpy()[pairs].prod(1), numbers),
        *_homes(features, means, identities, chance),
        *_parts(features, means, numbers, trees, chance),
    ]
    return sorted(found, key=lambda question: -question.worth)[:MOST]


def _nearest_pairs(means: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) int64 places of identities near each other, the lower first, and (P,) mean similarities of images."""
    nearest = min(NEAREST, len(means) - 1)
    one, other = [], []
    for rows in torch.arange(len(means)).split(ROWS_AT_ONCE):
        similarities = means[rows] @ means.T
        similarities[torch.arange(len(rows)), rows] = -torch.inf
        other.append(similarities.topk(nearest).indices.flatten())
        one.append(rows.repeat_interleave(nearest))
    pairs = torch.stack([torch.cat(one), torch.cat(other)], dim=1).sort(dim=1).values.unique(dim=0)
    return pairs.numpy(), (means[pairs[:, 0]] * means[pairs[:, 1]]).sum(1).numpy()


def _trees(features: Tensor, identities: Identities, images: Images) -> list[_Tree]:
    """Those of the identities of several units."""
    numbers, places = (values.numpy() for values in identities.numbered)
    tracks = whole_tracks(images).of_images if images.have_tracks else np.arange(len(images))
    keys = np.where(places == OUTLIER, OUTLIER, places * (int(tracks.max()) + 1) + tracks)
    found, of_images = np.unique(keys, return_inverse=True)
    of_images = of_images.reshape(-1) - (found[0] == OUTLIER)
    order = np.argsort(of_images, kind="stable")[(places == OUTLIER).sum() :]
    sums, counts = cluster_sums(features, torch.from_numpy(of_images), int(of_images.max()) + 1)
    units = np.split(order, counts.cumsum(0)[:-1].numpy())
    identity = places[[unit[0] for unit in units]]
    typical = identities.similarity.nan_to_num(-1.0).numpy()
    trees = []
    for some in np.split(np.arange(len(units)), np.flatnonzero(np.diff(identity)) + 1):
        if len(some) > 1:
            means = sums[some] / counts[some, None]
            members = [units[unit] for unit in some]
            if len(some) > LARGEST:
                members, means = _heaps(members, means)
            best = np.argmax([typical[unit].max() for unit in members])
            trees.append(_tree(int(numbers[identity[some[0]]]), members, means.numpy(), int(best)))
    return trees


def _heaps(units: Sequence[np.ndarray], means: Tensor) -> tuple[list[np.ndarray], Tensor]:
    """Gathers units around some of them, spread evenly over all: the images and the mean of each heap."""
    seeds = torch.linspace(0, len(units) - 1, HEAPS).long()
    nearest = torch.cat([(rows @ means[seeds].T).argmax(1) for rows in means.split(ROWS_AT_ONCE)])
    nearest[seeds] = torch.arange(HEAPS)
    sums, counts = cluster_sums(means, nearest, HEAPS)
    order = nearest.argsort(stable=True).split(counts.tolist())
    return [np.concatenate([units[unit] for unit in heap.tolist()]) for heap in order], sums / counts[:, None]


def _tree(identity: int, units: list[np.ndarray], means: np.ndarray, typical: int) -> _Tree:
    """Joins units; the node that is asked about is the one without the most typical unit, or else the smaller one."""
    distances = np.clip(1 - means @ means.T, 0, None)[np.triu_indices(len(means), 1)]
    joined = linkage(distances, "average")
    joins, sizes = joined[:, :2].astype(np.int64), [len(unit) for unit in units]
    is_typical = [unit == typical for unit in range(len(units))]
    for join in joins:
        one, other = join.tolist()
        if (is_typical[other], sizes[other]) > (is_typical[one], sizes[one]):
            join[:] = other, one
        is_typical.append(is_typical[one] or is_typical[other])
        sizes.append(sizes[one] + sizes[other])
    return _Tree(identity, units, joins, 1 - joined[:, 2], np.array(sizes)[joins])


def _chance_of_one(together: Sequence[float], apart: np.ndarray) -> Chance:
    """Learns the chance from groups that the result has joined and others that it has kept apart."""
    if not len(together) or not len(apart):
        return lambda similarity: np.full(len(similarity), 0.5)
    seen = np.concatenate([together, apart])
    mean, deviation = seen.mean(), max(seen.std(), 1e-6)
    curve = LogisticRegression().fit((seen[:, None] - mean) / deviation, np.arange(len(seen)) < len(together))
    return lambda similarity: curve.predict_proba((np.reshape(similarity, (-1, 1)) - mean) / deviation)[:, 1]


def _merges(pairs: np.ndarray, similarity: np.ndarray, worth: np.ndarray, numbers: Tensor) -> list[Question]:
    order = (-worth).argsort(kind="stable")[:MOST]
    own, other = numbers.numpy()[pairs[order]].T.tolist() if len(order) else ([], [])
    return list(map(Question, [()] * len(order), own, other, similarity[order].tolist(), worth[order].tolist()))


def _homes(features: Tensor, means: Tensor, identities: Identities, chance: Chance) -> list[Question]:
    """Outliers, and the identity nearest to each."""
    numbers, places = identities.numbered
    rows = (places == OUTLIER).nonzero().squeeze(1)
    if not len(rows):
        return []
    home = torch.searchsorted(numbers, identities.runner_up[rows])
    similarity = (features[rows] * means[home]).sum(1).numpy()
    worth = chance(similarity) * torch.bincount(places[places != OUTLIER]).numpy()[home]
    return [
        Question((row,), OUTLIER, other, *values)
        for row, other, *values in zip(
            rows.tolist(), numbers[home].tolist(), similarity.tolist(), worth.tolist(), strict=True
        )
    ]


def _parts(features: Tensor, means: Tensor, numbers: Tensor, trees: Sequence[_Tree], chance: Chance) -> list[Question]:
    """Parts of identities, each with the identity that its images are most similar to beside its own."""
    if not trees:
        return []
    similarity = np.concatenate([tree.similarity for tree in trees])
    sizes = np.concatenate([tree.sizes for tree in trees])
    worth = (1 - chance(similarity)) * sizes.prod(1)
    tree_of = np.repeat(np.arange(len(trees)), [len(tree.joins) for tree in trees])
    join_of = np.concatenate([np.arange(len(tree.joins)) for tree in trees])
    centroids, found, left = F.normalize(means), [], MOST_IMAGES
    for place in (-worth).argsort(kind="stable")[:MOST].tolist():
        if sizes[place, 1] > left:
            continue
        left -= sizes[place, 1]
        tree = trees[tree_of[place]]
        rows = torch.from_numpy(tree.images(int(tree.joins[join_of[place], 1])))
        mean = features[rows].mean(0)
        nearest = (centroids @ mean).masked_fill(numbers == tree.identity, -torch.inf).argmax()
        other = int(numbers[nearest]) if len(numbers) > 1 else OUTLIER
        typical_first = rows[(features[rows] @ mean).argsort(descending=True, stable=True)]
        values = float(similarity[place]), float(worth[place])
        found.append(Question(tuple(typical_first.tolist()), tree.identity, other, *values))
    return found
