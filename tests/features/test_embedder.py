"""Embedder: whatever company an image comes in, its feature is the same to the bit."""

import numpy as np
import pytest
import torch

from hhcl_torchreid import build_model
from hhcl_torchreid.data.images import DecodedImages
from hhcl_torchreid.data.store import ImageStore
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.embedder import Embedder

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
PRECISIONS = [torch.float32, torch.bfloat16]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def make_embedder(precision=torch.float32, name="shufflenet_v2_x0_5", device="cpu"):
    torch.manual_seed(0)
    model = build_model(name, pretrained=False).eval().to(device)
    return Embedder(model, MEAN, STD, precision)


def pixels(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 16), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "precision"),
    [("shufflenet_v2_x0_5", torch.float32), ("shufflenet_v2_x0_5", torch.bfloat16), ("osnet_x0_25", torch.float32)],
)
def test_company_changes_no_bit(name, precision, device):
    embedder, images = make_embedder(precision, name, device), pixels(21)
    together = embedder.embed(images)
    assert together.shape == (21, embedder.model.feature_dim) and together.dtype == torch.float32
    assert together.device.type == device
    torch.testing.assert_close(together.norm(dim=1).cpu(), torch.ones(21), atol=1e-5, rtol=0)
    assert torch.equal(embedder.embed(images[4:5]), together[4:5])
    order = torch.randperm(21, generator=torch.Generator().manual_seed(1))
    assert torch.equal(embedder.embed(images[order]), together[order.to(device)])
    assert torch.equal(embedder.of_batches(images.split(8)), together)


def test_memory_formats_change_no_bit():
    embedder, images = make_embedder(), pixels(20)
    expected = embedder.embed(images)
    assert torch.equal(embedder.embed(images.contiguous(memory_format=torch.channels_last)), expected)
    embedder.model.to(memory_format=torch.contiguous_format)
    assert torch.equal(Embedder(embedder.model, MEAN, STD).embed(images), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_are_the_networks_in_the_precision_that_was_asked_for(precision):
    embedder, images = make_embedder(precision), pixels(3)
    normalized = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        expected = embedder.model(normalized)
    with torch.no_grad():
        exact = embedder.model(normalized)
    features = embedder.embed(images)
    tolerance = 1e-6 if precision == torch.float32 else 1e-3
    torch.testing.assert_close(features, expected, atol=tolerance, rtol=0)
    assert torch.allclose(features, exact, atol=1e-6) == (precision == torch.float32)
    torch.testing.assert_close(embedder.embed(normalized.double()), features, atol=tolerance, rtol=0)


def test_no_images_have_no_features():
    embedder = make_embedder()
    assert embedder.embed(pixels(0)).shape == embedder.of_batches([]).shape == (0, embedder.model.feature_dim)


def test_a_stream_of_uneven_batches():
    embedder, images = make_embedder(), pixels(50)
    sizes = [1, 0, 30, 2, 16, 1]
    assert torch.equal(embedder.of_batches(iter(images.split(sizes))), embedder.embed(images))


def test_the_mode_of_the_network_is_the_callers():
    embedder = make_embedder()
    for mode in (True, False):
        embedder.model.train(mode)
        features = embedder.embed(pixels(16))
        assert embedder.model.training == mode and not features.requires_grad


def test_switches_of_cudnn_come_back():
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        make_embedder().embed(pixels(2))
        assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.deterministic
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("shape", [(3, 64, 32), (2, 1, 64, 32), (64, 32)])
def test_what_is_no_batch_of_colour_images(shape):
    with pytest.raises(InputError, match="is no batch of colour images"):
        make_embedder().embed(torch.zeros(shape))


@pytest.mark.parametrize("cache", ["ram", "off"])
@pytest.mark.parametrize("shared", [True, False])
def test_of_a_bank(cache, shared, data_root):
    folder = data_root / "synthetic_market" / "Market-1501-v15.09.15" / "query"
    images = DecodedImages([(str(path), 0, 0, 0) for path in sorted(folder.glob("*.jpg"))], 32, 16)
    embedder = make_embedder()
    features = embedder.of_store(ImageStore(images, cache), shared=shared)
    expected = embedder.embed(torch.stack([images[index]["img"] for index in range(len(images))]))
    assert len(features) == len(images) > 0
    np.testing.assert_array_equal(features.numpy(), expected.numpy())
