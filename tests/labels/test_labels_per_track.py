"""Labels per track: one label each, never two simultaneous people in one, and what a tracker got wrong set right."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from made_up_footage import LENGTH, Footage
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.clustering import dbscan
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels.epoch import label_epoch
from hhcl_torchreid.labels.tracks import find_pieces, label_pieces


def slow_pairs(images, pieces):
    """Every two pieces that have an image in the same frame of the same camera."""
    found = set()
    for i, j in combinations(range(len(images)), 2):
        same = images.cameras[i] == images.cameras[j] and images.frames[i] == images.frames[j] >= 0
        if same and -1 not in (images.tracks[i], images.tracks[j]) and pieces[i] != pieces[j]:
            found.add(tuple(sorted((int(pieces[i]), int(pieces[j])))))
    return found


def test_the_images_of_a_track_get_one_label_and_people_are_found():
    footage = Footage()
    labels = PseudoLabeler(eps=0.6, k1=20)(footage.features, footage.images).numpy()
    assert len(set(zip(labels.tolist(), footage.people.tolist(), strict=True))) == len(set(labels)) == 6
    alone = PseudoLabeler(eps=0.6, k1=20, tracks="off")(footage.features, footage.images)
    assert len(set(alone.tolist())) > 6
    assert torch.equal(alone, PseudoLabeler(eps=0.6, k1=20)(footage.features))


def test_splitting_tracks_shows_how_far_it_is(bars):
    footage, shown = Footage(people=5, together=3), bars()
    find_pieces(footage.features, footage.images)
    assert "split tracks: " in shown.getvalue()


def test_tracks_without_frames_are_labelled_too():
    footage = Footage()
    footage.sightings = [seen._replace(frame=-1) for seen in footage.sightings]
    labels = PseudoLabeler(eps=0.6, k1=20)(footage.features, footage.images).numpy()
    assert len(set(zip(labels.tolist(), footage.people.tolist(), strict=True))) == len(set(labels)) == 6
    assert not len(find_pieces(footage.features, footage.images).apart)


def test_tracks_that_share_a_frame_are_what_a_slow_search_finds():
    footage = Footage(people=5, together=3)
    footage.sightings[3] = footage.sightings[3]._replace(track="")
    footage.sightings[40:44] = [seen._replace(frame=-1) for seen in footage.sightings[40:44]]
    images = footage.images
    pieces = find_pieces(footage.features, images)
    found = set(map(tuple, pieces.apart.tolist()))
    assert found == slow_pairs(images, pieces.of_images)
    assert len(pieces) == 16  # an image without a track is a piece by itself


@pytest.mark.parametrize("most", [1, 3, 5, 50])
def test_a_thinned_track_is_spread_over_its_frames(most):
    footage = Footage(people=4)
    shuffled = np.random.default_rng(1).permutation(len(footage.people))
    footage.sightings = [footage.sightings[row] for row in shuffled]
    images = footage.images
    pieces = find_pieces(footage.features[torch.from_numpy(shuffled)], images)
    chosen = pieces.thin(most)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    for piece in range(len(pieces)):
        frames = np.sort(images.frames[pieces.of_images == piece].numpy())
        kept = np.sort(images.frames[chosen[pieces.of_images[chosen] == piece]].numpy())
        size = min(most, len(frames))
        assert kept.tolist() == [frames[int((turn + 0.5) * len(frames) / size)] for turn in range(size)]


def test_a_track_of_two_people_is_split_where_they_change():
    footage = Footage(people=12)
    footage.rename("3", "2", when=lambda frame: frame >= 106)
    footage.sightings = [
        seen._replace(track="lost") if seen.track == "2" and 100 <= seen.frame < 106 and person == 3 else seen
        for seen, person in zip(footage.sightings, footage.people, strict=True)
    ]
    keep = [row for row, (seen, who) in enumerate(zip(footage.sightings, footage.people, strict=True))
            if not (seen.track == "2" and (who == 2) == (seen.frame >= 106))]  # fmt: skip
    footage.sightings, footage.people = [footage.sightings[row] for row in keep], footage.people[keep]
    features = footage.features[keep]
    pieces = find_pieces(features, footage.images)
    mixed = [seen.track == "2" for seen in footage.sightings]
    of_person = Counter(zip(pieces.of_images[mixed].tolist(), footage.people[mixed].tolist(), strict=True))
    assert len(of_person) == 6 and set(of_person.values()) == {6}
    whole = len({(seen.camera, seen.track) for seen in footage.sightings})
    assert len(pieces) == whole + 3


def test_few_tracks_seen_together_say_nothing_of_strangers():
    footage = Footage(people=2, cameras=3)
    assert len(find_pieces(footage.features, footage.images)) == 6


def test_two_boxes_around_one_person_are_no_two_people():
    footage = Footage(people=4, together=4, cameras=2)
    boxes = {
        0: (0.0, 0.0, 10.0, 20.0),
        1: (1.0, 1.0, 10.0, 20.0),
        2: (8.0, 0.0, 10.0, 20.0),
        3: (50.0, 0.0, 10.0, 20.0),
    }
    footage.sightings = [
        seen._replace(box=boxes[who]) for seen, who in zip(footage.sightings, footage.people, strict=True)
    ]
    pieces = find_pieces(footage.features, footage.images)
    assert sorted(map(tuple, pieces.apart.tolist())) == [
        pair for first in (0, 4) for pair in combinations(range(first, first + 4), 2) if pair != (first, first + 1)
    ]


def slow_vote(pieces, chosen, labels):
    """The most frequent label of each piece's chosen images that are no outliers; of several, the lowest."""
    voted = []
    for piece in range(len(pieces)):
        votes = Counter(label for row, label in zip(chosen, labels, strict=True)
                        if pieces.of_images[row] == piece and label >= 0)  # fmt: skip
        voted.append(min(votes, key=lambda label: (-votes[label], label)) if votes else -1)
    return voted


