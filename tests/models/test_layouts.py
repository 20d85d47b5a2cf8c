"""The layouts of other programs, made by renaming a network's own weights: the same features from each of them."""

import argparse
import os
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import SMALL, images_for, plain_model, set_random_statistics
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid import FeatureExtractor, register_backbone
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import build_model, load_from, load_weights, settings_seen_in


def in_order(name, first_stage):
    """A ResNet that is a sequence of layers."""
    stages = {f"layer{number}.": f"{name}.{first_stage - 1 + number}." for number in (1, 2, 3, 4)}
    return {"conv1.": f"{name}.0.", "bn1.": f"{name}.1.", **stages}


HHCL = {**in_order("base", 4), "global_avgpool.p": "gap.p", "neck.": "feat_bn.", "embedding.": "feat."}
MMT = {**in_order("base", 3), "neck.": "feat_bn.", "embedding.": "feat."}
CAP = {**in_order("resnet_conv", 3), "global_avgpool.p": "global_pool.p", "neck.": "bottleneck."}
EVERY = ""  # the beginning of all other names


@pytest.fixture(scope="module")
def shallow():
    """A network with all that lies on top of one."""
    torch.manual_seed(0)
    model = build_model("resnet18", pretrained=False, pooling="gem", last_stride=None, embedding_dim=16)
    set_random_statistics(model)
    return model.eval()


def renamed(weights, names):
    """The weights by other names: the first beginning that fits counts."""
    found = {}
    for key, value in weights.items():
        here = next(beginning for beginning in names if key.startswith(beginning))
        found[names[here] + key.removeprefix(here)] = value
    return found


def save(folder, content):
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def extract(path, name="resnet18"):
    extractor = FeatureExtractor(name, path, image_size=(64, 32), device="cpu", verbose=False)
    return extractor, extractor(images_for(name))


@torch.no_grad()
def assert_gives(path, model, name="resnet18"):
    extractor, features = extract(path, name)
    torch.testing.assert_close(features, model(images_for(name)), atol=1e-6, rtol=0)
    return extractor


def of_program(shallow, program):
    """A file as the program writes it."""
    weights = shallow.state_dict()
    with_bias = {**renamed(weights, {**HHCL}), "feat_bn.bias": torch.zeros(16), "classifier.weight": torch.zeros(7, 16)}
    on_top = {"global_avgpool.p": "heads.pool_layer.p", "neck.": "heads.bottleneck.1."}
    fast = renamed(weights, {**on_top, "embedding.": "heads.bottleneck.0.", EVERY: "backbone."})
    fast["heads.bottleneck.0.weight"] = fast["heads.bottleneck.0.weight"][:, :, None, None]
    return {
        "HHCL": {"state_dict": renamed(with_bias, {EVERY: "module."}), "epoch": 3, "best_mAP": 0.8},
        "BoT": renamed(weights, {"neck.": "bottleneck.", "embedding.": "fcneck.", EVERY: "base."}),
        "fast-reid": {"model": {**fast, "heads.weight": torch.zeros(7, 16)}, "iteration": 9},
        "compiled": {"net": renamed(weights, {EVERY: "_orig_mod.module."})},
        "Lightning": {"state_dict": {**renamed(weights, {EVERY: "model."}), "loss.centers": torch.zeros(7, 16)}},
        "averaged": {"state_dict": with_bias, "state_dict_ema": {**renamed(weights, {EVERY: "module."}), "step": 3}},
        "SpCL with labels of another data set": {"state_dict": of_two_domains(weights)},
        "PPLR": renamed({**with_bias, "bnneck0.weight": torch.ones(16)}, {"feat_bn.": "bnneck.", EVERY: ""}),
        "wrapped twice": {"model": {"state_dict": renamed(weights, {EVERY: "module.module."})}},
        "options beside": {
            "state_dict": weights,
            "args": argparse.Namespace(lr=0.1, out=Path("/logs"), b=np.bool_(True)),
        },
    }[program]


def of_two_domains(weights):
    """HHCL's names, and batch norm twice."""
    there = {}
    for key, value in renamed(weights, HHCL).items():
        layer, _, last = key.rpartition(".")
        if f"{layer}.running_mean" in renamed(weights, HHCL):
            there |= {f"{layer}.BN_T.{last}": value, f"{layer}.BN_S.{last}": value + 1}
        else:
            there[key] = value
    return there


