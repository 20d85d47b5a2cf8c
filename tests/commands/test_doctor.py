"""hhcl doctor: what is there, what is wrong, how to mend it."""

import configparser
import os
import re
import sys
from pathlib import Path

import pytest

from hhcl_torchreid.commands import doctor, main

REPOSITORY = Path(__file__).parents[2]


def call(capsys, *words):
    code = main(["doctor", *map(str, words)])
    lines = capsys.readouterr().out.splitlines()
    return code, {line.split()[0]: line for line in lines}, lines


def test_a_machine_that_the_tests_run_on_is_well(data_root, capsys):
    code, found, lines = call(capsys, "--root", data_root)
    assert code == 0 and lines[-1] == "Nothing is wrong."
    for name in ("python", "torch", "torchreid", "faiss", "cpu", "configs", "weights", "disk"):
        assert name in found
    assert "train.amp auto" in found["cpu"]
    assert any("market1501" in line for line in lines) and any("synthetic_market" in line for line in lines)


def test_faiss_may_be_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "faiss", None)
    code, found, _ = call(capsys, "--root", tmp_path / "nowhere")
    assert code == 0 and "PyTorch searches" in found["faiss"]


@pytest.mark.parametrize("module", ["timm", "yacs", "psutil", "safetensors"])
def test_a_broken_package_is_named_with_what_mends_it(module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    code, found, lines = call(capsys)
    assert code == 1 and "WRONG" in found[module]
    assert any(f"pip install {module}" in line for line in lines) and lines[-1].startswith("1 to mend")


def test_all_that_is_installed_with_the_package_is_looked_at():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    needed = re.findall(r"^([\w-]+)>", setup["options"]["install_requires"], re.MULTILINE)
    assert sorted(doctor.NEEDED.values()) == sorted(name for name in needed if not name.startswith("faiss"))


def test_a_package_that_does_not_go_with_pytorch_is_another_matter(monkeypatch, tmp_path, capsys):
    (tmp_path / "gdown.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gdown", raising=False)
    code, found, lines = call(capsys)
    assert code == 1 and "nms does not exist" in found["gdown"]
    assert any("from the index that PyTorch is from" in line for line in lines)


def test_an_empty_folder_of_a_data_set_is_wrong(capsys, tmp_path):
    (tmp_path / "market1501").mkdir()
    code, _, lines = call(capsys, "--root", tmp_path)
    assert code == 1
    assert any("market1501" in line and "empty" in line for line in lines)


def test_a_folder_that_cannot_be_written_is_wrong(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    code, found, lines = call(capsys)
    assert code == 1 and "cannot be written" in found["disk"]
    assert any("data.save_dir" in line for line in lines)
