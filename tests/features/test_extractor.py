"""FeatureExtractor: the engine's features from whatever holds an image, and torchreid's meaning of each input."""

import pickle
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from torch.nn import functional as F

from hhcl_torchreid import FeatureExtractor, ImageHHCLEngine, build_model
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.transforms import normalize_images
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.precision import choose_precision
from hhcl_torchreid.models import ReIDModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*upsample.* is deprecated"),
    pytest.mark.filterwarnings("ignore:Default (grid_sample|affine_grid)"),
]

RENDERED = Path(__file__).parents[2] / "weights" / "osnet_x0_25_rendered.pth"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
ODD_NAMES = ("two words.png", 'it\'s "quoted".png', "<b>&amp;.png", "人物 Ünïcode.png")


def shuffle_statistics(model):
    """Running statistics and necks away from their start, where they would change nothing."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return model


def checkpoint_of(model, path, **settings):
    """What a run leaves: weights and configuration."""
    cfg = load_config(overrides={"model.name": model.name, **settings})
    save_checkpoint({"state_dict": model.state_dict(), "model_name": model.name, "config": cfg.dump()}, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint whose every setting differs from the defaults, and its model."""
    torch.manual_seed(0)
    model = build_model("resnet18", pretrained=False, pooling="avg+max", last_stride=2, embedding_dim=24)
    path = checkpoint_of(
        shuffle_statistics(model),
        tmp_path_factory.mktemp("model") / "model-best.pth.tar",
        **{
            "model.pooling": "avg+max",
            "model.last_stride": 2,
            "model.embedding_dim": 24,
            "data.height": 48,
            "data.width": 32,
            "data.norm_mean": MEAN,
            "data.norm_std": STD,
            "train.amp": "off",  # features are held against those of the network itself, which are float32
        },
    )
    return path, model.eval()


@pytest.fixture(scope="module")
def extractor(trained):
    return FeatureExtractor(model_path=trained[0], device="cpu", verbose=False, batch_size=4, workers=0)


@pytest.fixture(scope="module")
def paths(data_root):
    folder = data_root / "synthetic_market" / "Market-1501-v15.09.15" / "query"
    return [str(path) for path in sorted(folder.glob("*.jpg"))[:9]]


