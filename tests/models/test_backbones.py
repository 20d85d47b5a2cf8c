"""Every backbone of torchreid's factory gives unit vectors and can be trained whole, and so can a user's own."""

import os
import socket

import pytest
import torch
import torchvision
from networks import POOLING_BY_FUNCTION, SMALL, TORCHREIDS, images_for, is_unit, plain_model, set_random_statistics
from small_runs import SMALL as SMALL_RUN
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid import FeatureExtractor, register_backbone, runner
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import (
    ReIDModel,
    available_backbones,
    build_model,
    check_input_size,
    describe_backbone,
)
from hhcl_torchreid.models.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*upsample.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Default (grid_sample|affine_grid)"),
]

ONE_OF_EACH_KIND_WITH_POOLING = (
    *POOLING_BY_FUNCTION,
    *("resnet18", "se_resnet50", "densenet121", "squeezenet1_1", "inceptionresnetv2", "inceptionv4", "xception"),
    *("resnet50_ibn_a", "resnet50_ibn_b", "mobilenetv2_x1_0", "shufflenet_v2_x0_5", "resnet50mid", "mlfn"),
    *("osnet_x0_25", "osnet_ain_x0_25"),
)
WITH_V2_WEIGHTS = {
    **{name: name for name in ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")},
    **dict.fromkeys(("resnet50_fc512", "resnet50mid", "pcb_p6", "pcb_p4"), "resnet50"),
}
WITHOUT_PRETRAINED_WEIGHTS = (
    *("hacnn", "mlfn", "mobilenetv2_x1_0", "mobilenetv2_x1_4"),
    *("mudeep", "shufflenet", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
)


class TestEveryBackbone:
    def test_there_are_49_and_two_vision_transformers(self):
        assert len(TORCHREIDS) == 49
        assert available_backbones() == [*TORCHREIDS, "vit_small_ics", "vit_base_ics"]

    @pytest.mark.parametrize("name", TORCHREIDS)
    def test_trains_and_evaluates(self, name):
        model = build_model(name, pretrained=False)
        images = images_for(name)
        features = model(images)
        assert features.shape == (2, model.feature_dim)
        assert is_unit(features)
        assert hasattr(model.backbone, "layer4") == (BACKBONES[name].set_last_stride is not None)
        (features @ torch.randn(model.feature_dim)).sum().backward()
        assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
        with torch.no_grad():
            features = model.eval()(images)
        assert features.shape == (2, model.feature_dim)
        assert is_unit(features)

    @pytest.mark.parametrize("name", TORCHREIDS)
    def test_is_torchreids_model_in_weights_and_features(self, name):
        plain = plain_model(name).eval()
        set_random_statistics(plain)
        images = images_for(name, count=1)
        with torch.no_grad():
            expected = F.normalize(plain(images))
        keys = list(plain.state_dict())
        model = ReIDModel(name, plain)  # which takes layers out of it
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(images), expected)
            model.train()
            for layer in model.modules():
                if isinstance(layer, (nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)):
                    layer.eval()
            torch.testing.assert_close(model(images.expand(2, -1, -1, -1)), expected.expand(2, -1))
        removed = tuple(f"{layer}." for layer in model.removed_layers)
        backbone_keys = [key for key in model.state_dict() if not key.startswith("neck.")]
        assert backbone_keys == [key for key in keys if not key.startswith(removed)]

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


class Own(nn.Module):
    """A network that looks at its own mode, has a frozen first layer and a classifier that its features do not need."""

    def __init__(self, pretrained=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2).requires_grad_(False)
        self.last = nn.Conv2d(4, 6, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.ModuleDict({"classifier": nn.Linear(6, 10)})
        if pretrained:
            nn.init.constant_(self.stem.weight, 0.5)

    def forward(self, images):
        return F.dropout(self.pool(self.last(self.stem(images))).flatten(1), 0.5, self.training)


class TestOwnNetwork:
    def test_is_known_and_gives_unit_rows(self, registry):
        register_backbone("own", Own)
        assert available_backbones()[-1] == "own"
        model = build_model("own", pretrained=False, embedding_dim=5)
        assert model(images_for("own")).shape == (2, 5) and is_unit(model(images_for("own")))
        assert model.removed_layers == ("head",)

    def test_keeps_its_frozen_layers_and_its_mode(self, registry):
        register_backbone("own", Own)
        model = build_model("own", pretrained=False, bnneck=False)
        assert isinstance(model.backbone.stem, nn.Conv2d)
        assert (model.train()(images_for("own")) == 0).any()
        assert not (model.eval()(images_for("own")) == 0).any()

    def test_its_pooling_can_be_chosen_only_if_the_record_says_how(self, registry):
        register_backbone("own", Own)
        register_backbone("own2", Own, set_pooling=lambda network, pooling: setattr(network, "pool", pooling))
        with pytest.raises(InputError, match=r"^own is registered without set_pooling, so .*set it to avg"):
            build_model("own", pretrained=False, pooling="max")
        torch.manual_seed(0)
        model = build_model("own2", pretrained=False, pooling="max", bnneck=False).eval()
        images = images_for("own2")
        maps = model.backbone.last(model.backbone.stem(images))
        torch.testing.assert_close(model(images), F.normalize(maps.amax((2, 3))))

    def test_its_last_stride_has_an_effect_only_if_the_record_says_how(self, registry):
        def set_last_stride(network, stride):
            network.last.stride = (stride, stride)

        register_backbone("own", Own)
        register_backbone("own2", Own, set_last_stride=set_last_stride)
        strides = {
            (name, stride): build_model(name, pretrained=False, last_stride=stride).backbone.last.stride[0]
            for name in ("own", "own2")
            for stride in (1, 2, None)
        }
        assert strides == dict.fromkeys(strides, 2) | {("own2", 1): 1}
        assert [describe_backbone(name).record.set_last_stride is not None for name in ("own", "own2")] == [False, True]

    def test_its_own_weights_are_asked_for_where_it_has_any(self, registry):
        register_backbone("own", Own)
        register_backbone("own2", Own, has_pretrained_weights=True)
        with pytest.warns(UserWarning, match="no ImageNet weights for own:"):
            assert not (build_model("own").backbone.stem.weight == 0.5).all()
        assert (build_model("own2").backbone.stem.weight == 0.5).all()
        assert not (build_model("own2", pretrained=False).backbone.stem.weight == 0.5).all()

    def test_the_model_knows_the_pixels_that_its_weights_expect(self, registry):
        register_backbone("own", Own, pixel_mean=(0.1, 0.2, 0.3), pixel_std=(0.4, 0.5, 0.6))
        own, torchreids = build_model("own", pretrained=False), build_model(SMALL, pretrained=False)
        assert (own.pixel_mean, own.pixel_std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert (torchreids.pixel_mean, torchreids.pixel_std) == (IMAGENET_MEAN, IMAGENET_STD)

    def test_its_input_size_is_held(self, registry):
        register_backbone("own", Own, input_size=(48, 40))
        check_input_size("own", 48, 40)
        model = build_model("own", pretrained=False)
        assert model.input_size == (48, 40) and model(torch.rand(2, 3, 48, 40)).shape == (2, 6)
        with pytest.raises(InputError, match="own takes images of 48 x 40 pixels only, not 64 x 32"):
            model(images_for("own"))

    def test_names_are_given_once(self, registry):
        with pytest.raises(InputError, match="there is a backbone 'resnet50' already"):
            register_backbone("resnet50", Own)

    def test_a_network_in_place_of_a_function_is_told_so(self, registry):
        with pytest.raises(InputError, match="give a function of one flag"):
            register_backbone("own", Own())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda features: features[:, :, None],
                r"own gives shape \(1, 6, 1\) of torch.float32 for images of shape",
            ),
            (lambda features: features[0], r"own gives shape \(6,\) of torch.float32"),
            (lambda features: features.int(), r"own gives shape \(1, 6\) of torch.int32"),
            (lambda features: [features], r"own gives list for images of shape \(1, 3, 64, 32\): .*\(B, D\) features"),
            (lambda features: {"features": features}, "own gives dict"),
            (lambda features: features[:, :0], r"own gives shape \(1, 0\) for one image: let it give \(1, D\)"),
            (lambda features: features.expand(4, -1), r"own gives shape \(4, 6\) for one image"),
            (lambda features: features.detach(), "own gives features that no weight has a part in"),
            (lambda features: features / features.new_zeros(5), r"own cannot take images of 64 x 32 pixels \(Runtime"),
        ],
    )
    def test_other_outputs_than_features_are_refused(self, registry, change, message):
        def build(pretrained):
            network = Own()
            network.register_forward_hook(lambda module, images, features: change(features))
            return network

        register_backbone("own", build)
        with pytest.raises(InputError, match=message) as refusal:
            build_model("own", pretrained=False, image_size=(64, 32))
        assert "\n" not in str(refusal.value)

    def test_other_outputs_in_training_alone_are_refused(self, registry):
        def build(pretrained):
            network = Own()
            network.register_forward_hook(lambda own, _, features: (features, 0) if own.training else features)
            return network

        register_backbone("own", build)
        model = build_model("own", pretrained=False)
        with pytest.raises(InputError, match=r"own gives tuple .* in training too"):
            model(images_for("own"))
        assert is_unit(model.eval()(images_for("own")))

    @pytest.mark.parametrize(
        ("built", "message"),
        [
            (nn.Flatten(), "own has no weights that could be trained"),
            (nn.Linear, "own was built as type: let its function give a torch.nn.Module"),
            (nn.LazyConv2d(4, 3), "own cannot take images of 256 x 128 pixels .*uninitialized"),
            (nn.Conv2d(1, 4, 3), "own cannot take images of 256 x 128 pixels .*1 channels, but got 3"),
        ],
    )
    def test_what_is_no_network_for_images_is_refused(self, registry, built, message):
        register_backbone("own", lambda pretrained: built)
        with pytest.raises(InputError, match=message):
            build_model("own", pretrained=False)

    def test_a_network_of_squares_is_tried_with_the_size_that_it_gets(self, registry, tmp_path):
        class Squares(Own):
            def forward(self, images):
                if images.shape[2] != images.shape[3]:
                    raise AssertionError
                return super().forward(images)

        register_backbone("own", Squares)
        with pytest.raises(InputError, match=r"own cannot take images of 256 x 128 pixels \(AssertionError\): change"):
            build_model("own", pretrained=False)
        model = build_model("own", pretrained=False, image_size=(32, 32)).eval()
        torch.save(model.state_dict(), tmp_path / "own.pth")
        settings = {"model_path": tmp_path / "own.pth", "image_size": 32, "device": "cpu", "verbose": False}
        extractor = FeatureExtractor("own", **settings)
        images = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(extractor(images), model(images).detach())

    def test_names_of_the_layers_on_top_are_refused(self, registry):
        def build(pretrained):
            network = Own()
            network.neck = nn.Linear(1, 1)
            return network

        register_backbone("own", build)
        with pytest.raises(InputError, match=r"own has a layer 'neck'.*: give it another name"):
            build_model("own", pretrained=False)


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


