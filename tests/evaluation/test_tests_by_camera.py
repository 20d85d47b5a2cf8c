"""Tests by each camera's own batch-norm statistics."""

import copy
import re

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import update_bn

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.evaluation.ranking import evaluate_rank


def test_a_test_by_camera_is_that_of_networks_with_each_cameras_statistics(make_engine, make_datamanager):
    engine = make_engine(make_datamanager(batch_size_test=100))
    (loaders,) = engine.test_loader.values()
    # Two cameras, so that each has images enough.
    for loader in loaders.values():
        images = loader.store.images
        images.records = [(path, pid, int(camera < 3), dataset) for path, pid, camera, dataset in images.records]
    engine.test()
    plain = dict(engine.results["market1501"])
    before = copy.deepcopy(engine.model.state_dict())
    engine.test(test_camera_bn=1)
    found = engine.results["market1501"]

    of_sets = []
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (engine.embedder.mean, engine.embedder.std))
    for name in ("query", "gallery"):
        items = [loaders[name].store.images[number] for number in range(len(loaders[name].store))]
        pixels = torch.stack([(item["img"] / 255 - mean) / std for item in items])
        of_sets.append((pixels, np.array([item["pid"] for item in items]), np.array([item["camid"] for item in items])))
    (query, query_people, query_cameras), (gallery, gallery_people, gallery_cameras) = of_sets
    features = [torch.zeros(len(images), engine.model.feature_dim) for images in (query, gallery)]
    drawn = np.random.default_rng(0)
    for camera in (0, 1):
        network = copy.deepcopy(engine.model)
        of_camera = gallery[gallery_cameras == camera]
        assert len(of_camera) >= 32
        update_bn([of_camera[drawn.permutation(len(of_camera))][:64]], network)
        with torch.no_grad():
            for rows, images, cameras in zip(features, (query, gallery), (query_cameras, gallery_cameras), strict=True):
                rows[cameras == camera] = network.eval()(images[cameras == camera])
    distances = torch.cdist(*features).numpy()
    curve, mean_precision = evaluate_rank(distances, query_people, gallery_people, query_cameras, gallery_cameras)
    assert found["mAP"] == pytest.approx(mean_precision, abs=2e-3) and found["Rank-1"] == pytest.approx(curve[0])
    assert found["mAP"] != plain["mAP"]
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())
    engine.test()
    assert engine.results["market1501"] == plain


def test_less_than_no_batches_are_refused(make_engine):
    with pytest.raises(InputError, match=re.escape("camera_bn is -1: give a number of batches, or 0 for none")):
        make_engine().test(test_camera_bn=-1)