@pytest.mark.parametrize("seed", range(10))
def test_a_piece_gets_the_label_of_most_and_no_two_people_share_one(seed):
    rng = np.random.default_rng(seed)
    footage = Footage(seed, people=8, together=3, cameras=2)
    pieces = find_pieces(footage.features, footage.images)
    chosen = pieces.thin(4)
    labels = rng.integers(-1, 5, len(chosen))
    graph = torch.from_numpy(1 - rng.random((len(chosen), len(chosen)), np.float32)).to_sparse_csr()
    found = label_pieces(pieces, chosen, labels, graph)
    of_pieces = [int(found[pieces.of_images == piece][0]) for piece in range(len(pieces))]
    assert all((found[pieces.of_images == piece] == of_pieces[piece]).all() for piece in range(len(pieces)))
    assert all(of_pieces[one] != of_pieces[other] or of_pieces[one] < 0 for one, other in pieces.apart)
    assert set(found) - {-1} == set(range(found.max() + 1))
    voted = slow_vote(pieces, chosen.tolist(), labels.tolist())
    broken = {voted[one] for one, other in pieces.apart if voted[one] == voted[other]}
    for one, other in combinations(range(len(pieces)), 2):
        if voted[one] != voted[other] or voted[one] == -1:
            assert of_pieces[one] != of_pieces[other] or of_pieces[one] == voted[one] == -1
        elif voted[one] not in broken:
            assert of_pieces[one] == of_pieces[other]


def test_the_label_is_never_broken_by_looking_alike():
    footage = Footage(people=6, together=6, own=0.05)
    footage.features = normalize(footage.features + 3 * footage.features.mean(0), dim=1)  # all alike
    images = footage.images
    labels = PseudoLabeler(eps=0.9, k1=20)(footage.features, images).numpy()
    pieces = find_pieces(footage.features, images).of_images
    for one, other in slow_pairs(images, pieces):
        assert labels[pieces == one][0] != labels[pieces == other][0] or labels[pieces == one][0] == -1


def test_eps_is_widened_as_far_as_tracks_seen_together_allow():
    footage = Footage(people=12, cameras=4, together=4, own=0.9, noise=0.3)
    labelers = {eps: PseudoLabeler(eps, k1=20, tracks="fixed") for eps in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)}
    joined = {}
    for eps, labeler in labelers.items():
        ground = labeler.prepare(footage.features, footage.images)
        joined[eps] = ground.joined(dbscan(ground.graph, eps, 4))
    expected = 0.5
    for eps in list(labelers)[1:]:
        if joined[0.5] > 0.2 or joined[eps] > 0.2:
            break
        expected = eps
    widened = PseudoLabeler(0.5, k1=20)
    labels = widened(footage.features, footage.images)
    assert widened.statistics.eps == pytest.approx(expected) and expected > 0.5
    assert widened.settings["widened_eps"] == pytest.approx(expected)
    assert torch.equal(labels, labelers[expected](footage.features, footage.images))
    assert labelers[expected].statistics.eps == expected and "widened_eps" not in labelers[expected].settings


def test_eps_stays_where_tracks_seen_together_are_joined():
    footage = Footage(people=6, cameras=4, together=6)
    triplets = footage.features.reshape(4, 2, 3, LENGTH, -1)[:, :, :1].expand(-1, -1, 3, -1, -1)
    footage.features = triplets.reshape(footage.features.shape)
    labeler = PseudoLabeler(eps=0.5, k1=20)
    labeler(footage.features, footage.images)
    assert labeler.statistics.eps == 0.5
    alone = PseudoLabeler(eps=0.4, k1=20)
    alone(footage.features)
    assert alone.statistics.eps == 0.4


def test_near_copies_are_said_once_where_no_tracks_are_known(capsys):
    footage = Footage(people=8, frames=20, noise=0.02)
    images = footage.images
    spread = Footage(people=40, cameras=6, frames=1, noise=0.0, own=0.8)
    for features, known, is_said in (
        (footage.features, images, False),
        (footage.features, replace(images, tracks=torch.full_like(images.tracks, -1)), True),
        (spread.features, replace(spread.images, tracks=torch.full((240,), -1)), False),
    ):
        for epoch in (1, 2):
            label_epoch(PseudoLabeler(0.6, k1=20), features, known, epoch, None)
            assert ("near-copies" in capsys.readouterr().out) == (is_said and epoch == 1)


def test_of_very_many_tracks_fewer_images_are_clustered(monkeypatch):
    footage = Footage()
    monkeypatch.setattr("hhcl_torchreid.labels.clusters.MOST_IMAGES", 40)
    labels = PseudoLabeler(eps=0.6, k1=20)(footage.features, footage.images).numpy()
    assert len(set(zip(labels.tolist(), footage.people.tolist(), strict=True))) == len(set(labels)) == 6


def test_a_single_track_and_none_that_may_be_joined_are_refused():
    one = Footage(people=1, cameras=1)
    with pytest.raises(InputError, match="all images are of one track"):
        PseudoLabeler()(one.features, one.images)
    crowd = Footage(people=5, cameras=1, together=5)
    with pytest.raises(InputError, match="each two of the 5 tracks share a frame"):
        PseudoLabeler()(crowd.features, crowd.images)
    assert PseudoLabeler(tracks="off")(crowd.features, crowd.images).shape == (60,)
    with pytest.raises(InputError, match=r"cluster\.tracks is 'on'"):
        PseudoLabeler(tracks="on")
