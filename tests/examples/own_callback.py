"""Sends every epoch's line of metrics.csv to Weights & Biases or MLflow, whichever is installed.

``python tests/examples/own_callback.py wandb hhcl_demo.yaml KEY VALUE ...`` trains as ``hhcl train`` does, and loss,
clusters, mAP, ... arrive under the names of their columns. Of several processes the main one alone calls.
"""

import sys
from collections.abc import Mapping, Sequence

from hhcl_torchreid import ImageHHCLEngine, runner
from hhcl_torchreid.config import load_config


class ToWandb:
    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        import wandb

        (wandb.run or wandb.init(project="hhcl")).log(metrics, step=epoch)


class ToMlflow:
    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(metrics, step=epoch)


CALLBACKS = {"wandb": ToWandb, "mlflow": ToMlflow}


def train(names: Sequence[str], config_file: str = "", settings: Sequence[str] = ()) -> ImageHHCLEngine:
    """Trains as a configuration says, with the callbacks of these names."""
    cfg = load_config(config_file, options=settings)
    return runner.run(cfg, callbacks=[CALLBACKS[name]() for name in names])


if __name__ == "__main__":
    train(sys.argv[1:2], sys.argv[2], sys.argv[3:])
