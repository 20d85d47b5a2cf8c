"""The measure that tracks give: equal to a slow one, and higher for a model that tells people apart."""

import numpy as np
import pytest
import torch
from made_up_footage import Footage

from hhcl_torchreid.evaluation import track_separation


def slow_separation(features, sightings):
    """Track by track and pair by pair, in double precision."""
    tracks = {}
    for number, seen in enumerate(sightings):
        if seen.track:
            tracks.setdefault(seen[:2], []).append((seen.frame, number))
    halves, frames = {}, {}
    for track, members in tracks.items():
        members.sort()
        if len(members) >= 4:
            rows = [features[number] for _, number in members]
            parts = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            halves[track] = [np.mean(part, 0) / np.linalg.norm(np.mean(part, 0)) for part in parts]
            frames[track] = {frame for frame, _ in members}
    same = [first @ second for first, second in halves.values()]
    different = [
        halves[one][0] @ halves[other][1]
        for one in halves
        for other in halves
        if one != other and one[0] == other[0] and frames[one] & frames[other]
    ]
    return (np.mean(same) - np.mean(different)) / np.sqrt((np.var(same) + np.var(different)) / 2)


def test_it_equals_a_slow_measure():
    footage = Footage(people=9, together=3, frames=7)
    footage.sightings[:4] = [seen._replace(track="") for seen in footage.sightings[:4]]
    order = np.random.default_rng(0).permutation(len(footage.sightings))
    footage.sightings = [footage.sightings[row] for row in order]
    features = footage.features[torch.from_numpy(order)]
    expected = slow_separation(features.double().numpy(), footage.sightings)
    assert track_separation(features, footage.images) == pytest.approx(expected, rel=1e-4)


def test_a_model_that_tells_people_apart_is_higher():
    measured = [
        track_separation(footage.features, footage.images)
        for footage in (Footage(people=12, noise=noise) for noise in (3.0, 1.0, 0.3))
    ]
    assert measured == sorted(measured) and measured[0] < 0.6 * measured[2]


def test_where_few_are_seen_together_there_is_none():
    footage = Footage(people=3)
    assert track_separation(footage.features, footage.images) is None
