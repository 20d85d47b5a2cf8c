"""Weights from files: of this package, of torchreid, of torchvision; and of another model."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchreid
from networks import SMALL, images_for, plain_model, set_random_statistics
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid import register_backbone
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import build_model, load_weights


def write(path, content):
    torch.save(content, path)
    return path


class TestLoadWeights:
    @pytest.fixture
    def source(self):
        model = build_model(SMALL, pretrained=False)
        set_random_statistics(model)
        return model

    @pytest.fixture
    def target(self):
        return build_model(SMALL, pretrained=False)

    def assert_same(self, source, target):
        for key, value in source.state_dict().items():
            assert torch.equal(value.cpu(), target.state_dict()[key]), key  # DataParallel takes it to a GPU

    def test_our_checkpoint(self, source, target, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_weights(target, write(tmp_path / "w.pth", {"state_dict": source.state_dict()})) == []
        self.assert_same(source, target)

    def test_bare_state_dict_of_a_wrapped_model(self, source, target, tmp_path):
        assert load_weights(target, write(tmp_path / "w.pth", nn.DataParallel(source).state_dict())) == []
        self.assert_same(source, target)

    def test_torchreids_own_checkpoint_leaves_the_neck_as_initialised(self, target, tmp_path):
        plain = plain_model(SMALL)
        set_random_statistics(plain)
        state = {"state_dict": plain.state_dict(), "epoch": 3, "rank1": np.float64(0.5), "optimizer": {}}
        torchreid.utils.save_checkpoint(state, str(tmp_path))
        with pytest.warns(UserWarning, match=r"neck\.weight.*left as initialised"):
            missing = load_weights(target, tmp_path / "model.pth.tar-3")
        assert missing == ["neck.weight", "neck.running_mean", "neck.running_var"]
        images = images_for(SMALL)
        with torch.no_grad():
            torch.testing.assert_close(target.eval()(images), F.normalize(plain.eval()(images)))

    def test_imagenet_weights_of_torchvision(self, tmp_path):
        weights = plain_model("resnet18").state_dict()
        weights["fc.weight"], weights["fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
        weights = {k: v for k, v in weights.items() if not k.startswith("classifier") and "num_batches" not in k}
        model = build_model("resnet18", pretrained=False)
        with pytest.warns(UserWarning, match="left as initialised"):
            load_weights(model, write(tmp_path / "resnet18.pth", weights))
        assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])

    def test_old_names_of_densenet(self, tmp_path):
        source = build_model("densenet121", pretrained=False)
        old = {
            key.replace("norm1.", "norm.1.") if "denselayer" in key else key: value
            for key, value in source.state_dict().items()
        }
        assert any("norm.1." in key for key in old)
        target = build_model("densenet121", pretrained=False)
        load_weights(target, write(tmp_path / "densenet.pth", old))
        self.assert_same(source, target)

    def test_half_precision_becomes_float32(self, source, target, tmp_path):
        halves = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
        load_weights(target, write(tmp_path / "half.pth", halves))
        assert all(value.dtype != torch.float16 for value in target.state_dict().values())
        torch.testing.assert_close(target.state_dict(), source.state_dict(), atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
    def test_weights_of_which_a_part_would_be_lost(self, source, target, tmp_path, dtype):
        before = {key: value.clone() for key, value in target.state_dict().items()}
        poorer = {key: value.to(dtype) for key, value in source.state_dict().items()}
        name = str(dtype).removeprefix("torch.")
        with pytest.raises(InputError, match=rf"w.pth holds {name} for \S+, of which too little is left as float32"):
            load_weights(target, write(tmp_path / "w.pth", poorer))
        assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())

    @pytest.mark.parametrize(
        ("other", "settings", "mismatch"),
        [
            ("osnet_x0_5", {}, r"conv1.conv.weight is \[32, 3, 7, 7\] in the file and \[16, 3, 7, 7\] in the model"),
            ("resnet18", {}, r"conv1.weight"),
            (SMALL, {"embedding_dim": 8}, r"neck.weight is \[8\]"),
            (SMALL, {"pooling": "gem"}, "the model has no global_avgpool.p"),
        ],
    )
    def test_checkpoint_of_another_model_changes_nothing(self, target, tmp_path, other, settings, mismatch):
        before = {key: value.clone() for key, value in target.state_dict().items()}
        content = build_model(other, pretrained=False, **settings).state_dict()
        with pytest.raises(InputError, match=rf"other.pth does not hold weights of this {SMALL} \(.*{mismatch}"):
            load_weights(target, write(tmp_path / "other.pth", content))
        assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())

    def test_deeper_model_and_cut_off_model(self, tmp_path):
        shallow, deep = (build_model(name, pretrained=False) for name in ("resnet18", "resnet34"))
        with pytest.raises(InputError, match=r"the model has no layer1.2"):
            load_weights(shallow, write(tmp_path / "deep.pth", deep.state_dict()))
        with pytest.raises(InputError, match=r"the file has no layer1.2"):
            load_weights(deep, write(tmp_path / "shallow.pth", shallow.state_dict()))

    def test_layers_of_an_own_network_that_do_not_reach_the_features_are_ignored(self, registry, tmp_path):
        def build(pretrained):
            network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            network[0].heads = nn.ModuleList([nn.Linear(4, 9)])
            return network

        register_backbone("my-net.v2", build)
        plain, model = build(False), build_model("my-net.v2", pretrained=False, bnneck=False)
        assert model.removed_layers == ("0.heads",)
        assert load_weights(model, write(tmp_path / "own.pth", plain.state_dict())) == []
        assert torch.equal(model.state_dict()["0.weight"], plain[0].weight)
        with pytest.raises(InputError, match=r"set model.name my-net.v2"):
            content = {"state_dict": plain.state_dict(), "config": "model:\n  name: my-net.v2\n"}
            load_weights(build_model(SMALL, pretrained=False), write(tmp_path / "named.pth", content))

    @pytest.mark.parametrize(
        "extra",
        [{"model_name": "resnet18"}, {"config": "data:\n  name: x\nmodel:\n  pooling: avg\n  name: resnet18\n"}],
    )
    def test_names_the_backbone_the_checkpoint_names(self, target, tmp_path, extra):
        content = {"state_dict": plain_model("resnet18").state_dict(), **extra}
        with pytest.raises(InputError, match=r"set model.name resnet18"):
            load_weights(target, write(tmp_path / "resnet.pth", content))

    def test_missing_file(self, target, tmp_path):
        with pytest.raises(InputError, match=r"none.pth does not exist"):
            load_weights(target, tmp_path / "none.pth")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off", pickle.dumps({"a": 1}, 2)])
    def test_file_that_is_no_checkpoint(self, target, tmp_path, content):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"w.pth (cannot be read|holds no state dict)"):
            load_weights(target, tmp_path / "w.pth")

    @pytest.mark.parametrize("content", [[1, 2], {"epoch": 1}, {"state_dict": 5}])
    def test_checkpoint_without_weights(self, target, tmp_path, content):
        with pytest.raises(InputError, match="holds no state dict"):
            load_weights(target, write(tmp_path / "w.pth", content))

    def test_empty_state_dict(self, target, tmp_path):
        with pytest.raises(InputError, match="the file has no conv1"):
            load_weights(target, write(tmp_path / "w.pth", {}))

    def test_cannot_run_code(self, target, tmp_path):
        path = write(tmp_path / "evil.pth", {"state_dict": RunsCode(tmp_path / "ran")})
        with pytest.raises(InputError, match="cannot be read as weights"):
            load_weights(target, path)
        assert not (tmp_path / "ran").exists()


class RunsCode:
    """Unpickling creates a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
