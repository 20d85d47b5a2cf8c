"""The tables of docs/results.md are those that its tool makes, from figures that docs/benchmarks.md has measured."""

import re
from pathlib import Path

import list_results
import pytest
import torch

from hhcl_torchreid import build_model
from hhcl_torchreid.config import load_config

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
MEASURED = (REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_the_tables_are_not_stale_and_keep_what_people_fill_in():
    empty = r"(config-file hhcl_r50_market.yaml .*\|)  \|"
    filled = PAGE if not re.search(empty, PAGE) else re.sub(empty, r"\1 12.3, 45.6 |", PAGE)
    assert filled.count("|") == PAGE.count("|")
    assert list_results.page(filled) == filled
    assert list_results.page(PAGE.replace("60 x 200", "1 x 1")) == PAGE


def test_the_figures_that_it_starts_from_are_measured_ones():
    steps = re.findall(r"^\| (bf16|float32), `train.bn_groups (\d)` \| ([\d.]+) ms", MEASURED, re.MULTILINE)
    assert {(name, int(groups)): float(time) / 1000 for name, groups, time in steps} == pytest.approx(
        list_results.STEP_SECONDS
    )
    features = re.findall(r"^\| extraction, (bf16|float32).* ([\d,]+) \|$", MEASURED, re.MULTILINE)
    assert {name: int(count.replace(",", "")) for name, count in features} == list_results.FEATURES_PER_SECOND


def test_minutes_of_a_run_counted_by_hand():
    cfg = load_config(str(REPOSITORY / "configs" / "hhcl_r50_market.yaml"))
    labels, tests = 61 * 0.031, 7 * 4
    seconds = 12_000 * 0.06 + (61 * 12_936 + 7 * 19_281) / 18_904 + labels + tests
    assert list_results.minutes(cfg, "bf16") == pytest.approx(seconds / 60)
    cfg.merge_from_list(["model.name", "osnet_x1_0"])
    assert list_results.minutes(cfg, "bf16") is None


def bytes_saved(model, batch, size):
    """All that autograd keeps for a batch, each piece of memory once."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(batch, 3, *size))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_an_image_more_keeps_as_much_as_is_counted(pooling):
    model = build_model("osnet_x0_25", pretrained=False, pooling=pooling).train()
    counted = list_results.activations("osnet_x0_25", pooling, 1, 128, 64)
    one_more = (bytes_saved(model, 6, (128, 64)) - bytes_saved(model, 2, (128, 64))) / 4
    assert 4 * counted.numbers + counted.other == pytest.approx(one_more, rel=0.01)
    assert counted.weights == sum(weight.numel() for weight in model.parameters())
