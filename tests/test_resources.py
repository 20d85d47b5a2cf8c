"""Configurations and weights that come along are found by their names, and a user's own files go first."""

from pathlib import Path

import pytest

from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.resources import find_resource, resource_folder

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("path", ["hhcl_demo.yaml", "configs/hhcl_demo.yaml", REPOSITORY / "configs/hhcl_demo.yaml"])
def test_a_configuration_is_found_from_any_folder(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert load_config(str(path)).model.name == "osnet_x0_25"


@pytest.mark.parametrize("path", ["osnet_x0_25_rendered.pth", "weights/osnet_x0_25_rendered.pth"])
def test_weights_are_found_from_any_folder(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert "state_dict" in load_checkpoint(path)


def test_a_file_of_the_users_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hhcl_demo.yaml").write_text("model: {name: osnet_x1_0}\n")
    assert load_config("hhcl_demo.yaml").model.name == "osnet_x1_0"
    assert load_config("configs/hhcl_demo.yaml").model.name == "osnet_x0_25"


@pytest.mark.parametrize(
    "path", ["", ".", "other/hhcl_demo.yaml", "/hhcl_demo.yaml", "x" * 5000, "a\0b", "nowhere.yaml"]
)
def test_another_path_stays_as_it_is(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert find_resource(path, "configs") == path


def test_a_name_that_is_nearly_right_is_told_what_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'hhcl_dmo\.yaml'.*hhcl_demo\.yaml"):
        load_config("hhcl_dmo.yaml")


def test_a_checkout_has_one_copy():
    assert resource_folder("configs") == REPOSITORY / "configs"
    assert resource_folder("weights") == REPOSITORY / "weights"
