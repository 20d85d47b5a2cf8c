"""What docs/install.md says of files, and the light path's list of packages, are right."""

import configparser
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def requirements(text):
    return [line.split(";")[0].strip() for line in text.strip().splitlines() if not line.startswith("#")]


def test_the_light_path_asks_for_what_the_package_asks_for_but_for_faiss():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    needed = requirements(setup["options"]["install_requires"])
    light = requirements((REPOSITORY / "requirements-cpu.txt").read_text(encoding="utf-8"))
    assert [name for name in needed if "faiss" not in name] == [name for name in light if "faiss" not in name]
    assert [name for name in needed if "faiss-cpu" in name] == [name for name in light if "faiss" in name]
    assert 'faiss-gpu>=1.14; sys_platform == "linux"' in setup["options"]["install_requires"]


def test_the_oldest_versions_that_ci_tries_are_those_that_the_package_allows():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    bounds = dict(line.split(">=") for line in requirements(setup["options"]["install_requires"]))
    pins = requirements((REPOSITORY / ".github" / "oldest.txt").read_text(encoding="utf-8"))
    tried = dict(line.split("==") for line in pins)
    assert tried.keys() == bounds.keys() - {"faiss-cpu"}
    for name, version in tried.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_every_file_that_the_page_names_exists():
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", page) + re.findall(r"install -r (\S+)", page):
        assert (REPOSITORY / "docs" / target).exists() or (REPOSITORY / target).exists(), target
