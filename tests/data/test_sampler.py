"""CrossCameraBatchSampler: what METHOD's section on batches says, on clusters of every kind."""

import numpy as np
import pytest

from hhcl_torchreid.data.sampler import CrossCameraBatchSampler
from hhcl_torchreid.errors import InputError

# label, cameras of its images
CLUSTERS = {0: [0] * 5 + [1] * 5, 1: [0] * 9, 2: [0], 3: [0, 1, 2], 4: [2] * 3 + [1] * 30, -1: [0, 1, 2, 3]}
LABELS = np.array([label for label, cameras in CLUSTERS.items() for _ in cameras])
CAMERAS = np.array([camera for cameras in CLUSTERS.values() for camera in cameras])


def sample(batch_size=8, num_instances=4, iters=100, seed=0, labels=LABELS):
    generator = np.random.default_rng(seed)
    sampler = CrossCameraBatchSampler(labels, CAMERAS, batch_size, num_instances, iters, generator)
    batches = list(sampler)
    assert len(batches) == len(sampler) == iters
    return np.array(batches).reshape(iters, -1, num_instances)


def test_a_batch_has_p_different_clusters_of_k_images_each():
    batches = sample()
    assert batches.shape == (100, 2, 4)
    for batch in batches:
        labels = LABELS[batch]
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == 2


def test_outliers_and_clusters_of_one_image_never_appear():
    assert set(LABELS[sample()].flat) == {0, 1, 3, 4}


def test_other_images_come_from_other_cameras_where_there_are_any():
    for group in sample().reshape(-1, 4):
        if LABELS[group[0]] == 1:
            assert group[0] not in group[1:]
        else:
            assert (CAMERAS[group[1:]] != CAMERAS[group[0]]).all()


def test_images_repeat_only_where_fewer_than_k_are_left():
    repeats = {label: set() for label in (0, 1, 3, 4)}
    for first, *others in sample().reshape(-1, 4):
        left = np.sum((LABELS[first] == LABELS) & (CAMERAS[first] != CAMERAS)) or 8
        repeats[LABELS[first]].add(len(set(others)) < 3)
        if left >= 4:
            assert len(set(others)) == 3
    assert True in repeats[3]  # two images of other cameras cannot fill three places


def test_every_cluster_comes_once_before_any_comes_again():
    labels = LABELS[sample(iters=6)[:, :, 0]]
    for first_pass in labels.reshape(3, 4):
        assert set(first_pass) == {0, 1, 3, 4}


def test_every_image_of_a_cluster_can_lead_and_all_cameras_are_used():
    groups = sample(iters=2000).reshape(-1, 4)
    assert set(groups[:, 0]) == set(np.flatnonzero(np.isin(LABELS, [0, 1, 3, 4])))


def test_what_does_not_fill_a_batch_is_dropped():
    labels = LABELS[sample(batch_size=12, num_instances=4, iters=50)[:, :, 0]]
    assert all(len(set(batch)) == 3 for batch in labels)


def test_few_clusters_make_smaller_batches_of_different_clusters():
    assert sample(batch_size=64, num_instances=4, iters=5).shape == (5, 4, 4)


def test_the_same_generator_gives_the_same_batches():
    assert (sample(seed=5) == sample(seed=5)).all()
    assert (sample(seed=5) != sample(seed=6)).any()


@pytest.mark.parametrize(("batch_size", "num_instances"), [(10, 4), (4, 8), (4, 1)])
def test_batch_size_must_be_a_multiple_of_the_instances(batch_size, num_instances):
    with pytest.raises(InputError, match=rf"train.batch_size \({batch_size}\)"):
        sample(batch_size=batch_size, num_instances=num_instances)


def test_no_cluster_of_two_images_is_said():
    with pytest.raises(InputError, match="no cluster has two images"):
        sample(labels=np.full(len(LABELS), -1))


def draw_along_tracks(cameras, tracks, frames, num_instances, seed):
    generator = np.random.default_rng(seed)
    labels = np.zeros(len(cameras), int)
    sampler = CrossCameraBatchSampler(labels, cameras, num_instances, num_instances, 20, generator, tracks, frames)
    return np.array(list(sampler))


@pytest.mark.parametrize("seed", range(5))
def test_with_tracks_cameras_take_turns_then_tracks_then_far_frames(seed):
    rng = np.random.default_rng(seed)
    sizes = {(0, 0): 9, (0, 1): 4, (1, 2): 30, (1, 3): 12, (1, 4): 6, (2, 5): 20}
    cameras, tracks = (np.concatenate([[key[part]] * size for key, size in sizes.items()]) for part in (0, 1))
    frames = np.concatenate([100 * rng.integers(5) + np.arange(size) for size in sizes.values()])
    shuffled = rng.permutation(len(cameras))
    cameras, tracks, frames = cameras[shuffled], tracks[shuffled], frames[shuffled]
    for batch in draw_along_tracks(cameras, tracks, frames, 13, seed):
        first, others = batch[0], batch[1:]
        assert len(set(others)) == 12 and first not in others
        for turn in range(4):  # three cameras have images enough for four turns
            assert sorted(cameras[others[3 * turn : 3 * turn + 3]]) == [0, 1, 2]
            assert cameras[others[3 * turn + 2]] == cameras[first]
        for camera, num_tracks in ((0, 2), (1, 3)):
            of_camera = tracks[others[cameras[others] == camera]]
            assert len(set(of_camera[:num_tracks])) == num_tracks
            assert of_camera[0] != tracks[first]
        of_long = frames[others[tracks[others] == 5]]
        assert np.ptp(of_long) >= 5 if len(of_long) > 1 else True


def test_with_tracks_images_repeat_only_when_all_are_used():
    cameras, tracks, frames = np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([1, 2, 1])
    for batch in draw_along_tracks(cameras, tracks, frames, 6, 0):
        assert set(batch[1:]) == {0, 1, 2} - {batch[0]}


def test_images_without_a_track_are_drawn_as_ever():
    labels, unknown = np.zeros(9, int), np.full(9, -1)
    cameras = np.arange(9) % 3
    plain = CrossCameraBatchSampler(labels, cameras, 4, 4, 9, np.random.default_rng(0))
    same = CrossCameraBatchSampler(labels, cameras, 4, 4, 9, np.random.default_rng(0), unknown, np.arange(9))
    assert list(plain) == list(same)
