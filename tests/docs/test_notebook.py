"""The notebook is what its tool makes of the example, and its cells run one after the other, on smaller images."""

import json
from pathlib import Path

import build_notebook
import pytest
from small_runs import SMALL

from hhcl_torchreid.errors import InputError

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = (REPOSITORY / build_notebook.EXAMPLE).read_text(encoding="utf-8")
NOTEBOOK = (REPOSITORY / build_notebook.NOTEBOOK).read_text(encoding="utf-8")


def test_it_is_not_stale():
    assert build_notebook.notebook(EXAMPLE) == NOTEBOOK
    assert len(EXAMPLE.splitlines()) <= 80


def test_its_cells_are_the_examples_lines():
    cells = json.loads(NOTEBOOK)["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.replace("\n", "") == "".join(line for line in EXAMPLE.splitlines() if not line.startswith("#"))


def test_what_does_not_begin_with_a_cell_is_refused():
    with pytest.raises(InputError, match="first line"):
        build_notebook.notebook("import os\n# %%\n")


def test_its_cells_run(data_root, tmp_path):
    settings = {**SMALL, "model.load_weights": "", "train.precise_bn": 0, "test.visrank": False}
    smaller = {
        '"data.root": "data"': f'**{settings}, "data.root": {str(data_root)!r}',
        '"log/first_steps"': repr(str(tmp_path)),
        '"train.max_epoch": 3': '"train.max_epoch": 1',
        '"k1": 20, "k2": 6, "min_samples": 4': '"k1": 8, "k2": 3, "min_samples": 2',
    }
    names = {}
    for cell in json.loads(NOTEBOOK)["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for ours, other in smaller.items():
                source = source.replace(ours, other)
            exec(compile(source, "first_steps.ipynb", "exec"), names)
    assert names["identities"].num_identities >= 2 and (tmp_path / "identities" / "index.html").exists()
    assert [len(ranking.matches) for ranking in names["rankings"]] == [5, 5]
