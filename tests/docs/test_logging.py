"""What docs/logging.md shows can be written like that."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from hhcl_torchreid import ImageHHCLEngine

PAGE = (Path(__file__).parents[2] / "docs" / "logging.md").read_text(encoding="utf-8")
CONFIGURING, CALLBACK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_lines_of_the_page_are_python():
    compile(CONFIGURING, "logging.md", "exec")


def test_the_callback_of_the_page_takes_an_epoch(monkeypatch):
    logged, given = [], []
    wandb = ModuleType("wandb")
    wandb.run = SimpleNamespace(log=lambda metrics, step: logged.append((step, metrics)))
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    def run(**settings):
        inspect.signature(ImageHHCLEngine.run).bind(None, **settings)
        given.extend(settings["callbacks"])

    exec(compile(CALLBACK, "logging.md", "exec"), {"engine": SimpleNamespace(run=run)})
    (callback,) = given
    callback.on_epoch(2, {"loss": 0.5})
    assert logged == [(2, {"loss": 0.5})]
