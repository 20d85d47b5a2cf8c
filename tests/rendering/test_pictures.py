"""Rendered people, cameras and tracklets: reproducible, and a fair re-identification problem."""

import cv2
import numpy as np
import pytest

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.rendering import (
    contact_sheet,
    render_distractor,
    render_tracklet,
    sample_camera,
    sample_person,
    write_contact_sheet,
)


def all_frames(people, cameras, num_frames=2, seed=0):
    """(people, cameras, frames, pixels) float32."""
    pictures = [[render_tracklet(seed, p, c, num_frames, 64, 32) for c in cameras] for p in people]
    return np.asarray(pictures, np.float32).reshape(len(people), len(cameras), num_frames, -1)


def test_a_frame_depends_on_its_name_only():
    longer = render_tracklet(3, 11, 2, 5, 64, 32)
    shorter = render_tracklet(3, 11, 2, 2, 64, 32)
    assert all(np.array_equal(a, b) for a, b in zip(shorter, longer, strict=False))


def test_seeds_give_other_people_and_cameras():
    assert sample_person(0, 1) == sample_person(0, 1)
    assert sample_person(0, 1) != sample_person(1, 1)
    for index in range(6):
        ours, theirs = sample_camera(0, index), sample_camera(1, index)
        assert not np.array_equal(ours.scene, theirs.scene)
        assert np.abs(ours.colour_matrix - theirs.colour_matrix).max() > 0.02


def test_cameras_of_one_seed_see_grey_differently():
    grey = np.full(3, 128.0)
    seen = np.array([sample_camera(0, i).colour_matrix @ np.append(grey, 1.0) for i in range(6)])
    apart = np.abs(seen[:, None] - seen[None]).max(-1)[~np.eye(6, dtype=bool)]
    assert apart.min() > 8


def mean_colours(light):
    """(people, cameras, 3): what each camera makes of each person's picture, on average."""
    pictures = [[render_tracklet(0, p, c, 1, 64, 32, light)[0].mean((0, 1)) for c in range(6)] for p in range(4)]
    return np.array(pictures)


def spread_of_cameras(colours):
    return (colours.mean(0) / colours.mean()).std()


def test_dusk_is_darker_and_bluer_and_its_cameras_agree_more():
    day, dusk = mean_colours("day"), mean_colours("dusk")
    assert dusk.mean() < 0.7 * day.mean()
    assert dusk[..., 2].mean() / dusk[..., 0].mean() > 1.15 * day[..., 2].mean() / day[..., 0].mean()
    assert spread_of_cameras(dusk) < spread_of_cameras(day)


def test_mixed_light_sets_cameras_further_apart():
    assert spread_of_cameras(mean_colours("mixed")) > 1.5 * spread_of_cameras(mean_colours("day"))


def test_tracklets_hang_together():
    frames = all_frames(range(6), [0, 3])
    flat = frames.reshape(24, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    tracklet = np.arange(24) // 2
    assert (tracklet[distances.argmin(1)] == tracklet).mean() > 0.9


def test_a_person_looks_like_itself_at_another_camera():
    frames = all_frames(range(24), [0, 2, 4])[:, :, 0].reshape(24, 3, 64, 32, 3)[:, :, 8:60, 8:24]
    blocks = frames.reshape(24, 3, 13, 4, 4, 4, 3).mean((3, 5)).reshape(24, 3, -1)
    normal = blocks - blocks.mean(0)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    similar = np.einsum("pad,qbd->abpq", normal, normal)[[0, 0, 1], [1, 2, 2]]
    same = np.einsum("app->ap", similar).mean()
    other = (similar.sum() - np.einsum("app->", similar)) / (3 * 24 * 23)
    assert same > other + 0.15


def test_viewpoint_changes_what_one_sees():
    pictures = all_frames([5], range(6), num_frames=1)[0, :, 0]
    assert np.abs(pictures[:, None] - pictures[None]).mean(-1)[~np.eye(6, dtype=bool)].min() > 8


@pytest.mark.parametrize("height, width", [(128, 64), (256, 128), (97, 51), (32, 16)])
def test_any_size(height, width):
    for picture in (render_tracklet(0, 1, 1, 1, height, width)[0], render_distractor(0, 1, 1, height, width)):
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 5


def test_a_contact_sheet_is_rows_of_people(tmp_path):
    sheet = contact_sheet(num_people=2, num_cameras=2, frames_per_camera=2, height=64, width=32)
    assert sheet.shape == (128, 128, 3)
    assert np.array_equal(sheet[64:, 32:64], render_tracklet(0, 2, 0, 2, 64, 32)[1])


def test_a_contact_sheet_is_written_or_refused(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", height=32, width=16)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (8 * 32, 6 * 3 * 16, 3)
    with pytest.raises(InputError, match="cannot write"):
        write_contact_sheet(tmp_path / "sheet.png" / "sheet.png", height=32, width=16)
    with pytest.raises(InputError, match="height 16"):
        write_contact_sheet(tmp_path / "small.png", height=16, width=16)