@pytest.mark.parametrize(
    ("program", "layout"),
    [
        ("HHCL", "HHCL, Cluster Contrast, SpCL, ICE, ISE or PPLR"),
        ("PPLR", "HHCL, Cluster Contrast, SpCL, ICE, ISE or PPLR"),
        ("SpCL with labels of another data set", "HHCL, Cluster Contrast, SpCL, ICE, ISE or PPLR"),
        ("averaged", "this package"),
        ("compiled", "this package"),
        ("Lightning", "this package"),
        ("wrapped twice", "this package"),
        ("options beside", "this package"),
    ],
)
def test_every_layout_gives_the_features_of_its_network(shallow, tmp_path, program, layout):
    path = save(tmp_path, of_program(shallow, program))
    model = build_model("resnet18", pretrained=False, pooling="gem", last_stride=None, embedding_dim=16)
    report = load_from(model, load_checkpoint(path), path)
    assert (report.layout, report.matched, report.total, report.missing) == (layout, 100, 100, [])
    torch.testing.assert_close(model.state_dict(), shallow.state_dict())
    assert report.settings["pooling"] == "gem" and report.settings["embedding_dim"] == 16
    if layout != "this package":  # whose last stage has stride 1
        assert_gives(path, shallow)


def test_the_report_names_what_was_skipped_and_what_was_seen(shallow, tmp_path):
    path = save(tmp_path, of_program(shallow, "HHCL"))
    model = build_model("resnet18", pretrained=False, pooling="gem", embedding_dim=16)
    text = str(load_from(model, load_checkpoint(path), path))
    for part in (str(path), "100 of 100", "module.classifier.weight", "model.pooling gem", "model.last_stride None"):
        assert part in text


def test_the_report_of_a_checkpoint_says_what_its_configuration_says(tmp_path):
    settings = {"pooling": "max", "last_stride": 2, "bnneck": False}
    model = build_model("resnet18", pretrained=False, **settings)
    cfg = load_config(overrides={"model.name": "resnet18", **{f"model.{key}": settings[key] for key in settings}})
    path = save(tmp_path, {"state_dict": model.state_dict(), "config": cfg.dump()})
    expected = {"name": "resnet18", **settings, "embedding_dim": 0}
    assert load_from(model, load_checkpoint(path), path).settings == expected


@pytest.mark.parametrize(("layer", "stride"), [("conv2", None), ("conv3", 1)])
def test_stride_is_1_from_depth_50_on(shallow, layer, stride):
    content = {**of_program(shallow, "HHCL")["state_dict"], f"module.base.4.0.{layer}.weight": torch.zeros(1)}
    assert settings_seen_in("resnet18", content, "weights.pth")["last_stride"] == stride


@pytest.mark.parametrize(("program", "family"), [("BoT", "bot"), ("fast-reid", "fastreid")])
def test_a_program_with_a_stem_of_its_own_gets_its_network(shallow, tmp_path, program, family):
    path = save(tmp_path, of_program(shallow, program))
    expected = build_model("resnet18", pretrained=False, pooling="gem", last_stride=1, embedding_dim=16)
    expected.load_state_dict(shallow.state_dict())
    stem = expected.eval().backbone
    if program == "BoT":
        stem.relu = nn.Identity()
    else:
        stem.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    extractor = assert_gives(path, expected)
    assert extractor.model.name == f"{family}/resnet18"
    plain = build_model("resnet18", pretrained=False, pooling="gem", embedding_dim=16)
    assert load_weights(plain, path) == []  # a start for another network all the same
    with pytest.raises(InputError, match=rf"there is no {family}/osnet_x0_25: choose {family}/ and one of resnet18"):
        build_model(f"{family}/{SMALL}", pretrained=False)


@pytest.mark.parametrize(("names", "last_stride"), [(MMT, None), (CAP, 1)], ids=["MMT", "CAP"])
def test_a_sequence_of_layers_without_a_relu(shallow, tmp_path, names, last_stride):
    weights = {key: value for key, value in shallow.state_dict().items() if "embedding" not in key}
    weights = {key: value for key, value in weights.items() if key != "global_avgpool.p" or names is CAP}
    weights |= {f"neck.{name}": torch.rand(512) + 0.5 for name in ("weight", "running_mean", "running_var")}
    pooling = "gem" if names is CAP else "avg"
    expected = build_model("bot/resnet18", pretrained=False, pooling=pooling, last_stride=last_stride)
    expected.load_state_dict(weights, strict=False)
    extractor = assert_gives(save(tmp_path, renamed(weights, {**names, EVERY: "module."})), expected.eval())
    assert extractor.model.name == "bot/resnet18"


