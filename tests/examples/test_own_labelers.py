"""The labelers of one's own train as those of the package do."""

import camera_labeler
import kmeans_labeler
import torch
from small_runs import SMALL, pairs
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.labels import Images


def test_kmeans_labels_a_run_and_its_resumption(data_root, tmp_path):
    engine = kmeans_labeler.train(str(data_root), str(tmp_path), pairs(SMALL))
    assert engine.history.last["clusters"] == 12 and engine.history.last["outliers"] == 0
    assert engine.history.last["loss"] > 0
    resumed = kmeans_labeler.train(
        str(data_root), str(tmp_path), pairs({**SMALL, "train.max_epoch": 2, "model.resume": "auto"})
    )
    assert resumed.history.last["epoch"] == 2
    assert "\n  labels: kmeans\n" in load_checkpoint(resumed.folder.last_checkpoint)["config"]


def test_a_camera_is_no_reason_to_be_one_person():
    people = torch.eye(3, 16).repeat_interleave(40, dim=0) + 0.05 * torch.randn(120, 16)
    cameras = torch.arange(120) % 4
    features = normalize(people + 3 * torch.eye(4, 16).roll(8, dims=1)[cameras])
    images = Images.of_records([(str(n), 0, int(camera), 0) for n, camera in enumerate(cameras)])
    settings = {"eps": 0.6, "k1": 20, "k2": 6}

    def clusters_hold_one_person(labels):
        truth = torch.arange(120) // 40
        return all(len(truth[labels == label].unique()) == 1 for label in labels.unique() if label >= 0)

    labels = camera_labeler.CameraCentredLabeler(**settings)(features, images)
    assert int(labels.max()) + 1 == 3 and clusters_hold_one_person(labels)
    assert int(PseudoLabeler(**settings)(features).max()) + 1 > 3  # cameras apart


def test_the_camera_labeler_trains(data_root, tmp_path):
    engine = camera_labeler.train(str(data_root), str(tmp_path), pairs(SMALL))
    assert engine.history.last["clusters"] >= 2 and engine.history.last["loss"] > 0
