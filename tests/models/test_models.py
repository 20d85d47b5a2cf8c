"""Every backbone of torchreid's factory, as a network that gives unit vectors and can be trained whole."""

import copy
import pickle
import socket
import warnings

import numpy as np
import pytest
import torch
import torchreid
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.network import (
    POOLINGS,
    GlobalPooling,
    ReIDModel,
    available_backbones,
    build_model,
    check_input_size,
    load_weights,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*upsample.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Default (grid_sample|affine_grid)"),
]

FIXED_POOLING = ("hacnn", "mudeep", "pcb_p4", "pcb_p6")
POOLING_BY_FUNCTION = ("shufflenet", "nasnsetmobile")
ONE_OF_EACH_KIND_WITH_POOLING = (
    *POOLING_BY_FUNCTION,
    *("resnet18", "se_resnet50", "densenet121", "squeezenet1_1", "inceptionresnetv2", "inceptionv4", "xception"),
    *("resnet50_ibn_a", "resnet50_ibn_b", "mobilenetv2_x1_0", "shufflenet_v2_x0_5", "resnet50mid", "mlfn"),
    *("osnet_x0_25", "osnet_ain_x0_25"),
)
WITHOUT_PRETRAINED_WEIGHTS = (
    *("hacnn", "mlfn", "mobilenetv2_x1_0", "mobilenetv2_x1_4"),
    *("mudeep", "shufflenet", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
)
SMALL = "osnet_x0_25"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny images leave a second thread nothing to do but to wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plain_model(name):
    return torchreid.models.build_model(name, num_classes=5, loss="triplet", pretrained=False, use_gpu=False)


def images_for(name, count=2):
    sizes = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionresnetv2": (80, 80), "inceptionv4": (80, 80)}
    return torch.rand(count, 3, *sizes.get(name, (64, 32)), generator=torch.Generator().manual_seed(0))


def is_unit(features):
    return features.dtype == torch.float32 and torch.allclose(features.norm(dim=1), torch.ones(len(features)))


def set_random_statistics(model):
    """Move batch norm away from its initial state, in which running statistics have no effect."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.uniform_(-0.1, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)


@pytest.fixture(scope="module")
def small_model():
    return build_model(SMALL, pretrained=False)


class TestEveryBackbone:
    def test_there_are_49(self):
        assert len(available_backbones()) == 49

    @pytest.mark.parametrize("name", available_backbones())
    def test_trains_and_evaluates(self, name):
        model = build_model(name, pretrained=False)
        images = images_for(name)
        features = model(images)
        assert features.shape == (2, model.feature_dim)
        assert is_unit(features)
        (features @ torch.randn(model.feature_dim)).sum().backward()
        assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
        with torch.no_grad():
            features = model.eval()(images)
        assert features.shape == (2, model.feature_dim)
        assert is_unit(features)

    @pytest.mark.parametrize("name", available_backbones())
    def test_is_torchreids_model_in_weights_and_features(self, name):
        plain = plain_model(name).eval()
        set_random_statistics(plain)
        model = ReIDModel(name, copy.deepcopy(plain))
        images = images_for(name, count=1)
        with torch.no_grad():
            expected = F.normalize(plain(images))
            torch.testing.assert_close(model.eval()(images), expected)
            model.train()
            for layer in model.modules():
                if isinstance(layer, (nn.Dropout, nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)):
                    layer.eval()
            torch.testing.assert_close(model(images.expand(2, -1, -1, -1)), expected.expand(2, -1))
        removed = tuple(f"{layer}." for layer in model.removed_layers)
        backbone_keys = [key for key in model.state_dict() if not key.startswith("neck.")]
        assert backbone_keys == [key for key in plain.state_dict() if not key.startswith(removed)]

    @pytest.mark.parametrize(
        ("name", "pooling"),
        [(name, "gem") for name in ONE_OF_EACH_KIND_WITH_POOLING]
        + [(name, pooling) for name in POOLING_BY_FUNCTION for pooling in ("max", "avg+max")],
    )
    def test_takes_every_pooling(self, name, pooling):
        model = build_model(name, pretrained=False, pooling=pooling)
        model(images_for(name))[:, 0].sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        exponents = {key for key in model.state_dict() if key.endswith(".p")}
        assert len(exponents) == (pooling == "gem")
        with torch.device("meta"):
            plain = plain_model(name)
        neck = {"neck.weight", "neck.running_mean", "neck.running_var", "neck.num_batches_tracked"}
        assert set(model.state_dict()) - set(plain.state_dict()) == exponents | neck


class TestLayersThatDoNotReachTheFeatures:
    def test_are_removed(self):
        assert build_model("resnet18", pretrained=False).removed_layers == ("classifier",)
        assert build_model("pcb_p4", pretrained=False).removed_layers == ("conv5", "classifier")
        assert build_model("hacnn", pretrained=False).removed_layers == ("classifier_global", "classifier_local")

    def test_do_not_stop_distributed_training(self, tmp_path):
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            model = nn.parallel.DistributedDataParallel(build_model("pcb_p4", pretrained=False))
            for _ in range(3):  # the second step is the first that notices a parameter without gradient
                model(images_for("pcb_p4")).sum().backward()
            assert next(iter(model.state_dict())) == "module.conv1.weight"
        finally:
            torch.distributed.destroy_process_group()


class TestBuilding:
    def test_leaves_random_numbers_and_statistics_alone(self):
        plain = plain_model("resnet18")
        before = {key: value.clone() for key, value in plain.state_dict().items()}
        state = torch.get_rng_state()
        model = ReIDModel("resnet18", plain)
        assert torch.equal(state, torch.get_rng_state())
        for key, value in model.state_dict().items():
            if not key.startswith("neck."):
                assert torch.equal(value, before[key])

    def test_works_where_gradients_are_off(self):
        with torch.no_grad():
            assert build_model(SMALL, pretrained=False).removed_layers == ("classifier",)

    def test_can_be_copied_and_pickled(self, small_model):
        for twin in (copy.deepcopy(small_model), pickle.loads(pickle.dumps(small_model))):
            assert list(twin.state_dict()) == list(small_model.state_dict())
            twin.load_state_dict(small_model.state_dict())

    @pytest.mark.parametrize("name", ["resnet18", "hacnn", "mudeep", "pcb_p4"])
    def test_channels_last_and_autocast_still_give_float32_unit_rows(self, name):
        model = build_model(name, pretrained=False, pooling="avg" if name in FIXED_POOLING else "gem")
        model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = model(images_for(name))
        assert is_unit(features)


class TestPooling:
    def feature_map(self):
        return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))

    def slow(self, pool):
        return torch.stack([torch.stack([pool(channel) for channel in image]) for image in self.feature_map()])

    def test_gem_against_its_formula(self):
        pooling = GlobalPooling("gem")
        with torch.no_grad():
            pooling.p.fill_(2.5)

        def generalized_mean(channel):
            total = sum(max(value, 1e-6) ** 2.5 for value in channel.flatten().tolist())
            return torch.tensor((total / channel.numel()) ** (1 / 2.5))

        result = pooling(self.feature_map())
        assert result.shape == (2, 3, 1, 1)
        torch.testing.assert_close(result[:, :, 0, 0], self.slow(generalized_mean))

    def test_gem_starts_at_three_and_learns(self):
        pooling = GlobalPooling("gem")
        assert pooling.p.tolist() == [3.0]
        pooling(self.feature_map()).sum().backward()
        assert pooling.p.grad.abs() > 0

    def test_gem_of_small_half_precision_values_does_not_underflow(self):
        feature_map = torch.full((1, 1, 2, 2), 1e-4, dtype=torch.float16)
        result = GlobalPooling("gem")(feature_map)
        assert result.dtype == torch.float16
        torch.testing.assert_close(result.flatten(), feature_map.flatten()[:1])

    def test_max(self):
        torch.testing.assert_close(GlobalPooling("max")(self.feature_map())[:, :, 0, 0], self.slow(torch.max))

    def test_avg_max_is_the_sum_of_both(self):
        expected = self.slow(torch.max) + self.slow(torch.mean)
        torch.testing.assert_close(GlobalPooling("avg+max")(self.feature_map())[:, :, 0, 0], expected)

    @pytest.mark.parametrize(("name", "last_layer"), list(zip(POOLING_BY_FUNCTION, ("stage4", "relu"), strict=True)))
    def test_takes_the_place_of_a_pooling_function(self, name, last_layer):
        model = build_model(name, pretrained=False, pooling="max", bnneck=False).eval()
        layers = getattr(model.backbone, last_layer)
        maps = []
        layers[-2].register_forward_hook(lambda module, inputs, output: maps.append(output))
        with torch.no_grad():
            features = model(images_for(name))
        torch.testing.assert_close(features, F.normalize(maps[-1].amax((2, 3))))

    @pytest.mark.parametrize("name", FIXED_POOLING)
    @pytest.mark.parametrize("pooling", POOLINGS[1:])
    def test_refused_in_one_sentence_where_it_is_fixed(self, name, pooling):
        with pytest.raises(InputError, match=f"^{name} .*set it to avg") as refusal:
            build_model(name, pretrained=False, pooling=pooling)
        assert "\n" not in str(refusal.value)


class TestLastStride:
    @pytest.mark.parametrize(
        "name", ["resnet18", "resnet50_fc512", "resnet50_ibn_a", "resnet50_ibn_b", "se_resnet50", "se_resnext50_32x4d"]
    )
    def test_one_doubles_the_last_feature_map(self, name):
        sizes = []
        for last_stride in (1, 2):
            model = build_model(name, pretrained=False, last_stride=last_stride).eval()
            model.backbone.layer4.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2:]))
            with torch.no_grad():
                model(images_for(name))
        assert sizes == [(4, 2), (2, 1)]

    def test_has_no_effect_where_there_is_no_such_stage(self):
        assert build_model("densenet121", pretrained=False, last_stride=1).feature_dim == 1024


class TestTop:
    def test_neck_then_unit_length(self):
        model = build_model(SMALL, pretrained=False).eval()
        set_random_statistics(model)
        images = images_for(SMALL)
        with torch.no_grad():
            raw = model.backbone(images)
            neck = model.neck
            normalised = (raw - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight
            torch.testing.assert_close(model(images), normalised / normalised.norm(dim=1, keepdim=True))

    def test_without_neck_the_features_are_the_backbones(self):
        model = build_model(SMALL, pretrained=False, bnneck=False).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(images_for(SMALL)), F.normalize(model.backbone(images_for(SMALL))))
        assert list(model.state_dict())[-1].startswith("fc.")

    def test_neck_stays_without_bias_when_torchreid_opens_all_layers(self):
        model = build_model(SMALL, pretrained=False)
        before = model.neck.weight.clone()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(2):
            torchreid.utils.open_all_layers(model)
            optimizer.zero_grad()
            model(images_for(SMALL, count=4))[:, 0].sum().backward()
            optimizer.step()
        assert not torch.equal(model.neck.weight, before)
        outputs = []
        model.neck.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        model(images_for(SMALL, count=4))
        torch.testing.assert_close(outputs[0].mean(0), torch.zeros(512), atol=1e-5, rtol=0)
        assert not any(key == "neck.bias" for key in model.state_dict())

    def test_torchreid_may_open_single_layers(self, small_model):
        model = copy.deepcopy(small_model)
        torchreid.utils.open_specified_layers(model, ["backbone"])
        assert model(images_for(SMALL)).shape == (2, 512)

    def test_embedding_layer(self):
        model = build_model(SMALL, pretrained=False, embedding_dim=16)
        assert model.feature_dim == 16
        assert model(images_for(SMALL)).shape == (2, 16)
        assert not model.embedding.bias.any()
        # fan_out of a 512 -> 16 layer: variance 2 / 16
        assert model.embedding.weight.std().item() == pytest.approx((2 / 16) ** 0.5, rel=0.05)

    def test_dropout_acts_in_training_only_and_keeps_unit_length(self):
        model = build_model(SMALL, pretrained=False, dropout=0.5)
        features = model(images_for(SMALL))
        assert is_unit(features)
        assert 0.3 < (features == 0).float().mean() < 0.7
        assert not (model.eval()(images_for(SMALL)) == 0).any()

    def test_a_single_image_cannot_train_the_neck(self, small_model):
        with pytest.raises(InputError, match="two images"):
            small_model.train()(images_for(SMALL, count=1))


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"name": "resnet5O"}, "no model 'resnet5O': did you mean resnet50"),
            ({"name": "zzz"}, "no model 'zzz': choose one of resnet18"),
            ({"name": SMALL, "pooling": "mean"}, "choose one of avg, max, gem, avg\\+max"),
            ({"name": SMALL, "last_stride": 3}, "choose 1 or 2"),
            ({"name": SMALL, "embedding_dim": -1}, "whole number"),
            ({"name": SMALL, "embedding_dim": 0.5}, "whole number"),
            ({"name": SMALL, "dropout": 1.0}, "from 0 to below 1"),
            ({"name": SMALL, "dropout": float("nan")}, "from 0 to below 1"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(InputError, match=message):
            build_model(pretrained=False, **settings)

    def test_image_size(self):
        check_input_size("resnet50", 64, 32)
        check_input_size("hacnn", 160, 64)
        with pytest.raises(InputError, match="hacnn takes images of 160 x 64 pixels only, not 256 x 128"):
            check_input_size("hacnn", 256, 128)
        with pytest.raises(InputError, match=r"set data.height 256 data.width 128"):
            build_model("mudeep", pretrained=False)(torch.rand(2, 3, 128, 64))


class TestStateDict:
    def test_round_trip_is_strict_also_when_wrapped(self):
        settings = {"pretrained": False, "pooling": "gem", "embedding_dim": 8}
        source = nn.DataParallel(build_model(SMALL, **settings))
        target = nn.DataParallel(build_model(SMALL, **settings))
        target.load_state_dict(source.state_dict())
        assert list(source.state_dict()) == [f"module.{key}" for key in source.module.state_dict()]
        for key, value in target.state_dict().items():
            assert torch.equal(value, source.state_dict()[key])

    def test_unknown_key_is_noticed(self, small_model):
        state_dict = {**small_model.state_dict(), "conv9.weight": torch.zeros(1)}
        with pytest.raises(RuntimeError, match="conv9"):
            small_model.load_state_dict(state_dict)

    @pytest.mark.parametrize("name", ["resnet18", SMALL])
    def test_plain_torchreid_takes_every_weight_of_the_backbone(self, name, tmp_path):
        model = build_model(name, pretrained=False, pooling="gem", embedding_dim=8)
        set_random_statistics(model)
        torch.save({"state_dict": model.state_dict()}, tmp_path / "ours.pth")
        plain = plain_model(name)
        torchreid.utils.load_pretrained_weights(plain, str(tmp_path / "ours.pth"))
        loaded = {key: value for key, value in plain.state_dict().items() if not key.startswith("classifier.")}
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.items())

    @pytest.mark.parametrize("name", available_backbones())
    def test_no_backbone_has_layers_of_our_names(self, name):
        with torch.device("meta"):
            plain = plain_model(name)
        assert not {"embedding", "neck", "backbone"} & {child for child, _ in plain.named_children()}


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
        shallow, deep = (build_model(name, pretrained=False) for name in ("resnet50", "resnet101"))
        with pytest.raises(InputError, match=r"the model has no layer3.6"):
            load_weights(shallow, write(tmp_path / "deep.pth", deep.state_dict()))
        with pytest.raises(InputError, match=r"the file has no layer3.6"):
            load_weights(deep, write(tmp_path / "shallow.pth", shallow.state_dict()))

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
        import os

        return os.mkdir, (str(self.path),)


class TestPretrained:
    @pytest.fixture(autouse=True)
    def without_network(self, monkeypatch, tmp_path):
        def refuse(*args, **kwargs):
            raise OSError("no network in tests")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def cached(self, tmp_path, content):
        folder = tmp_path / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        torch.save(content, folder / "resnet18-5c106cde.pth")

    # One per source: pytorch.org, lip6.fr, Google Drive.
    @pytest.mark.parametrize("name", ["resnet18", "inceptionv4", SMALL, "osnet_ain_x0_25"])
    def test_without_network_says_what_to_do(self, name):
        with pytest.raises(InputError, match=f"ImageNet weights of {name} .*model.pretrained False") as refusal:
            build_model(name)
        assert "model.load_weights FILE" in str(refusal.value)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("name", WITHOUT_PRETRAINED_WEIGHTS)
    def test_warns_where_torchreid_has_none(self, name):
        with pytest.warns(UserWarning, match=f"no ImageNet weights for {name}"):
            build_model(name)

    def test_uses_the_weights_torchreid_cached(self, tmp_path):
        weights = plain_model("resnet18").state_dict()
        self.cached(tmp_path, weights)
        model = build_model("resnet18")
        assert torch.equal(model.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])

    @pytest.mark.parametrize("users_choice", [None, "1"])
    def test_downloaded_file_cannot_run_code(self, tmp_path, monkeypatch, users_choice):
        if users_choice:
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", users_choice)
        self.cached(tmp_path, {"conv1.weight": RunsCode(tmp_path / "ran")})
        with pytest.raises(InputError, match="resnet18 could not be had"):
            build_model("resnet18")
        assert not (tmp_path / "ran").exists()

    def test_environment_is_restored(self, monkeypatch):
        import os

        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
        with pytest.raises(InputError):
            build_model("resnet18")
        assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
        assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
