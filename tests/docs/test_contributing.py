"""What CONTRIBUTING.md says an addition touches is there."""

import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def rows():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (\w[\w ]*)(?: \*)? \| (?!write)(.*) \| (.*) \|$", text, re.MULTILINE)


@pytest.mark.parametrize(("addition", "what", "row"), rows(), ids=[addition for addition, *_ in rows()])
def test_what_an_addition_touches_exists_and_is_at_most_two_files(addition, what, row):
    places = re.findall(r"`(hhcl_torchreid/[\w/.]+)`", f"{what} {row}")
    assert 1 <= len(places) <= 2
    assert not [place for place in places if not (REPOSITORY / place).exists()]
    for table, file in re.findall(r"`([A-Z_]+)` in `(hhcl_torchreid/[\w/]+)\.py`", row):
        assert hasattr(importlib.import_module(file.replace("/", ".").removesuffix(".__init__")), table)


def test_every_thing_that_is_added_has_its_row():
    assert [addition for addition, *_ in rows()] == [
        "memory mode",
        "camera term",
        "backbone",
        "layout of weights",
        "labeler",
        "teacher",
        "data set",
        "callback",
        "setting",
        "command",
        "page feature",
    ]
