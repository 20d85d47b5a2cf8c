"""The command hhcl: its sub-commands, what it imports, and the files in tools/ that are the same commands."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hhcl_torchreid.commands import COMMANDS, main

REPOSITORY = Path(__file__).parents[2]
TOOLS = {
    "assign_identities": "assign",
    "choose_eps": "choose_eps",
    "crop_tracks": "crop_tracks",
    "export": "export",
    "render_people": "render",
    "search": "search",
    "train_hhcl": "train",
}

LIGHT = """
import sys
from hhcl_torchreid.commands import main
try:
    main(["--help"])
finally:
    loaded = {name.split(".")[0] for name in sys.modules} & {"torch", "torchreid", "numpy", "faiss", "yaml"}
    assert not loaded, loaded
"""

# Public names, every command, and what a search for neighbours takes, on a machine without FAISS.
WITHOUT_FAISS = """
import importlib, sys, warnings
warnings.simplefilter("error")
sys.modules["faiss"] = None
import hhcl_torchreid
for name in hhcl_torchreid.__all__:
    getattr(hhcl_torchreid, name)
from hhcl_torchreid.commands import COMMANDS
for name in COMMANDS:
    importlib.import_module("hhcl_torchreid.commands." + name.replace("-", "_"))
import torch
from hhcl_torchreid.clustering import k_nearest_neighbors
rows = torch.eye(4)
for backend in ("torch", "auto", "auto"):
    assert k_nearest_neighbors(rows, 2, backend)[:, 0].tolist() == [0, 1, 2, 3]
"""


THEN_TORCHREID = """
import sys
import hhcl_torchreid
assert "torch" not in sys.modules and "torchreid" not in sys.modules
import torchreid
from hhcl_torchreid._torchreid import image_datasets
print(*image_datasets())
"""


def run_python(script):
    return subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_imports_nothing_heavy():
    result = run_python(LIGHT)
    assert result.returncode == 0, result.stderr
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


def test_torchreid_knows_the_data_sets_whoever_is_imported_first():
    result = run_python(THEN_TORCHREID)
    assert result.returncode == 0, result.stderr
    assert "not one of" not in result.stderr and "synthetic" in result.stdout


def test_everything_imports_without_faiss_and_without_a_warning_and_says_so_once():
    result = run_python(WITHOUT_FAISS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("PyTorch searches neighbours in place of FAISS") == 1
    assert "Cython" not in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_options_under_its_own_name(capsys, name):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: hhcl {name} ") and re.search(rf"\bexamples?:\s+hhcl {name} ", output)


@pytest.mark.parametrize("words", [[], ["trane"], ["--root", "x"]])
def test_what_is_no_command_is_refused(capsys, words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "hhcl" in capsys.readouterr().err


def test_a_package_that_is_missing_is_a_sentence(monkeypatch, capsys):
    for name in ("commands.report", "training.comparison"):
        monkeypatch.delitem(sys.modules, f"hhcl_torchreid.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["report", "log"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "matplotlib.figure" in line and line.endswith("hhcl doctor says what is missing and how to mend it")


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == ["hhcl-torchreid", importlib.import_module("hhcl_torchreid").__version__]


@pytest.mark.parametrize(("tool", "command"), TOOLS.items())
def test_the_files_in_tools_are_the_commands(tool, command):
    module = importlib.import_module(f"hhcl_torchreid.commands.{command}")
    script = importlib.import_module(tool)
    assert (script.main, script.parse_arguments) == (module.main, module.parse_arguments)
