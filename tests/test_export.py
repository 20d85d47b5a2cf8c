"""ONNX files: the features of PyTorch from raw pixels in any batch size, and nothing written that differs."""

import json
import os
import sys
from pathlib import Path

import export as tool
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hhcl_torchreid import FeatureExtractor, build_model
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.export import TRACED_BATCH_SIZE, export_onnx

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
SIZE = {"data.height": 64, "data.width": 32, "data.norm_mean": MEAN, "data.norm_std": STD}


def save_model(path, name, **settings):
    torch.manual_seed(0)
    model = build_model(name, pretrained=False, **settings).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 2)
    chosen = {f"model.{key}": value for key, value in settings.items()}
    cfg = load_config(overrides={"model.name": name, **chosen, **SIZE})
    save_checkpoint({"state_dict": model.state_dict(), "model_name": name, "config": cfg.dump()}, path)
    return model


@pytest.fixture
def weights(tmp_path):
    save_model(tmp_path / "model-best.pth.tar", "shufflenet_v2_x0_5")
    return tmp_path / "model-best.pth.tar"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("osnet_x0_25", {}),
        ("shufflenet_v2_x0_5", {}),
        ("resnet18", {"pooling": "gem"}),
        ("resnet18", {"pooling": "avg+max", "embedding_dim": 24, "last_stride": 2}),
        ("mobilenetv2_x1_0", {"bnneck": False}),
        ("resnet50_ibn_a", {}),
        ("osnet_ain_x0_25", {"pooling": "max"}),
    ],
)
def test_pixels_give_pytorchs_features_in_any_batch(name, settings, tmp_path, capsys):
    model = save_model(tmp_path / "model-best.pth.tar", name, **settings)
    assert tool.main(["--weights", str(tmp_path / "model-best.pth.tar"), "--format", "onnx"]) == 0
    assert f"Wrote {tmp_path / 'model-best.onnx'}: {name}" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "model-best.onnx", providers=["CPUExecutionProvider"])
    for batch_size in (1, 3, 8):
        pixels = np.random.default_rng(batch_size).integers(0, 256, (batch_size, 3, 64, 32), np.uint8)
        normalized = (pixels / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        with torch.no_grad():
            expected = model(torch.from_numpy(normalized).float()).numpy()
        (features,) = session.run(None, {"pixels": pixels})
        assert features.shape == (batch_size, model.feature_dim) and features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-4, rtol=0)
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_extractor_on_a_gpu_gives_the_same_file(weights, tmp_path):
    for device in ("cpu", "cuda"):
        export_onnx(FeatureExtractor(model_path=weights, device=device, verbose=False), tmp_path / f"{device}.onnx")
    assert (tmp_path / "cuda.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()


def test_the_file_says_what_it_is(weights, tmp_path):
    assert tool.main(["--weights", str(weights), "--out", str(tmp_path / "new" / "model.onnx")]) == 0
    model = onnx.load(tmp_path / "new" / "model.onnx")
    (pixels,), (features,) = model.graph.input, model.graph.output
    assert [axis.dim_param or axis.dim_value for axis in pixels.type.tensor_type.shape.dim] == ["batch", 3, 64, 32]
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [axis.dim_param or axis.dim_value for axis in features.type.tensor_type.shape.dim] == ["batch", 1024]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (facts["model_name"], facts["height"], facts["width"]) == ("shufflenet_v2_x0_5", "64", "32")
    assert (facts["feature_dim"], facts["pixel_mean"], facts["pixel_std"]) == ("1024", str(MEAN), str(STD))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("file_format", ["onnx", "torchscript"])
def test_every_input_and_format_gives_pytorchs_features(kind, file_format, tmp_path):
    model = save_model(tmp_path / "model-best.pth.tar", "squeezenet1_1")
    arguments = ["--weights", str(tmp_path / "model-best.pth.tar"), "--format", file_format, "--input", kind]
    assert tool.main(arguments) == 0
    path = tmp_path / f"model-best.{file_format}"
    pixels = torch.randint(0, 256, (3, 3, 64, 32), dtype=torch.uint8)
    normalized = (pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    images = pixels if kind == "uint8" else normalized
    if file_format == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert given.name == {"uint8": "pixels", "float": "images"}[kind] and given.shape == ["batch", 3, 64, 32]
        assert given.type == {"uint8": "tensor(uint8)", "float": "tensor(float)"}[kind]
        features = torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])
    else:
        facts = {"facts.json": ""}
        features = torch.jit.load(path, _extra_files=facts)(images)
        assert json.loads(facts["facts.json"])["pixel_mean"] == MEAN
    with torch.no_grad():
        torch.testing.assert_close(features, model(normalized), atol=1e-5, rtol=0)


