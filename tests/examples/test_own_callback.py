"""wandb and MLflow, here stand-ins that take what the real ones take, hear of every epoch."""

import re
import sys
from types import ModuleType

import own_callback
import pytest
from small_runs import SMALL, pairs


class WandbRun:
    """As ``wandb.Run``: a dictionary a step, and no step before the last one."""

    def __init__(self):
        self.history = {}

    def log(self, data, step=None, commit=None):
        assert isinstance(data, dict) and all(isinstance(key, str) for key in data)
        assert step is not None and step >= max(self.history, default=0)
        self.history.setdefault(step, {}).update(data)


@pytest.fixture
def wandb(monkeypatch):
    module = ModuleType("wandb")
    module.run = None

    def init(entity=None, project=None, dir=None, id=None, name=None, config=None):
        module.run = WandbRun()
        return module.run

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    """As ``mlflow.log_metrics``, which starts a run where there is none, and checks names and values."""
    module = ModuleType("mlflow")
    module.logged = {}

    def log_metrics(metrics, step=None, synchronous=None, run_id=None, timestamp=None):
        assert all(re.fullmatch(r"[\w\-. :/]+", key) for key in metrics)
        module.logged[int(step)] = {key: float(value) for key, value in metrics.items()}

    module.log_metrics = log_metrics
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def test_both_hear_of_every_epoch(wandb, mlflow, data_root, tmp_path):
    settings = {**SMALL, "data.root": data_root, "data.targets": "[]", "data.save_dir": tmp_path, "engine.iters": 1}
    engine = own_callback.train(["wandb", "mlflow"], settings=pairs(settings))
    lines = {line["epoch"]: line for line in engine.history.lines}
    assert list(lines) == [0, 1] and lines[1]["loss"] > 0
    assert wandb.run.history == mlflow.logged == lines