class TestPretrained:
    @pytest.fixture(autouse=True)
    def without_network(self, monkeypatch, tmp_path):
        def refuse(*args, **kwargs):
            raise OSError("no network in tests")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def cached(self, tmp_path, content, file="resnet18-5c106cde.pth"):
        folder = tmp_path / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        torch.save(content, folder / file)

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

    def test_v2_takes_torchvisions_better_weights(self, tmp_path):
        weights = torchvision.models.resnet50().state_dict()
        file = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.url.rpartition("/")[2]
        self.cached(tmp_path, weights, file)
        model = build_model("resnet50", pretrained="V2", bnneck=False)
        assert len(model.state_dict()) == len(weights) - 2  # without the classifier's
        for key, value in model.state_dict().items():
            assert torch.equal(value, weights[key]), key

    def test_v2_is_a_setting(self, data_root, tmp_path):
        weights = torchvision.models.resnet50().state_dict()
        self.cached(tmp_path, weights, "resnet50-11ad3fa6.pth")
        settings = {**SMALL_RUN, "model.name": "resnet50", "data.root": str(data_root), "data.save_dir": str(tmp_path)}
        cfg = load_config(overrides=settings, options=["model.pretrained", "V2"])
        model = runner.run(cfg, dry_run=True).model
        assert torch.equal(model.state_dict()["layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])
        with pytest.raises(InputError, match=r"model.pretrained is 'V3' .*: give True, False or V2"):
            load_config(options=["model.pretrained", "V3"])

    @pytest.mark.parametrize(("name", "architecture"), WITH_V2_WEIGHTS.items())
    def test_v2_weights_fit_their_backbones(self, name, architecture):
        assert torchvision.models.get_model_weights(architecture)["IMAGENET1K_V2"]
        with torch.device("meta"):
            theirs, ours = torchvision.models.get_model(architecture), plain_model(name)
        shapes = {key: value.shape for key, value in ours.state_dict().items()}
        backbone = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
        assert backbone.items() <= shapes.items()

    @pytest.mark.parametrize("name", [name for name in TORCHREIDS if name not in WITH_V2_WEIGHTS] + ["timm/resnet50"])
    def test_v2_is_refused_where_there_are_none(self, name):
        with pytest.raises(InputError, match=f"no IMAGENET1K_V2 weights for {name}: set model.pretrained True"):
            build_model(name, pretrained="V2")

    def test_v2_without_network_and_other_words(self):
        with pytest.raises(InputError, match=r"ImageNet weights of resnet50 .*model.pretrained False"):
            build_model("resnet50", pretrained="V2")
        with pytest.raises(InputError, match=r"model.pretrained is 'V3': give True, False or V2"):
            build_model("resnet50", pretrained="V3")

    @pytest.mark.parametrize("users_choice", [None, "1"])
    def test_downloaded_file_cannot_run_code(self, tmp_path, monkeypatch, users_choice):
        if users_choice:
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", users_choice)
        attack = {"conv1.weight": RunsCode(tmp_path / "ran")}
        self.cached(tmp_path, attack)
        with pytest.raises(InputError, match="resnet18 could not be had"):
            build_model("resnet18")
        torch.save(attack, tmp_path / "hub" / "checkpoints" / "resnet50-11ad3fa6.pth")
        with pytest.raises(InputError, match="resnet50 could not be had"):
            build_model("resnet50", pretrained="V2")
        assert not (tmp_path / "ran").exists()

    def test_environment_is_restored(self, monkeypatch):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
        with pytest.raises(InputError):
            build_model("resnet18")
        assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
        assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


class RunsCode:
    """Unpickling creates a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
