"""What docs/methods.md says can be run: its commands' settings, its configurations, and 3C's numbers in them."""

import re
import shlex
from pathlib import Path

import pytest

from hhcl_torchreid.config import load_config, settings_without_effect

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"`python tools/train_hhcl.py (.*?)`", PAGE)


def test_every_method_has_its_command():
    assert len(COMMANDS) == 7


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_of_a_command_load_and_all_have_an_effect(command):
    flag, file, root, _, *options = shlex.split(command)
    assert (flag, root) == ("--config-file", "--root")
    assert settings_without_effect(load_config(str(REPOSITORY / file), options=options)) == []


def test_every_part_stands_in_the_table_of_settings():
    for setting in re.findall(r"^\| [a-z ]+ \| `([\w.]+ [\w.]+)` \|", PAGE, re.MULTILINE):
        load_config(options=setting.split())


@pytest.mark.parametrize(
    ("name", "iters", "size"), [("market", 200, (256, 128)), ("msmt17", 400, (256, 128)), ("veri", 400, (224, 224))]
)
def test_3cs_published_settings(name, iters, size):
    cfg = load_config(str(REPOSITORY / "configs" / f"cameras_r50_{name}.yaml"))
    assert (cfg.model.pooling, cfg.data.height, cfg.data.width, cfg.engine.iters) == ("gem", *size, iters)
    assert (cfg.hhcl.mode, cfg.hhcl.camera_weight, cfg.hhcl.camera_proxy) == ("harmonic", "entropy", 0)
    assert (cfg.train.warmup_epochs, cfg.train.stepsize, cfg.train.max_epoch) == (10, [20], 60)
    assert (cfg.cluster.eps, cfg.train.batch_size, cfg.train.bn_groups) == (0.6, 256, 2)


def test_every_file_that_the_page_names_exists():
    for name in re.findall(r"`(\w+\.yaml)`", PAGE):
        assert (REPOSITORY / "configs" / name).exists(), name
    for path in re.findall(r"`(tests/[\w/.]+)`", PAGE):
        assert (REPOSITORY / path).exists(), path