def test_the_last_block_of_transreid_is_that_of_its_global_branch(tmp_path):
    name = "timm/vit_tiny_patch16_224"
    torch.manual_seed(0)
    model = build_model(name, pretrained=False, image_size=(64, 32))
    weights = model.state_dict()
    branch = renamed(
        {key: value for key, value in weights.items() if key.startswith(("blocks.11.", "norm."))},
        {"blocks.11.": "b1.0.", "norm.": "b1.1."},
    )
    parts = {
        "b2.1.weight": torch.ones(192),
        "bottleneck_1.weight": torch.ones(192),
        "base.sie_embed": torch.ones(6, 192),
    }
    trunk = renamed(weights, {"neck.": "bottleneck.", "blocks.11.": "unused.", "norm.": "unused.", EVERY: "base."})
    trunk = {key: value for key, value in trunk.items() if not key.startswith("unused.")}
    untrained = {key.replace("b1.0.", "base.blocks.11."): value + 1 for key, value in branch.items()}
    untrained = {key.replace("b1.1.", "base.norm."): value for key, value in untrained.items()}
    assert_gives(save(tmp_path, {**branch, **parts, **trunk, **untrained}), model.eval(), name)


def test_safetensors(shallow, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(renamed(shallow.state_dict(), {**HHCL}), path)
    assert_gives(path, shallow)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read as weights"):
        load_checkpoint(path)


@pytest.mark.parametrize("neck", ["heads.bnneck", "heads.bnneck.0", "heads.bottleneck.0"])
def test_every_fast_reid_has_its_neck(shallow, neck):
    names = {"neck.": f"{neck}.", "embedding.": "heads.classifier.", EVERY: "backbone."}
    seen = settings_seen_in("resnet18", {"model": renamed(shallow.state_dict(), names)}, "weights.pth")
    assert seen["bnneck"] and seen["embedding_dim"] == 0 and seen["name"] == "fastreid/resnet18"


def test_what_fast_reid_had_between_embedding_and_neck_is_not_left_out(shallow, tmp_path):
    names = {"neck.": "heads.bnneck.", "embedding.": "heads.bottleneck.0.", EVERY: "backbone."}
    weights = renamed(shallow.state_dict(), names)
    between = {key.replace("bnneck", "bottleneck.1"): value for key, value in weights.items() if "bnneck" in key}
    with pytest.raises(InputError, match=r"has no embedding\.leaky relu and neck"):
        load_weights(shallow, save(tmp_path, {"model": weights | between}))


def test_moco_leaves_its_head_and_its_queue_behind(tmp_path):
    plain = plain_model("resnet18").eval()
    weights = {key: value for key, value in plain.state_dict().items() if not key.startswith("classifier")}
    encoder = {**weights, "fc.0.weight": torch.zeros(9, 512), "fc.2.bias": torch.zeros(9)}
    both = {f"module.encoder_{letter}.{key}": value for letter in "kq" for key, value in encoder.items()}
    path = save(tmp_path, {"arch": "resnet18", "state_dict": {**both, "module.queue": torch.zeros(9, 4)}})
    with torch.no_grad():
        expected = F.normalize(plain(images_for("resnet18")))
    torch.testing.assert_close(extract(path)[1], expected, atol=1e-6, rtol=0)


def test_a_network_may_call_its_layers_as_wrappers_are_called(registry, tmp_path):
    class Own(nn.Module):
        def __init__(self, pretrained=False):
            super().__init__()
            self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, images):
            return self.model(images)

    register_backbone("own", Own)
    model = build_model("own", pretrained=False).eval()
    assert_gives(save(tmp_path, model.state_dict()), model, "own")


