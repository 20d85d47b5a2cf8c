"""TransReID-SSL's vision transformers with an ICS stem: what they compute, and the files they are kept in."""

import pytest
import torch
import train_hhcl
from networks import images_for, is_unit
from small_runs import SMALL as SMALL_RUN
from small_runs import pairs
from torch import nn
from torch.nn import functional as F

from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import build_model, find_backbone, load_from

timm = pytest.importorskip("timm")

NAME = "vit_small_ics"
PLAIN = "timm/vit_small_patch16_224"
STEM = {  # what the authors' files hold before the tokens
    **{
        f"conv.{layer}.weight": shape for layer, shape in ((0, (64, 3, 7, 7)), (3, (64, 64, 3, 3)), (6, (64, 64, 3, 3)))
    },
    **{f"conv.{layer}.IN.{part}": (32,) for layer in (1, 4) for part in ("weight", "bias")},
    **{
        f"conv.{layer}.BN.{part}": (32,)
        for layer in (1, 4)
        for part in ("weight", "bias", "running_mean", "running_var")
    },
    **{f"conv.7.{part}": (64,) for part in ("weight", "bias", "running_mean", "running_var")},
    **{"proj.weight": (384, 64, 8, 8), "proj.bias": (384,)},
}


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    model = build_model(NAME, pretrained=False, image_size=(64, 32))
    for layer in model.modules():  # whose initial values have no effect
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
        if isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias, -0.1, 0.1)
    return model.eval()


def tokens_by_hand(weights, images):
    """The stem from its definition, layer by layer."""
    of = {key.removeprefix("patch_embed."): value for key, value in weights.items() if key.startswith("patch_embed.")}
    maps = images
    for number in (0, 3, 6):
        maps = F.conv2d(maps, of[f"conv.{number}.weight"], stride=1 if number else 2, padding=1 if number else 3)
        halves = ((f"conv.{number + 1}.BN.", maps[:, 32:]),) if number < 6 else ((f"conv.{number + 1}.", maps),)
        normed = []
        for name, part in halves:
            mean, deviation = of[f"{name}running_mean"], (of[f"{name}running_var"] + 1e-5).sqrt()
            unit = (part - mean[:, None, None]) / deviation[:, None, None]
            normed.append(unit * of[f"{name}weight"][:, None, None] + of[f"{name}bias"][:, None, None])
        if number < 6:
            first = maps[:, :32]
            unit = (first - first.mean((2, 3), keepdim=True)) / (first.var((2, 3), False, keepdim=True) + 1e-5).sqrt()
            name = f"conv.{number + 1}.IN."
            normed.insert(0, unit * of[f"{name}weight"][:, None, None] + of[f"{name}bias"][:, None, None])
        maps = torch.cat(normed, 1).relu()
    return F.conv2d(maps, of["proj.weight"], of["proj.bias"], stride=8).flatten(2).transpose(1, 2)


@torch.no_grad()
def test_features_are_those_of_a_plain_transformer_on_the_tokens_of_the_stem(source):
    images = images_for(NAME)
    weights = source.state_dict()
    plain = timm.create_model("vit_small_patch16_224", num_classes=0, img_size=(64, 32)).eval()
    rest = {key: value for key, value in weights.items() if not key.startswith(("patch_embed.", "neck."))}
    assert set(plain.load_state_dict(rest, strict=False).missing_keys) == {
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
    }
    plain.patch_embed = nn.Identity()
    features = source.neck(plain(tokens_by_hand(weights, images)))
    torch.testing.assert_close(source(images), F.normalize(features), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "length"), [(NAME, 384), ("vit_base_ics", 768)])
def test_the_layers_are_called_as_in_the_authors_files(name, length):
    with torch.device("meta"):
        network = find_backbone(name).build(False, (256, 128))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if "num_batches" not in key}
    stem = {f"patch_embed.{key}": shape for key, shape in STEM.items()}
    stem |= {"patch_embed.proj.weight": (length, 64, 8, 8), "patch_embed.proj.bias": (length,)}
    assert {key: shape for key, shape in shapes.items() if key.startswith("patch_embed.")} == stem
    assert shapes["pos_embed"] == (1, 1 + 16 * 8, length) and shapes["blocks.11.attn.qkv.weight"] == (
        3 * length,
        length,
    )
    assert all(layer.eps == 1e-6 for layer in network.modules() if isinstance(layer, nn.LayerNorm))


@pytest.mark.parametrize(
    ("layout", "prefix", "neck", "outer"),
    [
        ("DINO, TransReID-SSL or PASS", "module.backbone.", None, "teacher"),
        ("TransReID-SSL without labels", "module.", "module.bottleneck.", "state_dict"),
        ("BoT or TransReID", "base.", "bottleneck.", None),
    ],
)
@torch.no_grad()
def test_the_three_layouts_of_its_files(source, layout, prefix, neck, outer):
    weights = {f"{prefix}{key}": value for key, value in source.state_dict().items() if not key.startswith("neck.")}
    if neck:
        own = {key.replace("neck.", neck): value for key, value in source.state_dict().items() if "neck." in key}
        weights |= {
            **own,
            f"{neck}bias": torch.zeros(384),
            neck.replace("bottleneck.", "classifier.weight"): torch.zeros(7, 384),
        }
    else:
        weights |= {"module.head.mlp.0.weight": torch.zeros(3)}
    model = build_model(NAME, pretrained=False, bnneck=neck is not None, image_size=(64, 32)).eval()
    report = load_from(model, {outer: weights} if outer else weights, "weights.pth")
    assert (report.layout, report.matched, report.total, report.missing) == (layout, 169, 169, [])
    images = images_for(NAME)
    assert neck is None or torch.equal(model(images), source(images))
    assert torch.equal(model.backbone(images), source.backbone(images))


