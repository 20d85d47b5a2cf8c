"""The table of docs/backbones.md is what the script writes today."""

import runpy
from pathlib import Path

import pytest
import torch
import torchreid

from hhcl_torchreid.models import available_backbones

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
CHEAP = ("vit_small_ics", "osnet_x0_25", "hacnn", "shufflenet", "resnet18", "mobilenetv2_x1_0")
script = runpy.run_path(str(ROOT / "tools" / "list_backbones.py"))


def rows_of(page):
    return {
        line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `") and "model.name" not in line
    }


def test_the_page_lists_every_backbone_once_in_order():
    names = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert names == ["model.name", *available_backbones()]
    assert all(line.count("|") == 9 for line in rows_of(PAGE).values())


def test_the_page_is_up_to_date(capsys):
    assert script["main"](list(CHEAP)) == 0
    fresh = capsys.readouterr().out
    assert rows_of(fresh) == {name: rows_of(PAGE)[name] for name in CHEAP}
    assert fresh.split("| `model.name`")[0] == PAGE.split("| `model.name`")[0]


@pytest.mark.parametrize(
    ("name", "feature_length", "cells"),
    [
        ("resnet50", 2048, "any | all | 1 or 2 | yes | yes, V2"),
        ("densenet121", 1024, "any | all | no effect | yes | yes"),
        ("shufflenet", 960, "any | all | no effect | yes | no"),
        ("mudeep", 4096, "256 x 128 only | own | no effect | yes | no"),
        ("hacnn", 1024, "160 x 64 only | own | no effect | yes | no"),
    ],
)
def test_rows(name, feature_length, cells):
    with torch.device("meta"):
        plain = torchreid.models.build_model(name, num_classes=1, loss="triplet", pretrained=False)
    trained = [p.numel() for key, p in plain.named_parameters() if not key.startswith("classifier")]
    millions = (sum(trained) + feature_length) / 1e6
    assert rows_of(PAGE)[name] == f"| `{name}` | {feature_length} | {millions:.1f} | {cells} |"


def test_output_file(tmp_path, capsys):
    assert script["main"](["osnet_x0_25", "--output", str(tmp_path / "page.md")]) == 0
    assert "| `osnet_x0_25` | 512 |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""


def test_what_was_tried_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("old\n\n## Tried\n\nrows\n", encoding="utf-8")
    assert script["main"](["osnet_x0_25", "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.endswith(" yes |\n\n## Tried\n\nrows\n") and "old" not in text


def test_unknown_backbone(capsys):
    assert script["main"](["resnet51"]) == 2
    assert "did you mean resnet50" in capsys.readouterr().err