class TestBadInput:
    @staticmethod
    @cache
    def built(name, **settings):
        return build_model(name, pretrained=False, **settings)

    def refused(self, path, *named, name="resnet18", **settings):
        model = self.built(name, **settings)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(InputError) as caught:
            load_weights(model, path)
        for part in (str(path), *named):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
        torch.testing.assert_close(model.state_dict(), before)

    def test_settings_that_the_file_has_are_named(self, shallow, tmp_path):
        path = save(tmp_path, of_program(shallow, "HHCL"))
        self.refused(path, "has no pooling.p", "set model.pooling gem", embedding_dim=16)
        self.refused(path, "set model.embedding_dim 16, as the file's network has", pooling="gem")
        self.refused(path, "set model.bnneck True", pooling="gem", embedding_dim=16, bnneck=False)

    def test_a_neck_with_a_bias(self, shallow, tmp_path):
        content = {**of_program(shallow, "BoT"), "bottleneck.bias": torch.ones(16)}
        self.refused(save(tmp_path, content), "the file's neck has a bias", pooling="gem", embedding_dim=16)

    def test_nine_tenths_of_the_backbone_will_do_and_less_will_not(self, tmp_path):
        weights = {key: value for key, value in plain_model("resnet18").state_dict().items() if "classifier" not in key}
        left_out = [key for key in weights if key.startswith("layer1.1.conv")]
        content = {key: value for key, value in weights.items() if key not in left_out}
        model = build_model("resnet18", pretrained=False, bnneck=False)
        with pytest.warns(UserWarning, match="left as initialised"):
            assert load_weights(model, save(tmp_path, content)) == left_out
        half = dict(list(weights.items())[::2])
        self.refused(save(tmp_path, half), "the file has no bn1.weight", "60 of 100 weights")
        large = {key: value for key, value in weights.items() if key != "layer4.1.conv2.weight"}
        self.refused(save(tmp_path, large), "the file has no layer4.1.conv2.weight", "99 of 100")

    def test_another_architecture_and_another_depth(self, shallow, tmp_path):
        path = save(tmp_path, of_program(shallow, "HHCL"))
        self.refused(path, "does not hold weights of this osnet_x0_25", name=SMALL)
        self.refused(
            path, "does not hold weights of this resnet34", "has no layer1.2", name="resnet34", embedding_dim=16
        )

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_what_is_no_number(self, shallow, tmp_path, value):
        weights = {**shallow.state_dict(), "bn1.weight": torch.full((64,), value)}
        self.refused(save(tmp_path, weights), "NaN or infinity in bn1.weight", pooling="gem", embedding_dim=16)

    def test_no_numbers_at_all(self, tmp_path):
        weights = {key: value.to("meta") for key, value in plain_model("resnet18").state_dict().items()}
        self.refused(save(tmp_path, weights), "no numbers for conv1.weight", "save it on the CPU")

    def test_a_model_that_has_no_numbers_takes_none(self, shallow, tmp_path):
        with torch.device("meta"):
            model = build_model("resnet18", pretrained=False, pooling="gem", embedding_dim=16)
        with pytest.raises(InputError, match="this resnet18 is on the meta device"):
            load_weights(model, save(tmp_path, shallow.state_dict()))

    def test_more_than_float32_holds_is_no_number(self, tmp_path):
        weights = plain_model("resnet18").double().state_dict()
        weights["bn1.weight"][0] = 1e300
        self.refused(save(tmp_path, weights), "NaN or infinity in bn1.weight")

    def test_numbers_of_eight_bits(self, shallow, tmp_path):
        weights = {**shallow.state_dict(), "bn1.weight": torch.full((64,), 0.5).to(torch.float8_e4m3fn)}
        model = self.built("resnet18", pooling="gem", embedding_dim=16)
        load_weights(model, save(tmp_path, weights))
        assert torch.equal(model.state_dict()["bn1.weight"], torch.full((64,), 0.5))
        weights["bn1.weight"] = torch.full((64,), torch.nan).to(torch.float8_e4m3fn)
        self.refused(save(tmp_path, weights), "NaN or infinity in bn1.weight", pooling="gem", embedding_dim=16)

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_a_tensor_of_tensors(self, tmp_path):
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
        self.refused(save(tmp_path, {"conv1.weight": nested}), "holds a tensor of tensors that is sparse, quantised")

    def test_what_is_in_itself_ten_times_over(self, tmp_path):
        inside = [0] * 10
        for _ in range(30):
            inside = [inside] * 10
        self.refused(save(tmp_path, {"conv1.weight": torch.zeros(1), "options": inside}), "holds more parts than any")

    def test_a_name_that_no_line_has_room_for(self, tmp_path):
        weights = {**plain_model("resnet18").state_dict(), "x" * 10**5: torch.zeros(1)}
        with pytest.raises(InputError, match=r"the model has no \.\.\.") as refusal:
            load_weights(self.built("resnet18"), save(tmp_path, weights))
        assert len(str(refusal.value)) < 1000

    def test_files_of_other_kinds(self, shallow, tmp_path):
        path = save(tmp_path, shallow.state_dict())
        path.write_bytes(path.read_bytes()[:-4000])
        self.refused(path, "cannot be read as weights")
        torch.jit.save(torch.jit.script(nn.ReLU()), path)
        self.refused(path, "it is a TorchScript program")
        graph = onnx.helper.make_graph([], "empty", [], [])
        onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), path)
        self.refused(path, "it is an ONNX model")

    def test_a_file_that_would_run_code_says_what(self, tmp_path):
        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        content = {"state_dict": plain_model(SMALL).state_dict(), "args": argparse.Namespace(hook=Attack())}
        self.refused(save(tmp_path, content), "it asks for posix.mkdir, which could run code")
        assert not (tmp_path / "ran").exists()
