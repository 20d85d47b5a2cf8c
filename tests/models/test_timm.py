"""timm's networks, through all that a backbone goes through: training, resuming, extraction, search and export."""

import sys

import export as export_tool
import onnxruntime
import pytest
import search as search_tool
import torch
import train_hhcl
from networks import images_for, is_unit
from small_runs import SMALL, pairs
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid import FeatureExtractor
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.data.transforms import normalize_images
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import build_model, describe_backbone, load_from

timm = pytest.importorskip("timm")

VIT = "timm/vit_tiny_patch16_224"
CONVOLUTIONAL = ("timm/resnet10t", "timm/convnext_atto")
HALVES = [0.5, 0.5, 0.5]


def test_a_vision_transformer_trains_resumes_extracts_searches_and_exports(data_root, tmp_path, capsys):
    log = tmp_path / "log"
    settings = {**SMALL, "model.name": VIT, "data.save_dir": log, "engine.iters": 1, "data.targets": "[]"}
    for epochs in (1, 2):
        settings |= {"train.max_epoch": epochs, "model.resume": "auto"}
        assert train_hhcl.main(["--root", str(data_root), *pairs(settings)]) == 0
    assert f"trained with data.norm_mean {HALVES}" in capsys.readouterr().out
    last = log / "model" / "model-last.pth.tar"
    checkpoint = load_checkpoint(last)
    assert checkpoint["epoch"] == 2 and checkpoint["model_name"] == VIT

    extractor = FeatureExtractor(model_path=last, device="cpu", verbose=False, amp="off")
    assert (extractor.image_size, extractor.pixel_mean, extractor.pixel_std) == ((64, 32), HALVES, HALVES)
    model = build_model(VIT, pretrained=False, image_size=(64, 32)).eval()
    model.load_state_dict(checkpoint["state_dict"])
    pixels = torch.randint(0, 256, (3, 3, 64, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(normalize_images(pixels, HALVES, HALVES))
    torch.testing.assert_close(extractor(pixels), expected, atol=1e-5, rtol=0)

    gallery = data_root / "synthetic_market" / "Market-1501-v15.09.15" / "query"
    query = next(gallery.glob("*.jpg"))
    arguments = ["--weights", str(last), "--query", str(query), "--gallery", str(gallery), "--out", str(tmp_path / "s")]
    assert search_tool.main(arguments) == 0
    assert export_tool.main(["--weights", str(last)]) == 0
    session = onnxruntime.InferenceSession(last.with_name("model-last.onnx"), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"pixels": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-4, rtol=0)
    assert session.get_outputs()[0].shape == ["batch", model.feature_dim]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_a_convolutional_network_pools_as_it_is_told(name, pooling):
    model = build_model(name, pretrained=False, pooling=pooling, bnneck=False).eval()
    images = images_for(name)
    theirs = timm.create_model(name.removeprefix("timm/"), num_classes=0).eval()
    theirs.load_state_dict(model.state_dict(), strict=pooling != "gem")
    with torch.no_grad():
        maps = theirs.forward_features(images)
        pooled = {
            "avg": maps.mean((2, 3), keepdim=True),
            "max": maps.amax((2, 3), keepdim=True),
            "gem": maps.clamp(min=1e-6).pow(3).mean((2, 3), keepdim=True).pow(1 / 3),
        }[pooling]
        # What follows the pooling is the network's own: a normalisation in ConvNeXt.
        expected = F.normalize(theirs.forward_head(pooled))
        torch.testing.assert_close(model(images), expected)
    assert is_unit(model(images)) and describe_backbone(name).feature_dim == model.feature_dim


def test_the_layouts_of_vision_transformers(tmp_path):
    source = build_model(VIT, pretrained=False, bnneck=False, image_size=(64, 32)).eval()
    weights = source.state_dict()
    dino = {f"backbone.{key}": value for key, value in weights.items()}
    transreid = {f"base.{key}": value for key, value in weights.items()}
    apart = {"backbone.cls_pos": weights["pos_embed"][:, :1], "backbone.pos_embed": weights["pos_embed"][:, 1:]}
    contents = {
        "DINO, TransReID-SSL or PASS": {"teacher": {**dino, "head.mlp.0.weight": torch.zeros(3)}, "student": {}},
        "BoT or TransReID": {**transreid, "base.fc.weight": torch.zeros(5, 192), "classifier.weight": torch.zeros(5)},
        "DINO": {"teacher": {**dino, **apart, "backbone.part_token1": torch.zeros(1, 1, 192)}},
        "without labels": {"state_dict": {**weights, "bottleneck.running_mean": torch.zeros(192)}},
    }
    model = build_model(VIT, pretrained=False, image_size=(64, 32))
    model.neck = None
    for layout, content in contents.items():
        if layout == "without labels":
            model.neck = nn.BatchNorm1d(192)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        report = load_from(model, content, "weights.pth")
        assert layout in report.layout and report.matched == report.total == len(weights)
        for key, value in weights.items():
            assert torch.equal(model.state_dict()[key], value), key


def test_positions_are_resized_as_timm_resizes_them():
    model = build_model(VIT, pretrained=False, bnneck=False, image_size=(96, 16))
    for grid in ((14, 14), (12, 2), (16, 8), (24, 8)):  # a square, the model's own aspect, 256 x 128, 384 x 128
        positions = torch.randn(1, 1 + grid[0] * grid[1], 192)
        load_from(model, {**model.state_dict(), "pos_embed": positions}, "weights.pth")
        expected = timm.layers.resample_abs_pos_embed(positions, (6, 1), grid)
        torch.testing.assert_close(model.state_dict()["pos_embed"], expected, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"pos_embed is \[1, 8, 192\] in the file"):
        load_from(model, {**model.state_dict(), "pos_embed": torch.randn(1, 8, 192)}, "weights.pth")


class TestBadInput:
    def refused(self, *named, name=VIT, **settings):
        with pytest.raises(InputError) as caught:
            build_model(name, **{"pretrained": False, **settings})
        for part in named:
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_name_that_timm_lacks(self):
        self.refused("timm has no model 'resnet10'", "timm/resnet10t", name="timm/resnet10")
        self.refused("timm has no weights 'resnet10t.of_mine'", name="timm/resnet10t.of_mine")

    def test_a_pooling_that_has_no_meaning(self):
        self.refused(VIT, "model.pooling cannot be chosen: set it to avg", pooling="gem")

    @pytest.mark.parametrize("name", ["timm/convit_tiny", "timm/bat_resnext26ts", "timm/efficientformer_l1"])
    def test_images_of_a_size_that_the_network_breaks_at(self, name):
        self.refused(f"{name} cannot take images of 64 x 32 pixels", name=name, image_size=(64, 32))

    def test_images_of_another_size(self):
        model = build_model(VIT, pretrained=False, image_size=(64, 32)).eval()
        with pytest.raises(InputError, match=r"takes images of 64 x 32 pixels only, not 96 x 32"):
            model(torch.zeros(1, 3, 96, 32))

    def test_weights_that_cannot_be_downloaded(self, monkeypatch):
        def refuse(*_, **__):
            raise OSError("no network in tests")

        monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
        self.refused("weights of timm/resnet10t could not be had", "no network", pretrained=True, name="timm/resnet10t")

    def test_without_timm(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        self.refused("models of timm need the package timm: pip install timm")
