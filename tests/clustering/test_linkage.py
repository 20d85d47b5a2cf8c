"""Average linkage with cannot-links, against the dense algorithm written down as it is defined."""

import numpy as np
import pytest
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from hhcl_torchreid.clustering.linkage import average_linkage


def slow_linkage(similarities, apart):
    """Joins the most similar pair of clusters that no pair of points forbids, while any is similar at all."""
    forbidden = {frozenset(pair) for pair in apart}
    clusters = [[point] for point in range(len(similarities))]
    while True:
        best, pair = 0.0, None
        for i, one in enumerate(clusters):
            for j in range(i):
                other = clusters[j]
                if any(frozenset((a, b)) in forbidden for a in one for b in other):
                    continue
                mean = np.mean([[similarities[a, b] for a in one] for b in other])
                if mean > best:
                    best, pair = mean, (i, j)
        if pair is None:
            break
        clusters[pair[1]] += clusters.pop(pair[0])
    labels = np.empty(len(similarities), int)
    for number, members in enumerate(sorted(clusters, key=min)):
        labels[members] = number
    return labels.tolist()


def random_graph(rng, size, share):
    weights = np.triu(rng.random((size, size)) * (rng.random((size, size)) < share), 1)
    return weights + weights.T


@pytest.mark.parametrize("seed", range(30))
def test_it_joins_what_the_definition_joins(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 22))
    similarities = random_graph(rng, size, rng.choice([0.1, 0.4, 1.0]))
    pairs = np.argwhere(np.triu(rng.random((size, size)) < rng.choice([0, 0.1, 0.4]), 1)).tolist()
    found = average_linkage(sparse.csr_matrix(similarities), map(tuple, pairs))
    assert found.tolist() == slow_linkage(similarities, pairs)
    assert all(found[one] != found[other] for one, other in pairs)


def test_without_cannot_links_it_is_scipys():
    rng = np.random.default_rng(0)
    similarities = random_graph(rng, 60, 0.15)
    distances = 1 - similarities
    np.fill_diagonal(distances, 0)
    expected = fcluster(linkage(squareform(distances), "average"), 1 - 1e-9, "distance")
    found = average_linkage(sparse.csr_matrix(similarities), [])
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))
