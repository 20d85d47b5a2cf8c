"""What is checked before a run begins: by itself, with --dry-run, and when a model is tested."""

import pytest
import torch
from small_runs import SMALL, pairs

from hhcl_torchreid import runner
from hhcl_torchreid.commands import main


def call(name, *words, **settings):
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return main([name, *map(str, words), *pairs({**SMALL, **settings})])


def test_a_dry_run_checks_all_and_leaves_no_run(data_root, tmp_path, capsys):
    log = tmp_path / "log"
    assert call("train", "--root", data_root, "--dry-run", data__save_dir=log) == 0
    output = capsys.readouterr().out
    assert "Decoded training images take" in output and "Nothing is wrong with this run" in output
    assert not [file for file in log.rglob("*") if not file.name.startswith(".")]


def test_a_dry_run_finds_what_is_wrong(data_root, tmp_path, capsys):
    assert call("train", "--root", data_root, "--dry-run", data__save_dir=tmp_path, train__amp="half") == 2
    assert "train.amp" in capsys.readouterr().err


def test_a_step_that_is_tried_learns_nothing(make_engine):
    engine = make_engine()
    before = [weight.clone() for weight in engine.model.parameters()]
    assert runner.try_step(engine) == 0  # bytes on a GPU
    assert all(torch.equal(one, other) for one, other in zip(before, engine.model.parameters(), strict=True))
    assert all(weight.grad is None for weight in engine.model.parameters())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model__load_weights": "weights/nowhere.pth"}, "nowhere.pth"),
        ({"model__load_weights": "osnet_x0_25_rendered.pth"}, "osnet_x0_25"),
        ({"train__bn_groups": 3}, "train.bn_groups"),
        ({"train__optim": "adamw"}, "adamw"),
        ({"cluster__knn": "annoy"}, "annoy"),
        ({"train__staged_lr": True, "train__new_layers": "['head']"}, "train.new_layers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_nothing_is_rendered_for_a_run_that_cannot_begin(tmp_path, capsys, settings, named):
    words = ["-s", "synthetic", "-t", "synthetic", "--root", tmp_path / "data"]
    assert call("train", *words, data__save_dir=tmp_path / "log", **settings) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_model_is_tested(data_root, tmp_path, capsys):
    settings = {"model__name": "osnet_x0_25", "data__save_dir": tmp_path / "log"}
    code = call("test", "--root", data_root, "--weights", "osnet_x0_25_rendered.pth", **settings)
    output = capsys.readouterr().out
    assert code == 0 and "mAP" in output
    assert list((tmp_path / "log").glob("test.log-*")) and not (tmp_path / "log" / "metrics.csv").exists()
