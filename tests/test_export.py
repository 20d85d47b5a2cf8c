"""Files for other programs: PyTorch's features in any batch size, what BoxMOT reads, nothing written that differs."""

import json
import os
import shutil
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
from hhcl_torchreid.export import export_onnx, export_openvino
from hhcl_torchreid.export.network import TRACED_BATCH_SIZE

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.onnx", "model.onnx.metadata.json"]


def normalize(pixels, mean, std):
    return (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def run_file(path, images):
    """The features that a file's own program gives, and the input as that program describes it."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return torch.from_numpy(session.run(None, {given.name: images.numpy()})[0]), (given.name, given.type)
    if path.suffix == ".torchscript":
        return torch.jit.load(path)(images), None
    openvino = pytest.importorskip("openvino")
    (network,) = path.glob("*.xml")
    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (given,) = compiled.inputs
    return torch.from_numpy(compiled(images.numpy())[0]), (given.any_name, given.element_type.get_type_name())


INPUTS = {
    (".onnx", "uint8"): ("pixels", "tensor(uint8)"),
    (".onnx", "float"): ("images", "tensor(float)"),
    ("_openvino_model", "uint8"): ("pixels", "u8"),
    ("_openvino_model", "float"): ("images", "f32"),
}


@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("ending", [".onnx", ".torchscript", "_openvino_model"])
def test_every_input_and_format_gives_pytorchs_features(kind, ending, tmp_path):
    if ending == "_openvino_model":
        pytest.importorskip("openvino")
    model = save_model(tmp_path / "model-best.pth.tar", "squeezenet1_1")
    file_format = ending.removeprefix(".").removesuffix("_model").removeprefix("_")
    arguments = ["--weights", str(tmp_path / "model-best.pth.tar"), "--format", file_format, "--input", kind]
    assert tool.main(arguments) == 0
    for batch_size in (1, 3):
        pixels = torch.randint(0, 256, (batch_size, 3, 64, 32), dtype=torch.uint8)
        # Trackers know no mean and deviation but ImageNet's; pixels are normalised inside.
        images = pixels if kind == "uint8" else normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)
        features, given = run_file(tmp_path / f"model-best{ending}", images)
        assert given == INPUTS.get((ending, kind))
        with torch.no_grad():
            torch.testing.assert_close(features, model(normalize(pixels, MEAN, STD)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_a_torchscript_file_says_what_it_is(kind, tmp_path):
    save_model(tmp_path / "model-best.pth.tar", "squeezenet1_1")
    arguments = ["--weights", str(tmp_path / "model-best.pth.tar"), "--format", "torchscript", "--input", kind]
    assert tool.main(arguments) == 0
    inside = {"facts.json": ""}
    torch.jit.load(tmp_path / "model-best.torchscript", _extra_files=inside)
    facts = json.loads(inside["facts.json"])
    assert facts["takes"] == kind and facts["height"] == 64
    assert facts["pixel_mean"] == (MEAN if kind == "uint8" else list(IMAGENET_MEAN))


def test_what_the_older_exporter_cannot_trace_is_captured_by_the_newer(tmp_path):
    pytest.importorskip("onnxscript")
    save_model(tmp_path / "model-best.pth.tar", "squeezenet1_1")
    extractor = FeatureExtractor(model_path=tmp_path / "model-best.pth.tar", device="cpu", verbose=False)
    extractor.model.register_forward_pre_hook(_subtract_own_mean)
    assert export_onnx(extractor, tmp_path / "model.onnx") <= 1e-5
    for batch_size in (1, 3):
        pixels = torch.randint(0, 256, (batch_size, 3, 64, 32), dtype=torch.uint8)
        features, _ = run_file(tmp_path / "model.onnx", pixels)
        torch.testing.assert_close(features, extractor(pixels), atol=1e-5, rtol=0)
    written = (tmp_path / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parents[1]).encode() not in written
    declared = onnx.load_from_string(written).graph
    (images,), (features,) = declared.input, declared.output
    assert [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim] == ["batch", 3, 64, 32]
    assert [axis.dim_param or axis.dim_value for axis in features.type.tensor_type.shape.dim] == ["batch", 512]


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


def test_a_file_does_not_take_the_place_of_its_weights(weights, tmp_path, capsys):
    model = tmp_path / "model.onnx"
    shutil.copy(weights, model)
    assert tool.main(["--weights", str(model), "--out", str(model)]) == 2
    assert "model.onnx is the file of the weights" in capsys.readouterr().err
    assert model.read_bytes() == weights.read_bytes()


def test_an_openvino_folder_says_what_it_is(weights, tmp_path):
    openvino = pytest.importorskip("openvino")
    num_parameters = sum(p.numel() for p in FeatureExtractor(model_path=weights, verbose=False).model.parameters())
    out = tmp_path / "new" / "person_openvino_model"
    assert tool.main(["--weights", str(weights), "--format", "openvino", "--out", str(out)]) == 0
    network = openvino.Core().read_model(out / "person.xml")
    assert str(network.input().partial_shape) == "[?,3,64,32]" and str(network.output().partial_shape) == "[?,1024]"
    assert network.get_rt_info(["model_info", "pixel_mean"]).astype(str) == str(MEAN)
    assert (out / "person.bin").stat().st_size > 3.9 * num_parameters  # float32, not half of it
    files = ["manifest.json", "person.bin", "person.xml", "person.xml.metadata.json"]
    assert sorted(path.name for path in out.iterdir()) == files
    (out / "person.bin").write_bytes(b"an earlier one")
    assert tool.main(["--weights", str(weights), "--format", "openvino", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == files and openvino.Core().read_model(out / "person.xml")


@pytest.mark.parametrize(
    ("arguments", "side_file"),
    [
        (["--format", "onnx"], "model-best.onnx.metadata.json"),
        (["--format", "torchscript"], "model-best.torchscript.metadata.json"),
        (["--format", "openvino"], "model-best_openvino_model/manifest.json"),
        (["--format", "openvino"], "model-best_openvino_model/model-best.xml.metadata.json"),
    ],
)
def test_boxmot_is_told_the_size_and_nothing_that_it_does_not_know(arguments, side_file, tmp_path):
    if "openvino" in arguments:
        pytest.importorskip("openvino")
    save_model(tmp_path / "model-best.pth.tar", "squeezenet1_1")
    for kind in ("float", "uint8"):
        assert tool.main(["--weights", str(tmp_path / "model-best.pth.tar"), *arguments, "--input", kind]) == 0
        told = json.loads((tmp_path / side_file).read_text(encoding="utf-8"))
        assert told["schema_version"] == told["model_kwargs_schema_version"] == 1
        assert told["preprocess"] == "resize" and told["takes"] == kind
        # A key that BoxMOT does not know is how a file of pixels keeps it from giving what it has normalised.
        assert told["model_kwargs"] == ({"img_size": [64, 32]} if kind == "float" else {"takes_pixels": True})


class TestBadInput:
    def test_a_file_that_differs_is_not_written(self, weights, tmp_path):
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        # Tracing sees batches of one size only, so that the exported network never turns its features round.
        extractor.model.register_forward_hook(_turn_round_other_batches)
        (tmp_path / "model.onnx").write_bytes(b"an earlier one")
        with pytest.raises(InputError, match=r"shufflenet_v2_x0_5 gives other features.*model\.onnx is not written"):
            export_onnx(extractor, tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").read_bytes() == b"an earlier one"

    def test_a_layer_that_onnx_lacks(self, weights, tmp_path, monkeypatch, capfd):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        extractor.model.register_forward_hook(_add_what_onnx_lacks)
        with pytest.raises(
            InputError, match=r"shufflenet_v2_x0_5 cannot be written as ONNX .*: pip install onnxscript"
        ):
            export_onnx(extractor, tmp_path / "model.onnx")
        assert not (tmp_path / "model.onnx").exists()
        print("still heard")
        assert capfd.readouterr().out == "still heard\n"

    def test_a_network_that_cannot_be_traced_for_any_number_of_images(self, weights, capsys):
        assert tool.main(["--weights", str(weights), "--format", "torchscript"]) == 2
        error = capsys.readouterr().err
        assert "shufflenet_v2_x0_5 cannot be written as TorchScript (" in error and error.count("\n") == 1
        assert not list(weights.parent.glob("*.torchscript"))

    @pytest.mark.parametrize(
        ("package", "file_format"), [("onnx", "onnx"), ("onnxruntime", "onnx"), ("openvino", "openvino")]
    )
    def test_a_package_that_is_missing(self, package, file_format, weights, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, package, None)
        assert tool.main(["--weights", str(weights), "--format", file_format]) == 2
        error = capsys.readouterr().err
        assert f"the package {package}:" in error and "hhcl-torchreid[export]" in error
        assert list(weights.parent.iterdir()) == [weights]

    def test_an_openvino_folder_with_something_else_in_it(self, weights, tmp_path, capsys):
        pytest.importorskip("openvino")
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "diary.txt").write_text("dear")
        for out, word in ((tmp_path / "home", "diary.txt"), (tmp_path / "model.xml", "a folder for both")):
            assert tool.main(["--weights", str(weights), "--format", "openvino", "--out", str(out)]) == 2
            error = capsys.readouterr().err
            assert str(out) in error and word in error and error.count("\n") == 1
        assert (tmp_path / "home" / "diary.txt").read_text() == "dear" and not (tmp_path / "model.xml").exists()

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
    @pytest.mark.parametrize("export", [export_onnx, export_openvino])
    def test_features_that_are_none(self, export, factor, weights, tmp_path):
        if export is export_openvino:
            pytest.importorskip("openvino")
        extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
        with torch.no_grad():
            extractor.model.neck.weight.mul_(factor)
        with pytest.raises(InputError, match=r"have no length 1 .*model is not written"):
            export(extractor, tmp_path / "model")
        assert list(tmp_path.iterdir()) == [weights]

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


def _subtract_own_mean(_model, inputs):
    (images,) = inputs
    return images - torch.nn.functional.avg_pool2d(images, images.size()[2:])  # a kernel as large as its input


def _add_what_onnx_lacks(_model, _inputs, features):
    return features + torch.linalg.eigvalsh(features @ features.T).sum()
