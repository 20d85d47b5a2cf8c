"""Features of a folder: kept on disk, following the files, and never used when they are none."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from crops import save_image, save_model

from hhcl_torchreid import FeatureExtractor
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.folder import beside, by_camera_in_folder, features_of_folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model-best.pth.tar", seed=0)


@pytest.fixture(scope="module")
def extractor(weights):
    return FeatureExtractor(model_path=weights, device="cpu", verbose=False, workers=0)


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.fixture
def crops(tmp_path):
    for number in range(8):
        save_image(tmp_path / "crops" / f"camera{number % 3}" / f"{number}.png", number)
    return tmp_path / "crops"


@pytest.mark.parametrize("written", [-1, 2**33 - 1, 10**10])
def test_files_of_any_year(crops, extractor, written):
    expected = features_of_folder(crops, extractor).features
    os.utime(crops / "camera0" / "0.png", (written, written))
    assert torch.equal(features_of_folder(crops, extractor).features, expected)


class TestByCamera:
    @pytest.fixture
    def crops(self, tmp_path):
        for number in range(66):
            save_image(tmp_path / "crops" / f"camera{number % 2}" / f"{number}.png", number)
        return tmp_path / "crops"

    def features(self, crops, extractor, cameras=None, num_batches=2):
        found = features_of_folder(crops, extractor)
        cameras = [path.parent.name for path in found.paths] if cameras is None else cameras
        return by_camera_in_folder(crops, extractor, found.paths, found.features, cameras, num_batches)

    def test_are_those_of_the_extractor_and_kept(self, crops, extractor):
        plain, found = features_of_folder(crops, extractor), self.features(crops, extractor)
        cameras = torch.tensor([int(path.parent.name[-1]) for path in plain.paths])
        assert torch.equal(found, extractor.by_camera(plain.paths, plain.features, cameras, 2))
        assert not torch.allclose(found, plain.features, atol=1e-2)
        kept = crops.parent / "crops.features-by-camera.npz"
        written = kept.stat().st_mtime_ns
        assert torch.equal(self.features(crops, extractor), found) and kept.stat().st_mtime_ns == written
        kept.write_bytes(kept.read_bytes()[:1000])
        assert torch.equal(self.features(crops, extractor), found) and kept.stat().st_mtime_ns > written

    @pytest.mark.parametrize("change", ["image", "cameras", "num_batches", "model"])
    def test_follow_whatever_they_depend_on(self, crops, extractor, tmp_path, change):
        before, settings = self.features(crops, extractor), {}
        if change == "image":
            save_image(crops / "camera0" / "0.png", 99)
        elif change == "cameras":
            settings["cameras"] = ["a", "b", "b", "a", *"ab" * 31]
        elif change == "num_batches":
            settings["num_batches"] = 0
        else:
            extractor = FeatureExtractor(model_path=save_model(tmp_path / "other.pth.tar", seed=1), device="cpu")
        after = self.features(crops, extractor, **settings)
        assert not torch.allclose(after, before, atol=1e-3)
        if change == "num_batches":
            assert torch.equal(after, features_of_folder(crops, extractor).features)

    def test_one_camera_has_no_other(self, crops, extractor, caplog):
        found = self.features(crops, extractor, cameras=[""] * 66)
        assert torch.equal(found, features_of_folder(crops, extractor).features)
        assert "All images are of one camera" in caplog.text
        assert not (crops.parent / "crops.features-by-camera.npz").exists()


class TestFeaturesOnDisk:
    def assert_holds(self, gallery, extractor, num_extracted):
        assert gallery.num_extracted == num_extracted
        np.testing.assert_allclose(gallery.features, extractor(gallery.paths).numpy(), atol=1e-5)

    def test_are_used_again(self, crops, extractor):
        first, second = (features_of_folder(crops, extractor) for _ in range(2))
        self.assert_holds(first, extractor, 8)
        self.assert_holds(second, extractor, 0)
        assert first.paths == second.paths == sorted(crops.glob("*/*.png"))
        assert first.kept_in == second.kept_in == crops.parent / "crops.features.npz"
        np.testing.assert_array_equal(first.features, second.features)

    def test_follow_added_removed_and_modified_files(self, crops, extractor):
        features_of_folder(crops, extractor)
        save_image(crops / "camera9" / "new.png", 100)
        gallery = features_of_folder(crops, extractor)
        self.assert_holds(gallery, extractor, 1)
        assert len(gallery.paths) == 9

        (crops / "camera1" / "1.png").unlink()
        gallery = features_of_folder(crops, extractor)
        self.assert_holds(gallery, extractor, 0)
        assert len(gallery.paths) == 8
        with np.load(gallery.kept_in) as kept:
            assert len(kept["names"]) == 8

        save_image(crops / "camera0" / "3.png", 200)
        self.assert_holds(features_of_folder(crops, extractor), extractor, 1)

        (crops / "camera0" / "3.png").rename(crops / "camera0" / "another.png")
        self.assert_holds(features_of_folder(crops, extractor), extractor, 1)
        self.assert_holds(features_of_folder(crops, extractor), extractor, 0)

    def test_only_the_time_tells_a_change_of_equal_size(self, crops, extractor):
        picture = crops / "camera0" / "0.bmp"
        save_image(picture, 1)
        features_of_folder(crops, extractor)
        size = picture.stat().st_size
        save_image(picture, 2)
        os.utime(picture, ns=(time.time_ns() + 10**9,) * 2)
        assert picture.stat().st_size == size
        self.assert_holds(features_of_folder(crops, extractor), extractor, 1)

    def test_follow_the_model_and_its_settings(self, crops, extractor, weights, tmp_path):
        features_of_folder(crops, extractor)
        settings = {"device": "cpu", "verbose": False}
        shutil.copy(weights, tmp_path / "copy.pth.tar")
        self.assert_holds(
            features_of_folder(crops, FeatureExtractor(model_path=tmp_path / "copy.pth.tar", **settings)), extractor, 0
        )
        other = FeatureExtractor(model_path=save_model(tmp_path / "other.pth.tar", seed=1), **settings)
        self.assert_holds(features_of_folder(crops, other), other, 8)
        for changed in ({"image_size": (64, 32)}, {"amp": "bf16"}):
            other = FeatureExtractor(model_path=weights, **changed, **settings)
            self.assert_holds(features_of_folder(crops, other), other, 8)

    def test_unreadable_files_are_left_out_and_not_tried_again(self, crops, extractor):
        (crops / "camera0" / "broken.png").write_bytes(b"no image")
        (crops / "camera0" / "nowhere.png").symlink_to("nowhere")
        for num_extracted in (10, 0):
            gallery = features_of_folder(crops, extractor)
            assert gallery.unreadable == [crops / "camera0" / "broken.png", crops / "camera0" / "nowhere.png"]
            self.assert_holds(gallery, extractor, num_extracted)
        save_image(crops / "camera0" / "broken.png", 50)
        assert features_of_folder(crops, extractor).unreadable == [crops / "camera0" / "nowhere.png"]

    @pytest.mark.parametrize("content", [b"", b"no archive", "pickle", "half", "another shape", "nan", "too long"])
    def test_a_spoiled_file_is_made_anew(self, crops, extractor, content, tmp_path):
        cache = features_of_folder(crops, extractor).kept_in
        if content == "pickle":
            np.savez(cache, names=np.array([Path], dtype=object))
        elif content == "half":
            cache.write_bytes(cache.read_bytes()[:2000])
        elif content in ("another shape", "nan", "too long"):
            with np.load(cache) as kept:
                features = kept["features"]
                others = {"another shape": features[1:], "nan": features * np.nan, "too long": features * 2}
                arrays = {**kept, "features": others[content]}
            np.savez(cache, **arrays)
        else:
            cache.write_bytes(content)
        self.assert_holds(features_of_folder(crops, extractor), extractor, 8)
        self.assert_holds(features_of_folder(crops, extractor), extractor, 0)

    def test_need_no_pickle(self, crops, extractor):
        with np.load(features_of_folder(crops, extractor).kept_in, allow_pickle=False) as kept:
            assert kept["features"].dtype == np.float32 and kept["names"].tolist()[0] == "camera0/0.png"

    def test_leave_nothing_else_behind(self, crops, extractor, tmp_path):
        features_of_folder(crops, extractor)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["crops", "crops.features.npz"]

    def test_go_to_the_users_cache_where_the_place_beside_cannot_be_written(self, crops, extractor, user_cache):
        beside(crops).mkdir()  # stands in the way, for root too
        self.assert_holds(features_of_folder(crops, extractor), extractor, 8)
        gallery = features_of_folder(crops, extractor)
        self.assert_holds(gallery, extractor, 0)
        assert gallery.kept_in.parent == user_cache / "hhcl_torchreid"

    def test_go_nowhere_where_nothing_can_be_written(self, crops, extractor, user_cache):
        beside(crops).mkdir()
        user_cache.write_text("in the way")
        gallery = features_of_folder(crops, extractor)
        self.assert_holds(gallery, extractor, 8)
        assert gallery.kept_in is None

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission_to_write(self, crops, extractor, user_cache):
        crops.parent.chmod(0o555)
        try:
            gallery = features_of_folder(crops, extractor)
        finally:
            crops.parent.chmod(0o755)
        assert gallery.kept_in.parent == user_cache / "hhcl_torchreid"


def test_a_pipe_where_the_file_should_be_is_left_alone(crops, extractor, user_cache):
    os.mkfifo(beside(crops))
    assert features_of_folder(crops, extractor).kept_in.parent == user_cache / "hhcl_torchreid"
    assert beside(crops).is_fifo()


def test_a_model_whose_features_are_no_numbers(weights, crops):
    extractor = FeatureExtractor(model_path=weights, device="cpu", verbose=False)
    with torch.no_grad():
        extractor.model.neck.weight.mul_(torch.nan)
    with pytest.raises(InputError, match="NaN"):
        features_of_folder(crops, extractor)
    assert not beside(crops).exists()
