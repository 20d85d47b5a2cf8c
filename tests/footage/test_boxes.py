"""What is said of boxes: how much of each is covered, and whom it shows."""

import itertools

import numpy as np

from hhcl_torchreid.footage import Boxes, covered_shares, true_people


def make_boxes(rows):
    """Of (frame, track, left, top, width, height)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:], np.ones(len(table)))


def random_boxes(rng, num_frames=4, num_people=6):
    rows = [
        (frame, person, *rng.integers(0, 20, 2), *rng.integers(0, 15, 2))
        for frame, person in itertools.product(range(1, num_frames + 1), range(num_people))
    ]
    return make_boxes(rng.permutation(rows))


def pixels(box):
    left, top, width, height = box.astype(int)
    return set(itertools.product(range(left, left + width), range(top, top + height)))


def test_covered_shares_are_those_of_counted_pixels():
    boxes = random_boxes(np.random.default_rng(0))
    expected = np.zeros(len(boxes))
    for row in range(len(boxes)):
        bottom = boxes.box[:, 1] + boxes.box[:, 3]
        in_front = (boxes.frame == boxes.frame[row]) & (bottom > bottom[row])
        hidden = set().union(*(pixels(box) for box in boxes.box[in_front]))
        own = pixels(boxes.box[row])
        expected[row] = len(own & hidden) / max(len(own), 1)
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_allclose(covered_shares(boxes), expected, atol=1e-12)


def test_who_stands_in_front_is_seen_whole_and_other_frames_hide_nobody():
    boxes = make_boxes([(1, 1, 0, 0, 10, 20), (1, 2, 0, 10, 10, 20), (2, 3, 0, 0, 10, 10)])
    assert covered_shares(boxes).tolist() == [0.5, 0.0, 0.0]
    level = make_boxes([(1, 1, 0, 0, 10, 20), (1, 2, 5, 0, 10, 20)])
    assert covered_shares(level).tolist() == [0.0, 0.0]
    assert covered_shares(make_boxes([])).tolist() == []


def overlap(one, other):
    both, either = pixels(one) & pixels(other), pixels(one) | pixels(other)
    return len(both) / len(either) if either else 0.0


def test_true_people_are_the_best_pairs_of_each_frame():
    rng = np.random.default_rng(1)
    truth = make_boxes([(f, p, *rng.integers(0, 8, 2), 10, 12) for f in range(1, 9) for p in range(4)])
    moved = truth.box + np.hstack([rng.integers(-3, 4, (32, 2)), np.zeros((32, 2))])
    boxes = Boxes(truth.frame, np.arange(32), moved, truth.score)[rng.permutation(32)[:26]]
    found = true_people(boxes, truth)
    assert -1 in found and len(set(found.tolist())) == 5
    for frame in range(1, 9):
        ours, theirs = np.flatnonzero(boxes.frame == frame), np.flatnonzero(truth.frame == frame)
        table = np.array([[overlap(boxes.box[a], truth.box[b]) for b in theirs] for a in ours]).reshape(len(ours), -1)
        table[table < 0.5] = 0.0
        best = max(
            sum(table[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(4), len(ours))
        )
        shown = [
            (i, int(np.argmax(truth.track[theirs] == found[row]))) for i, row in enumerate(ours) if found[row] >= 0
        ]
        assert len({column for _, column in shown}) == len(shown)
        assert all(table[pair] >= 0.5 for pair in shown)
        assert np.isclose(sum(table[pair] for pair in shown), best)


def test_a_second_box_of_a_person_and_a_frame_without_truth_show_nobody():
    truth = make_boxes([(1, 5, 0, 0, 10, 20)])
    boxes = make_boxes([(1, 1, 1, 0, 10, 20), (1, 2, 0, 0, 10, 20), (2, 1, 0, 0, 10, 20)])
    assert true_people(boxes, truth).tolist() == [-1, 5, -1]
