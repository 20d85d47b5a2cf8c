"""Test, search, assign, choose-eps and export use a network as its checkpoint says, and make the same features."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import SMALL, pairs
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from hhcl_torchreid import FeatureExtractor, build_model, register_backbone, runner
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.commands import assign, choose_eps, export, search
from hhcl_torchreid.commands import test as test_command
from hhcl_torchreid.config import load_config
from hhcl_torchreid.features.folder import beside
from hhcl_torchreid.models.backbones import BACKBONES

pytest.importorskip("timm")

HALVES = [0.5, 0.5, 0.5]
ODD = {
    "max pooling, stride 2": {"model.name": "resnet18", "model.pooling": "max", "model.last_stride": 2},
    "GeM": {
        "model.name": "osnet_x0_25",
        "model.pooling": "gem",
        "data.norm_mean": [0.2, 0.3, 0.4],
        "data.norm_std": [0.5, 0.4, 0.3],
    },
    "a vision transformer": {"model.name": "timm/test_vit3", "data.norm_mean": HALVES, "data.norm_std": HALVES},
    "a network of one's own": {"model.name": "own", "model.embedding_dim": 5, "model.bnneck": False},
}
SIZE = {"data.height": 48, "data.width": 32}


class Own(nn.Module):
    def __init__(self, pretrained):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, 4)

    def forward(self, images):
        return self.stem(images).relu().mean((2, 3))


@pytest.fixture
def own_network():
    register_backbone("own", Own, pixel_mean=(0.1, 0.2, 0.3), pixel_std=(0.4, 0.5, 0.6))
    yield
    del BACKBONES["own"]


@pytest.fixture
def crops(data_root, tmp_path):
    """A folder of twelve images."""
    images = sorted((data_root / "synthetic_market" / "Market-1501-v15.09.15" / "query").glob("*.jpg"))[:12]
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in images:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(params=list(ODD))
def checkpoint(request, tmp_path, own_network):
    """A checkpoint with settings that are nobody's defaults, and its configuration."""
    cfg = load_config(overrides={**SMALL, **SIZE, "train.amp": "off", **ODD[request.param]})
    model = build_model(
        cfg.model.name,
        pretrained=False,
        pooling=cfg.model.pooling,
        last_stride=cfg.model.last_stride,
        embedding_dim=cfg.model.embedding_dim,
        bnneck=cfg.model.bnneck,
        image_size=(48, 32),
    )
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 2)
    path = tmp_path / "model-best.pth.tar"
    save_checkpoint({"state_dict": model.state_dict(), "model_name": cfg.model.name, "config": cfg.dump()}, path)
    return path, cfg


def of_the_engine(path, cfg, crops, data_root, tmp_path):
    """Features by the engine of a test that is told nothing but the network's name."""
    told = {**SMALL, "model.name": cfg.model.name, "train.amp": "off", "data.height": 64, "data.norm_mean": [0.9] * 3}
    told |= {"data.root": str(data_root), "data.save_dir": str(tmp_path / "log")}
    engine = runner.run(load_config(overrides={**told, "model.load_weights": str(path), "test.evaluate": True}))
    pictures = [Image.open(image).resize((32, 48), Image.Resampling.BICUBIC) for image in sorted(crops.iterdir())]
    return engine.extract_features(torch.stack([pil_to_tensor(picture) for picture in pictures]))


def kept(crops):
    """The features that a command has left beside the folder, which the next one shall not find."""
    with np.load(beside(crops)) as arrays:
        features = torch.from_numpy(arrays["features"])
    beside(crops).unlink()
    return features


def test_every_command_makes_the_features_of_the_engine(checkpoint, crops, data_root, tmp_path):
    path, cfg = checkpoint
    expected = of_the_engine(path, cfg, crops, data_root, tmp_path)
    extractor = FeatureExtractor(model_path=path, device="cpu", verbose=False)
    assert (extractor.pixel_mean, extractor.pixel_std) == (cfg.data.norm_mean, cfg.data.norm_std)
    assert torch.equal(extractor([str(image) for image in sorted(crops.iterdir())]), expected)

    given = ["--weights", str(path), "--device", "cpu"]
    clustering = ["--k1", "4", "--k2", "2"]
    query = str(min(crops.iterdir()))
    assert search.main([*given, "--query", query, "--gallery", str(crops), "--out", str(tmp_path / "found")]) == 0
    assert torch.equal(kept(crops), expected)
    assert assign.main([*given, *clustering, "--root", str(crops), "--out", str(tmp_path / "people")]) == 0
    assert torch.equal(kept(crops), expected)
    assert choose_eps.main([*given, *clustering, "--root", str(crops)]) == 0
    assert torch.equal(kept(crops), expected)

    assert export.main(["--weights", str(path), "--format", "torchscript"]) == 0
    written = path.with_name("model-best.torchscript")
    facts = json.loads(written.with_name(f"{written.name}.metadata.json").read_text())
    assert (facts["height"], facts["width"]) == (48, 32)
    assert (facts["pixel_mean"], facts["pixel_std"]) == (cfg.data.norm_mean, cfg.data.norm_std)
    pictures = [Image.open(image).resize((32, 48), Image.Resampling.BICUBIC) for image in sorted(crops.iterdir())]
    features = torch.jit.load(written)(torch.stack([pil_to_tensor(picture) for picture in pictures]))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpoint", ["GeM"], indirect=True)
def test_another_size_is_named_by_every_command(checkpoint, crops, data_root, tmp_path, capsys):
    path, _ = checkpoint
    given = ["--weights", str(path), "--image-size", "64", "24"]
    folder = ["--root", str(crops), "--device", "cpu"]
    commands = {
        search: ["--query", str(min(crops.iterdir())), "--gallery", str(crops), "--out", str(tmp_path / "found")],
        assign: [*folder, "--out", str(tmp_path / "people"), "--k1", "4", "--k2", "2"],
        choose_eps: [*folder, "--k1", "4", "--k2", "2"],
        export: ["--format", "torchscript"],
    }
    for command, arguments in commands.items():
        with pytest.warns(UserWarning, match=r"trained with image size \(48, 32\), and is used with \(64, 24\)"):
            assert command.main([*given, *arguments]) == 0
    told = {
        **SMALL,
        "model.name": "osnet_x0_25",
        "data.root": data_root,
        "data.save_dir": tmp_path / "log",
        "data.height": 64,
    }
    assert test_command.main(["--weights", str(path), *pairs(told)]) == 0
    assert "is of a network with data.height 48, which this test takes in place of 64" in capsys.readouterr().out
