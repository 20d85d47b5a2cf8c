"""Statistics of each camera: what a camera puts into all of its images goes, and the model stays as it was."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from hhcl_torchreid import ImageHHCLEngine, PseudoLabeler, build_model
from hhcl_torchreid.data.images import DecodedImages
from hhcl_torchreid.data.store import ImageStore
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features import Embedder, SeenByCameras, features_by_camera

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
CAMERAS = torch.arange(80) % 2
CAMERAS[70:75] = 7  # too few for statistics of their own


@pytest.fixture
def embedder():
    torch.manual_seed(0)
    return Embedder(build_model("shufflenet_v2_x0_5", pretrained=False).eval(), MEAN, STD)


@pytest.fixture
def images(data_root):
    paths = sorted(data_root.glob("synthetic_market/*/bounding_box_train/*.jpg"))[: len(CAMERAS)]
    return DecodedImages([(str(path), 0, 0, 0) for path in paths], 64, 32)


class Darkened(DecodedImages):
    """Every picture twice, the second time as a dark and pale camera would take it."""

    def __getitem__(self, index):
        item = super().__getitem__(index // 2 * 2)
        if index % 2:
            item["img"] = (item["img"] * 0.4 + 20).to(torch.uint8)
        return item


def by_camera(embedder, store, plain, cameras, num_batches):
    return features_by_camera(embedder, [SeenByCameras(store, cameras, plain)], num_batches)[0]


def test_each_camera_is_normalised_by_its_own_images(embedder, images):
    store, before = ImageStore(images, "ram"), copy.deepcopy(embedder.model.state_dict())
    plain = embedder.of_store(store)
    found = by_camera(embedder, store, plain, CAMERAS, 1)

    pixels = torch.stack([images[number]["img"] for number in range(len(images))])
    normalized = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for camera in (0, 1):
        network = copy.deepcopy(embedder.model)
        update_bn([normalized[camera == CAMERAS]], network)
        with torch.no_grad():
            expected = network.eval()(normalized[camera == CAMERAS])
        torch.testing.assert_close(found[camera == CAMERAS], expected, atol=1e-4, rtol=0)
        assert not torch.allclose(plain[camera == CAMERAS], expected, atol=1e-2)
    assert torch.equal(found[CAMERAS == 7], plain[CAMERAS == 7])
    assert not embedder.model.training
    after = embedder.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(embedder.of_store(store), plain)


class Shallow(nn.Sequential):
    """A convolution without borders, of which batch norm takes gain and offset of the light exactly."""

    feature_dim = 32

    def __init__(self):
        super().__init__(nn.Conv2d(3, 32, 5, stride=2), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, images):
        return nn.functional.normalize(super().forward(images).flatten(1))


def test_the_light_of_a_camera_goes(images):
    torch.manual_seed(0)
    embedder = Embedder(Shallow().eval(), MEAN, STD)
    store = ImageStore(Darkened(images.records, 64, 32), "ram")
    plain = embedder.of_store(store)
    found = by_camera(embedder, store, plain, torch.arange(80) % 2, 1)
    agrees = [(rows[::2] @ rows[1::2].T).argmax(1) == torch.arange(40) for rows in (plain, found)]
    assert agrees[1].float().mean() > 0.95 > 0.2 > agrees[0].float().mean()


@pytest.mark.parametrize(("cameras", "num_batches"), [(torch.zeros(80), 1), (CAMERAS, 0)])
def test_one_camera_or_no_batches_change_nothing(embedder, images, cameras, num_batches):
    store = ImageStore(images, "ram")
    plain = embedder.of_store(store)
    assert by_camera(embedder, store, plain, cameras, num_batches) is plain


def test_labels_are_made_of_them_and_the_memory_is_not(make_engine, untested, tmp_path):
    seen = []

    class Watched(PseudoLabeler):
        def __call__(self, features, images=None):
            seen.append(features.clone())
            return super().__call__(features, images)

    labeler = Watched(eps=0.6, k1=8, k2=3, min_samples=2)
    engine = make_engine(untested, iters=1, camera_bn=2, labeler=labeler, mode="centroid", momentum=1.0)
    plain = engine.extract_training_features()
    assert len(engine.images.cameras.unique()) > 1
    generator = np.random.default_rng([engine.seed, 0, *b"cameras"])
    seen_by = SeenByCameras(engine.store, engine.images.cameras, plain)
    expected = features_by_camera(engine.embedder, [seen_by], 2, generator)[0]
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    assert torch.equal(seen[0], expected) and not torch.allclose(expected, plain, atol=1e-3)
    torch.testing.assert_close(
        engine.memory.features[0], nn.functional.normalize(plain[engine.labels == 0].mean(0), dim=0)
    )


class OwnNetwork(nn.Module):
    """Colour averages; no batch norm."""

    feature_dim = 3

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, images):
        return nn.functional.normalize(self.mix(images.mean((2, 3))))


def test_a_network_without_batch_norm_and_less_than_no_batches_are_refused(make_engine, untested):
    with pytest.raises(InputError, match=re.escape("train.camera_bn is -1: give a number of batches, or 0 for none")):
        make_engine(untested, camera_bn=-1)
    network = OwnNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    with pytest.raises(
        InputError, match=re.escape("train.camera_bn is 2, but the model has no batch norm: set it to 0")
    ):
        ImageHHCLEngine(untested, network, optimizer, use_gpu=False, num_instances=4, camera_bn=2)