def test_positions_are_resized(source):
    model = build_model(NAME, pretrained=False, image_size=(96, 32))
    load_from(model, source.state_dict(), "weights.pth")
    expected = timm.layers.resample_abs_pos_embed(source.state_dict()["pos_embed"], (6, 2), (4, 2))
    torch.testing.assert_close(model.state_dict()["pos_embed"], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(31, 47), (15, 16)])
def test_sides_need_not_be_of_whole_tokens(size):
    model = build_model(NAME, pretrained=False, image_size=size)
    assert is_unit(model(torch.rand(2, 3, *size)))


def test_mean_and_deviation_are_those_of_its_weights():
    record = find_backbone(NAME)
    assert (record.pixel_mean, record.pixel_std, record.has_pretrained_weights) == ((0.5,) * 3, (0.5,) * 3, False)


@pytest.mark.parametrize(
    ("file", "name"), [("transreid_ssl_vits_ics_market", NAME), ("transreid_ssl_vits_market", PLAIN)]
)
def test_the_authors_settings_train_from_their_file(data_root, tmp_path, capsys, file, name):
    cfg = load_config(f"{file}.yaml")
    assert (cfg.model.name, cfg.model.drop_path, cfg.hhcl.mode, cfg.hhcl.momentum) == (name, 0.3, "hard", 0.2)
    assert (cfg.train.optim, cfg.train.lr, cfg.train.weight_decay, cfg.sgd.momentum) == ("sgd", 0.00035, 0.0005, 0.9)
    assert (cfg.train.max_epoch, cfg.train.stepsize, cfg.engine.iters, cfg.cluster.eps) == (50, [20], 200, 0.6)
    assert (cfg.train.batch_size, cfg.sampler.num_instances, cfg.train.bn_groups) == (256, 8, 4)

    weights = build_model(name, pretrained=False, bnneck=False).state_dict()
    torch.save({"teacher": {f"module.backbone.{key}": value for key, value in weights.items()}}, tmp_path / "lup.pth")
    settings = {**SMALL_RUN, "model.load_weights": tmp_path / "lup.pth", "data.save_dir": tmp_path, "engine.iters": 1}
    del settings["model.name"]
    arguments = ["--config-file", f"{file}.yaml", "--root", str(data_root), *pairs(settings)]
    assert (
        train_hhcl.main([*arguments, "data.targets", "[]", "train.bn_groups", "2", "engine.labels", "identities"]) == 0
    )
    count = sum("num_batches" not in key for key in weights)
    assert f"{count} of {count} weights" in capsys.readouterr().out
    trained = load_checkpoint(tmp_path / "model" / "model-last.pth.tar")["state_dict"]
    key = "blocks.0.attn.qkv.weight"
    assert not torch.equal(trained[key], weights[key])
    torch.testing.assert_close(trained[key], weights[key], atol=1e-3, rtol=0)  # a step of SGD from there


class TestDropPath:
    @pytest.mark.parametrize("name", [NAME, "timm/convnext_atto"])
    def test_skips_blocks_in_training_alone(self, name):
        torch.manual_seed(0)
        model = build_model(name, pretrained=False, bnneck=False, image_size=(64, 32), drop_path=0.9)
        images = images_for(name)
        with torch.no_grad():
            assert not torch.equal(model(images), model(images))
            assert torch.equal(model.eval()(images), model(images))

    def test_rises_from_block_to_block(self):
        model = build_model(NAME, pretrained=False, image_size=(64, 32), drop_path=0.3)
        rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.backbone.blocks]
        torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 12))

    @pytest.mark.parametrize("name", ["resnet18", "timm/vgg11"])
    def test_is_refused_where_there_is_none(self, name):
        with pytest.raises(InputError, match=f"{name} has no paths that could be dropped: set model.drop_path 0"):
            build_model(name, pretrained=False, drop_path=0.1)
        with pytest.raises(InputError, match=r"model.drop_path is 1: give a probability"):
            build_model(name, pretrained=False, drop_path=1)


class TestBadInput:
    def refused(self, name, content, message, **settings):
        model = build_model(name, pretrained=False, image_size=(64, 32), **settings)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(InputError, match=message):
            load_from(model, content, "weights.pth")
        torch.testing.assert_close(model.state_dict(), before)

    def test_its_file_in_a_plain_transformer_and_the_reverse(self, source):
        message = (
            r"this timm/vit_small_patch16_224 \(the file's network has an ICS stem\): set model.name vit_small_ics"
        )
        self.refused(PLAIN, {"teacher": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, message)
        plain = build_model(PLAIN, pretrained=False, image_size=(64, 32)).state_dict()
        message = (
            r"this vit_small_ics \(the file's network has no ICS stem\): set model.name timm/vit_small_patch16_224"
        )
        self.refused(NAME, plain, message)

    def test_a_file_of_another_size(self, source):
        self.refused("vit_base_ics", source.state_dict(), r"cls_token is \[1, 1, 384\] in the file")

    def test_a_pooling_that_has_no_meaning(self):
        with pytest.raises(
            InputError, match=f"{NAME} takes the first token .* so model.pooling cannot be gem: set it to"
        ):
            build_model(NAME, pretrained=False, pooling="gem")

    def test_images_smaller_than_a_token(self):
        with pytest.raises(InputError, match=r"cannot take images of 14 x 32 pixels: give a data.height"):
            build_model(NAME, pretrained=False, image_size=(14, 32))