def test_weights_alone_with_name_and_size(tmp_path):
    model = build_model("osnet_x0_25", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    arguments = ["--weights", str(tmp_path / "bare.pth"), "--model-name", "osnet_x0_25", "--image-size", "64", "32"]
    assert tool.main(arguments) == 0
    session = onnxruntime.InferenceSession(tmp_path / "bare.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 32]


def test_the_extractor_is_left_as_it_was(weights, tmp_path):
    extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
    images = torch.randn(2, 3, 64, 32)
    before = extractor(images)
    assert export_onnx(extractor, tmp_path / "model.onnx") <= 1e-4
    assert torch.equal(extractor(images), before)


class TestBadInput:
    def test_a_file_that_differs_is_not_written(self, weights, tmp_path):
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        # Tracing sees batches of one size only, so that the exported network never turns its features round.
        extractor.model.register_forward_hook(_turn_round_other_batches)
        (tmp_path / "model.onnx").write_bytes(b"an earlier one")
        with pytest.raises(InputError, match=r"shufflenet_v2_x0_5 gives other features.*model\.onnx is not written"):
            export_onnx(extractor, tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").read_bytes() == b"an earlier one"

    def test_a_layer_that_onnx_lacks(self, weights, tmp_path, capfd):
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        extractor.model.register_forward_hook(_add_what_onnx_lacks)
        with pytest.raises(InputError, match="shufflenet_v2_x0_5 cannot be written as ONNX"):
            export_onnx(extractor, tmp_path / "model.onnx")
        assert not (tmp_path / "model.onnx").exists()
        print("still heard")
        assert capfd.readouterr().out == "still heard\n"

    def test_a_network_that_cannot_be_traced_for_any_number_of_images(self, weights, capsys):
        assert tool.main(["--weights", str(weights), "--format", "torchscript"]) == 2
        error = capsys.readouterr().err
        assert "shufflenet_v2_x0_5 cannot be written as TorchScript (" in error and error.count("\n") == 1
        assert not list(weights.parent.glob("*.torchscript"))

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
    def test_a_package_that_is_missing(self, package, weights, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, package, None)
        assert tool.main(["--weights", str(weights)]) == 2
        error = capsys.readouterr().err
        assert f"the package {package}:" in error and "hhcl-torchreid[export]" in error
        assert not list(weights.parent.glob("*.onnx"))

    def test_weights_that_are_none(self, tmp_path, capsys):
        (tmp_path / "text.pth").write_text("weights")
        for path in (tmp_path / "text.pth", tmp_path / "nowhere.pth"):
            assert tool.main(["--weights", str(path)]) == 2
            assert str(path) in capsys.readouterr().err

    def test_weights_of_another_backbone(self, weights, capsys):
        assert tool.main(["--weights", str(weights), "--model-name", "osnet_x1_0"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "shufflenet_v2_x0_5" in error and "osnet_x1_0" in error

    def test_a_place_that_cannot_be_written(self, weights, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert tool.main(["--weights", str(weights), "--out", str(tmp_path / "file" / "model.onnx")]) == 2
        error = capsys.readouterr().err
        assert str(tmp_path / "file" / "model.onnx") in error and "--out" in error and "Traceback" not in error

    @pytest.mark.parametrize("factor", [0, torch.nan])
    def test_features_that_are_none(self, factor, weights, tmp_path):
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        with torch.no_grad():
            extractor.model.neck.weight.mul_(factor)
        with pytest.raises(InputError, match=r"have no length 1 .*model\.onnx is not written"):
            export_onnx(extractor, tmp_path / "model.onnx")
        assert not (tmp_path / "model.onnx").exists()

    def test_a_pipe_is_left_alone(self, weights, tmp_path, capsys):
        os.mkfifo(tmp_path / "pipe")
        assert tool.main(["--weights", str(weights), "--out", str(tmp_path / "pipe")]) == 2
        assert "no ordinary file" in capsys.readouterr().err and (tmp_path / "pipe").is_fifo()

    def test_odd_file_names(self, weights, capsys):
        odd = weights.rename(weights.with_name('it\'s <"人物"> two.pth.tar'))
        assert tool.main(["--weights", str(odd)]) == 0
        assert Path(odd.parent, 'it\'s <"人物"> two.onnx').stat().st_size > 0


def _turn_round_other_batches(_model, inputs, features):
    return features if len(inputs[0]) == TRACED_BATCH_SIZE else -features


def _add_what_onnx_lacks(_model, _inputs, features):
    return features + torch.linalg.eigvalsh(features @ features.T).sum()
