"""The layers around a backbone: pooling, neck, embedding, unit length; and the names of the weights."""

import copy
import pickle

import pytest
import torch
import torchreid
from networks import (
    FIXED_POOLING,
    POOLING_BY_FUNCTION,
    SMALL,
    TORCHREIDS,
    images_for,
    is_unit,
    plain_model,
    set_random_statistics,
)
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import (
    POOLINGS,
    ReIDModel,
    build_model,
    check_input_size,
)
from hhcl_torchreid.models.network import GlobalPooling

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*upsample.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Default (grid_sample|affine_grid)"),
]


@pytest.fixture(scope="module")
def small_model():
    return build_model(SMALL, pretrained=False)


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

    @pytest.mark.parametrize("name", TORCHREIDS)
    def test_no_backbone_has_layers_of_our_names(self, name):
        with torch.device("meta"):
            plain = plain_model(name)
        assert not {"embedding", "neck", "backbone"} & {child for child, _ in plain.named_children()}