def slow_features(path, model, height=48, width=32, mean=MEAN, std=STD):
    """One image at a time, with PIL and NumPy only."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    normalized = torch.from_numpy((pixels - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)
    with torch.no_grad():
        return model(normalized[None])[0]


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


# Two ways of our own give the same bits whatever the arithmetic, be it one that a CPU without units for it emulates.
both_precisions = pytest.mark.parametrize("amp", ["off", "bf16"])


class TestInputs:
    def test_a_list_of_paths(self, extractor, trained, paths):
        features = extractor(paths)
        assert features.shape == (9, 24) and features.dtype == torch.float32
        assert_close(features.norm(dim=1), torch.ones(9))
        assert_close(features, torch.stack([slow_features(path, trained[1]) for path in paths]))
        assert not torch.allclose(features[0], features[1], atol=1e-3)

    def test_one_path(self, extractor, paths):
        for path in (paths[0], Path(paths[0])):
            assert torch.equal(extractor(path), extractor(paths)[:1])

    def test_arrays_are_rgb(self, extractor, paths):
        expected = extractor(paths[:2])
        arrays = [cv2.imread(path)[:, :, ::-1] for path in paths[:2]]
        assert torch.equal(extractor(arrays), expected)
        assert torch.equal(extractor(arrays[0]), expected[:1])
        assert not torch.allclose(extractor(arrays[0][:, :, ::-1]), expected[:1], atol=1e-3)

    def test_arrays_of_other_modes(self, extractor):
        grey = np.random.default_rng(0).integers(0, 256, (40, 20), np.uint8)
        expected = extractor(np.repeat(grey[:, :, None], 3, axis=2))
        opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        for picture in (grey, grey[:, :, None], opaque, Image.fromarray(grey), Image.fromarray(opaque)):
            assert torch.equal(extractor(picture), expected)

    def test_pil_images(self, extractor, paths):
        with Image.open(paths[0]) as image:
            assert torch.equal(extractor(image), extractor(paths[0]))
            assert torch.equal(extractor([image, paths[1]]), extractor(paths[:2]))

    def test_floating_point_tensors_go_in_as_they_are(self, extractor, trained):
        images = torch.randn(5, 3, 64, 40)
        with torch.no_grad():
            expected = trained[1](images)
        assert_close(extractor(images), expected)
        assert_close(extractor(images[0]), expected[:1])
        assert_close(extractor(list(images)), expected)
        assert_close(extractor(images.double()), expected)

    def test_bytes_are_pixels(self, extractor, paths):
        pixels = torch.stack([torch.from_numpy(cv2.imread(path)[:, :, ::-1].copy()).permute(2, 0, 1) for path in paths])
        expected = extractor(paths)
        assert torch.equal(extractor(pixels), expected)
        assert torch.equal(extractor(pixels[0]), expected[:1])
        assert torch.equal(extractor(list(pixels)), expected)

    @both_precisions
    def test_kinds_can_be_mixed(self, amp, trained, paths):
        extractor = FeatureExtractor(model_path=trained[0], device="cpu", verbose=False, workers=0, amp=amp)
        array, other = (cv2.imread(path)[:, :, ::-1].copy() for path in paths[2:4])
        pixels = torch.from_numpy(other).permute(2, 0, 1)
        with Image.open(paths[4]) as image:
            mixed = extractor([paths[0], Path(paths[1]), array, pixels, image])
        assert torch.equal(mixed, extractor(paths[:5]))

    def test_nothing_gives_no_rows(self, extractor):
        assert extractor([]).shape == extractor(torch.empty(0, 3, 8, 8)).shape == (0, 24)

    def test_odd_file_names(self, extractor, paths, tmp_path):
        with Image.open(paths[0]) as image:
            for name in ODD_NAMES:
                image.save(tmp_path / name)
        features = extractor([str(tmp_path / name) for name in ODD_NAMES])
        assert torch.equal(features, extractor(paths[0]).expand(len(ODD_NAMES), -1))


@both_precisions
def test_neither_batches_nor_processes_change_the_features(amp, trained, paths):
    one = FeatureExtractor(model_path=trained[0], device="cpu", verbose=False, batch_size=100, amp=amp)
    many = FeatureExtractor(model_path=trained[0], device="cpu", verbose=False, batch_size=2, workers=2, amp=amp)
    assert torch.equal(many(paths), one(paths))


@both_precisions
def test_features_are_those_of_the_engine(amp, make_datamanager, tmp_path):
    datamanager = make_datamanager()
    model = shuffle_statistics(build_model("shufflenet_v2_x0_5", pretrained=False, pooling="gem"))
    optimizer = torchreid.optim.build_optimizer(model, optim="adam")
    engine = ImageHHCLEngine(datamanager, model, optimizer, use_gpu=False, num_instances=4, amp=amp)
    settings = {"model.pooling": "gem", "data.height": 64, "data.width": 32, "train.amp": amp}
    extractor = FeatureExtractor(
        model_path=checkpoint_of(model, tmp_path / "model.pth.tar", **settings), device="cpu", verbose=False
    )
    expected = engine.extract_training_features()
    assert torch.equal(extractor([path for path, *_ in engine.records]), expected)


class TestFilesOfWeightsAlone:
    def test_the_demos_start(self, paths):
        extractor = FeatureExtractor("osnet_x0_25", str(RENDERED), image_size=(64, 32), device="cpu", verbose=False)
        plain = torchreid.models.build_model("osnet_x0_25", 1, pretrained=False)
        torchreid.utils.load_pretrained_weights(plain, str(RENDERED))
        imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        expected = torch.stack([slow_features(path, plain.eval(), 64, 32, **imagenet) for path in paths])
        assert_close(extractor(paths), F.normalize(expected))

    def test_it_says_its_backbone_itself(self):
        assert FeatureExtractor(model_path=RENDERED, device="cpu", verbose=False).model.name == "osnet_x0_25"

    @pytest.mark.parametrize("name", ["resnet18", "resnet50_fc512"])
    def test_torchreids_own_are_built_as_torchreid_builds_them(self, name, tmp_path):
        plain = shuffle_statistics(torchreid.models.build_model(name, 7, pretrained=False)).eval()
        torchreid.utils.save_checkpoint({"state_dict": plain.state_dict(), "epoch": 1, "rank1": 0.5}, str(tmp_path))
        (path,) = tmp_path.iterdir()
        images = torch.randn(2, 3, 64, 32)
        ours = FeatureExtractor(name, str(path), device="cpu", verbose=False)
        theirs = torchreid.utils.FeatureExtractor(name, str(path), device="cpu", verbose=False)
        assert_close(ours(images), F.normalize(theirs(images)))

    @pytest.mark.parametrize("settings", [{}, {"pooling": "gem", "embedding_dim": 16}, {"bnneck": False}])
    def test_layers_are_those_that_the_file_has_weights_for(self, settings, tmp_path):
        model = shuffle_statistics(build_model("osnet_x0_25", pretrained=False, **settings)).eval()
        torch.save(model.state_dict(), tmp_path / "weights.pth")
        images = torch.randn(2, 3, 64, 32)
        with torch.no_grad():
            expected = model(images)
        assert_close(FeatureExtractor("osnet_x0_25", tmp_path / "weights.pth", device="cpu")(images), expected)


class TestTorchreidsOwnTools:
    """The other way: torchreid's own loader and extractor read our checkpoints, no key renamed.

    What a plain model lacks is what lies on top of it: BNNeck, embedding layer, other pooling, and in ResNet-like
    backbones the last stride of 1, which is no weight. With those put back, the features are ours.
    """

    @pytest.mark.parametrize(
        "name",
        ["osnet_x0_25", "resnet18", "mobilenetv2_x1_0", "shufflenet_v2_x0_5", "osnet_ain_x0_25", "squeezenet1_1"],
    )
    def test_read_our_checkpoints(self, name, tmp_path, capsys):
        model = shuffle_statistics(build_model(name, pretrained=False, last_stride=2)).eval()
        path = str(checkpoint_of(model, tmp_path / "model-best.pth.tar"))

        plain = torchreid.models.build_model(name, num_classes=7, pretrained=False, use_gpu=False).eval()
        torchreid.utils.load_pretrained_weights(plain, path)
        assert "Successfully loaded" in capsys.readouterr().out
        ours, loaded = model.state_dict(), plain.state_dict()
        assert set(ours) - set(loaded) == {key for key in ours if key.startswith("neck.")}
        assert {key.split(".")[0] for key in set(loaded) - set(ours)} <= set(model.removed_layers)
        assert all(torch.equal(loaded[key], ours[key]) for key in loaded if key in ours)

        images = torch.randn(2, 3, 64, 32)
        theirs = torchreid.utils.FeatureExtractor(name, path, image_size=(64, 32), device="cpu", verbose=False)
        with torch.no_grad():
            expected = model(images)
            assert_close(F.normalize(model.neck(theirs(images))), expected)
            assert_close(F.normalize(model.neck(plain(images))), expected)

    def test_the_last_stride_is_no_weight(self, tmp_path):
        model = shuffle_statistics(build_model("resnet18", pretrained=False, last_stride=1)).eval()
        path = str(checkpoint_of(model, tmp_path / "model-best.pth.tar"))
        theirs = torchreid.utils.FeatureExtractor("resnet18", path, device="cpu", verbose=False)
        images = torch.randn(2, 3, 64, 32)
        with torch.no_grad():
            expected = model(images)
            assert not torch.allclose(F.normalize(model.neck(theirs(images))), expected, atol=1e-3)
            theirs.model.layer4[0].conv1.stride = theirs.model.layer4[0].downsample[0].stride = (1, 1)
            assert_close(F.normalize(model.neck(theirs(images))), expected)


class TestSettings:
    def test_come_from_the_checkpoint(self, extractor):
        assert extractor.image_size == (48, 32)
        assert (extractor.pixel_mean, extractor.pixel_std) == (MEAN, STD)
        assert extractor.model.name == "resnet18" and not extractor.model.training

    def test_can_be_overridden(self, trained, paths):
        settings = {"image_size": (80, 40), "pixel_mean": [0.1] * 3, "pixel_std": [0.5] * 3}
        with pytest.warns(UserWarning, match=r"used with") as warned:
            changed = FeatureExtractor(model_path=trained[0], device="cpu", verbose=False, **settings)
        assert [str(warning.message) for warning in warned] == [
            f"{trained[0]} was trained with {name} {own}, and is used with {asked}: leave that out for its own"
            for name, own, asked in (
                ("image size", (48, 32), (80, 40)),
                ("pixel mean", MEAN, [0.1] * 3),
                ("pixel deviation", STD, [0.5] * 3),
            )
        ]
        assert_close(changed(paths[0])[0], slow_features(paths[0], trained[1], 80, 40, [0.1] * 3, [0.5] * 3))

    @pytest.mark.parametrize("values", [[0.2, 0.2, 0.0], [0.2, 0.2, -1.0], [0.2, 0.2, float("nan")], [1, 2], "abc"])
    def test_a_deviation_that_nothing_can_be_divided_by(self, trained, values):
        with pytest.raises(InputError, match=r"standard deviation is .*: give three numbers of at least 1e-06"):
            FeatureExtractor(model_path=trained[0], pixel_std=values, device="cpu", verbose=False)

    def test_what_is_as_in_training_is_not_warned_of(self, trained):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            FeatureExtractor(
                model_path=trained[0],
                image_size=[48, 32],
                pixel_mean=tuple(MEAN),
                pixel_std=STD,
                device="cpu",
                verbose=False,
            )

    @pytest.mark.filterwarnings("ignore:.* was trained with pixel")
    def test_pixel_norm(self, trained, paths):
        raw = FeatureExtractor(model_path=trained[0], pixel_norm=False, device="cpu", verbose=False)
        assert_close(raw(paths[0])[0], slow_features(paths[0], trained[1], mean=[0] * 3, std=[1] * 3))

    @pytest.mark.parametrize(
        ("amp", "trained_in", "expected"),
        [
            (None, "bf16", torch.bfloat16),
            (None, "off", torch.float32),
            ("off", "bf16", torch.float32),
            ("bf16", "off", torch.bfloat16),
            (None, "fp16", choose_precision("auto", torch.device("cpu"))),  # which no CPU can do
            (None, "auto", choose_precision("auto", torch.device("cpu"))),
        ],
    )
    def test_arithmetic_is_that_of_training(self, amp, trained_in, expected, tmp_path):
        model = build_model("shufflenet_v2_x0_5", pretrained=False)
        path = checkpoint_of(model, tmp_path / "model.pth.tar", **{"train.amp": trained_in})
        extractor = FeatureExtractor(model_path=path, device="cpu", verbose=False, amp=amp)
        assert extractor.embedder.precision == expected

    def test_weights_alone_are_computed_in_float32(self):
        extractor = FeatureExtractor(model_path=RENDERED, device="cpu", verbose=False)
        assert extractor.embedder.precision == torch.float32

    @pytest.mark.filterwarnings("ignore:.* was trained with image size")
    def test_a_single_image_size_is_a_square(self, trained):
        square = FeatureExtractor(model_path=trained[0], image_size=64, device="cpu", verbose=False)
        assert square.image_size == (64, 64)

    def test_a_backbone_of_one_size_gets_it(self, tmp_path):
        torch.save(build_model("hacnn", pretrained=False).state_dict(), tmp_path / "hacnn.pth")
        assert FeatureExtractor("hacnn", tmp_path / "hacnn.pth", device="cpu", verbose=False).image_size == (160, 64)

    def test_verbose_shows_the_model_as_torchreid_does(self, trained, capsys):
        FeatureExtractor(model_path=trained[0], device="cpu")
        assert "Model: resnet18\n- params: " in capsys.readouterr().out

    def test_the_device_is_what_there_is(self, trained):
        chosen = FeatureExtractor(model_path=trained[0], verbose=False).device
        assert chosen.type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_gpu_gives_the_same(self, trained, extractor, paths):
        features = FeatureExtractor(model_path=trained[0], device="cuda:0", verbose=False, amp="off")(paths)
        assert features.is_cuda
        # Float32 on both, whose sums of thousands of products round in another order; TF32 would be off by 1e-3.
        torch.testing.assert_close(features.cpu(), extractor(paths), atol=1e-4, rtol=0)


class TestBadInput:
    def refused(self, *named, **settings):
        with pytest.raises(InputError) as caught:
            FeatureExtractor(**{"device": "cpu", "verbose": False, **settings})
        for name in named:
            assert str(name) in str(caught.value)

    def test_a_full_device(self, trained, paths):
        def full_device(*_):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

        extractor = FeatureExtractor(model_path=trained[0], device="cpu", verbose=False)
        extractor.model.register_forward_pre_hook(full_device)
        with pytest.raises(InputError, match=r"^Out of memory in extracting features: .*device cpu"):
            extractor(paths)

    def test_a_file_that_is_not_there(self, tmp_path):
        self.refused(tmp_path / "no.pth", model_path=tmp_path / "no.pth")

    def test_a_file_that_is_no_checkpoint(self, tmp_path, paths):
        (tmp_path / "text.pth").write_text("weights")
        self.refused(tmp_path / "text.pth", model_path=tmp_path / "text.pth")
        self.refused(paths[0], model_path=paths[0])
        torch.save({"state_dict": {"epoch": 3}}, tmp_path / "other.pth")
        self.refused("other.pth", "no state dict", model_path=tmp_path / "other.pth")

    def test_a_file_that_would_run_code(self, tmp_path):
        class Attack:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "was_here",))

        (tmp_path / "attack.pth").write_bytes(pickle.dumps(Attack()))
        self.refused("attack.pth", model_path=tmp_path / "attack.pth")
        assert not (tmp_path / "was_here").exists()

    def test_another_backbone(self, trained, tmp_path):
        self.refused("resnet18", "osnet_x1_0", model_name="osnet_x1_0", model_path=trained[0])
        torch.save(build_model("osnet_x0_25", pretrained=False).state_dict(), tmp_path / "bare.pth")
        self.refused("bare.pth", "resnet50", model_name="resnet50", model_path=tmp_path / "bare.pth")

    def test_weights_that_do_not_say_their_backbone(self, tmp_path):
        torch.save(build_model("osnet_x0_25", pretrained=False).state_dict(), tmp_path / "bare.pth")
        self.refused("bare.pth", "which backbone", model_path=tmp_path / "bare.pth")

    def test_no_model(self):
        self.refused("model_path")
        self.refused("resnet51", "resnet50", model_name="resnet51")

    def test_a_configuration_that_is_none(self, tmp_path):
        state = {"state_dict": build_model("osnet_x0_25", pretrained=False).state_dict(), "model_name": "osnet_x0_25"}
        for config in ("model: [", "text", "model: 3\ndata: 4"):
            torch.save({**state, "config": config}, tmp_path / "model.pth")
            self.refused("model.pth", "configuration", model_path=tmp_path / "model.pth")

    @pytest.mark.parametrize("device", ["cuda:77", "xpu", "meta", "gpu"])
    def test_a_device_that_is_not_there(self, trained, device):
        self.refused(device, "leave it out, or give cpu", model_path=trained[0], device=device)

    def test_a_size_that_the_backbone_does_not_take(self, tmp_path):
        torch.save(build_model("hacnn", pretrained=False).state_dict(), tmp_path / "hacnn.pth")
        self.refused("160 x 64", model_name="hacnn", model_path=tmp_path / "hacnn.pth", image_size=(64, 32))

    def test_unreadable_files_are_named(self, extractor, paths, tmp_path):
        broken = [str(tmp_path / f"{number}.jpg") for number in range(7)]
        for path in broken[:-1]:
            Path(path).write_bytes(b"no image")
        with pytest.raises(InputError, match="7 unreadable") as caught:
            extractor([*paths, *broken, *paths])
        assert broken[0] in str(caught.value) and broken[4] in str(caught.value)
        assert broken[5] not in str(caught.value)

    def test_unreadable_files_can_be_left_out(self, extractor, paths, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"no image")
        features, readable = extractor.extract_readable([paths[0], str(tmp_path / "broken.jpg"), *paths[1:5]])
        assert readable.tolist() == [True, False, True, True, True, True]
        assert torch.equal(features, extractor(paths[:5]))
        features, readable = extractor.extract_readable([str(tmp_path / "broken.jpg")])
        assert features.shape == (0, 24) and readable.tolist() == [False]

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((2, 4, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            torch.zeros(2, 4, 64, 32),
            torch.zeros(64, 32),
            torch.zeros(1, 64, 32, dtype=torch.uint8),
            torch.zeros(3, 64, 32, dtype=torch.int64),
            [torch.zeros(3, 64, 32), torch.zeros(3, 32, 64)],
            [torch.zeros(3, 64, 32), np.zeros((4, 4, 3), np.uint8)],
        ],
    )
    def test_what_is_no_picture(self, extractor, picture):
        with pytest.raises(InputError, match="shape"):
            extractor(picture)

    @pytest.mark.parametrize("picture", [3, None, {"a": 1}, [3], [["a"]]])
    def test_what_is_of_another_type(self, extractor, picture):
        with pytest.raises(TypeError, match="is no picture"):
            extractor(picture)


def test_the_model_is_one_of_ours(extractor):
    assert isinstance(extractor.model, ReIDModel)


def test_normalization_is_the_engines(extractor, paths):
    pixels = torch.from_numpy(cv2.imread(paths[0])[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    small = F.interpolate(pixels.float(), (48, 32), mode="nearest").byte()
    assert_close(extractor(small), extractor(normalize_images(small, MEAN, STD)))
