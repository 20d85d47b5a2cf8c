"""The share of the features' variance that is the cameras'."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hhcl_torchreid.labels import Images, PseudoLabeler, camera_share, label_epoch

NAMES = [f"{number}.jpg" for number in range(120)]
CAMERAS = torch.arange(120) % 3


def features_with(offset):
    """Unit rows of 40 people whom all three cameras see, each camera moving all of its own by so much."""
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(40, 16, generator=generator).repeat_interleave(3, 0)
    light = torch.randn(3, 16, generator=generator)
    return F.normalize(people + 0.3 * torch.randn(120, 16, generator=generator) + offset * light[CAMERAS])


def images_with(tracks=None):
    tracks = torch.full((120,), -1) if tracks is None else tracks
    return Images(NAMES, CAMERAS, torch.zeros(120, dtype=torch.int64), tracks, torch.full((120,), -1))


@pytest.mark.parametrize("tracks", [None, CAMERAS * 10 + torch.arange(120) % 10])
def test_is_the_analysis_of_variance(tracks):
    features = features_with(1.0)
    rows = features.double().numpy()
    around = ((rows - rows.mean(0)) ** 2).sum()
    between = sum(40 * ((rows[CAMERAS.numpy() == camera].mean(0) - rows.mean(0)) ** 2).sum() for camera in range(3))
    units = 120 if tracks is None else len(np.unique(tracks))
    expected = between / around - 2 / (units - 1)
    assert camera_share(features, images_with(tracks)) == pytest.approx(expected, abs=1e-5)


def test_cameras_that_are_alike_or_alone_have_none():
    assert camera_share(features_with(0.0), images_with()) < 0.01
    alone = dataclasses.replace(images_with(), cameras=torch.zeros(120, dtype=torch.int64))
    assert camera_share(features_with(1.0), alone) == 0
    each_its_own = images_with(CAMERAS)  # one track a camera: nothing tells it from its people
    assert camera_share(features_with(1.0), each_its_own) == 0


@pytest.mark.parametrize(("offset", "epoch", "is_said"), [(1.0, 1, True), (1.0, 2, False), (0.0, 1, False)])
def test_it_is_said_once_where_it_is_large(offset, epoch, is_said, capsys):
    label_epoch(PseudoLabeler(0.6, k1=6, k2=2, min_samples=2), features_with(offset), images_with(), epoch, CAMERAS)
    assert ("train.camera_bn 8" in capsys.readouterr().out) == is_said
