"""The wheel has all that a user needs, and works from a folder that knows nothing of the checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("configs", "hhcl_torchreid", "weights", "LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py")

BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"
USE = """
import hhcl_torchreid
from hhcl_torchreid.resources import find_resource
for path, folder in (("hhcl_demo.yaml", "configs"), ("weights/osnet_x0_25_rendered.pth", "weights")):
    print(find_resource(path, folder))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    run([sys.executable, "-c", BUILD], folder)
    (file,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(command, folder, **environment):
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_file_is_in_the_wheel(wheel):
    package = wheel / "hhcl_torchreid"
    for folder in ("configs", "weights"):
        for file in (REPOSITORY / folder).iterdir():
            assert (package / folder / file.name).read_bytes() == file.read_bytes()
    for file in (REPOSITORY / "hhcl_torchreid").rglob("*"):
        if file.suffix in (".py", ".js", ".css", ".html", ".typed"):
            assert (wheel / file.relative_to(REPOSITORY)).exists()
    (entry_points,) = wheel.glob("*.dist-info/entry_points.txt")
    commands = configparser.ConfigParser()
    commands.read(entry_points)
    assert dict(commands["console_scripts"]) == {"hhcl": "hhcl_torchreid.commands:main"}


def test_names_resolve_inside_of_the_package(wheel, tmp_path):
    output = run([sys.executable, "-c", USE], tmp_path, PYTHONPATH=str(wheel))
    for line in output.splitlines():
        assert Path(line).is_relative_to(wheel) and Path(line).is_file()


def test_what_the_package_says_of_itself_leads_somewhere(wheel):
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    assert "](docs/" not in text and "![" not in text and "example.com" not in text
    assert "Description-Content-Type: text/markdown" in text
