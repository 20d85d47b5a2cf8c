"""What the camera options and the teacher do where cameras differ more than people: combinations, several seeds each.

Renders a set made for this below ``--root``: six cameras of unlike tint, light and sharpness, which take unequal
numbers of images, and people whom two to six of them see. Every run starts from the same weights, which have only seen
other people by day. Finished runs are kept, and one that was cut off goes on after its last epoch.

Examples:
    python benchmarks/cameras.py
    python benchmarks/cameras.py --combinations plain "entropy, proxies" --seeds 1 2
    python benchmarks/cameras.py --out log/cameras_wider cluster.eps 0.6
"""

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from compare_supervised import adapt_batch_norm, train_with_labels
from yacs.config import CfgNode

from hhcl_torchreid import runner
from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.datasets import SyntheticMarket
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import writing
from hhcl_torchreid.rendering import render_market1501
from hhcl_torchreid.training.folder import RunFolder

RENDERING: dict[str, Any] = {
    "num_train_ids": 60,
    "num_test_ids": 30,
    "images_per_tracklet": (2, 12),
    "cameras_per_person": (2, 6),
    "camera_shares": (1.0, 0.8, 0.6, 0.45, 0.3, 0.2),
    "num_distractors": 60,
    "height": 96,
    "width": 48,
    "light": "mixed",
}

SETTINGS: dict[str, Any] = {
    "model.name": "osnet_x0_25",
    "model.pretrained": False,
    "model.load_weights": "weights/osnet_x0_25_rendered.pth",
    "data.sources": ["synthetic"],
    "data.targets": ["synthetic"],
    "data.workers": 0,
    "data.height": 96,
    "data.width": 48,
    "data.transforms": ["random_flip"],
    "sampler.num_instances": 8,
    "train.batch_size": 48,
    "train.max_epoch": 6,
    "train.lr": 0.0007,
    "train.amp": "off",
    "train.precise_bn": 8,
    "cluster.eps": 0.6,
    "cluster.k1": 20,
    "engine.iters": 30,
    "test.batch_size": 256,
    "test.eval_freq": -1,
}

ENTROPY = {"hhcl.camera_weight": "entropy"}
PROXIES = {"hhcl.camera_proxy": 0.5}
HARMONIC = {"hhcl.mode": "harmonic"}
TEACHER = {"hhcl.teacher": 0.99}
STATISTICS = {"train.camera_bn": 8}
COMBINATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "entropy": ENTROPY,
    "proxies": PROXIES,
    "entropy, proxies": ENTROPY | PROXIES,
    "entropy, harmonic": ENTROPY | HARMONIC,
    "teacher": TEACHER,
    "all": ENTROPY | PROXIES | HARMONIC | TEACHER,
    "statistics": STATISTICS,
    "statistics, entropy, proxies": STATISTICS | ENTROPY | PROXIES,
    "statistics, all": STATISTICS | ENTROPY | PROXIES | HARMONIC | TEACHER,
    "true labels": {"engine.labels": "identities"},
}
"""What each changes about HHCL."""

START, SOFTMAX = "start", "softmax"
"""The weights that all start from, with batch-norm statistics of this set; torchreid's engine, on as many images."""

COLUMNS = {
    "mAP": ("mAP", 100, 1),
    "rank1": ("rank-1", 100, 1),
    "mAP_by_camera": ("mAP, tested by camera", 100, 1),
    "ari": ("ARI", 100, 1),
    "one_camera": ("one-camera clusters, %", 100, 0),
    "seconds_per_step": ("s per step", 1, 2),
}
"""Measure -> its heading, the factor it is shown with, and decimals."""

Result = dict[str, float]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [START, *COMBINATIONS, SOFTMAX]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/cameras", help="folder that the set is rendered into")
    parser.add_argument("--out", default="log/cameras", help="folder for the runs and their results")
    parser.add_argument("--combinations", nargs="+", choices=names, default=names, metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all runs: KEY VALUE ...")
    return parser.parse_args(arguments)


def configure(args: argparse.Namespace, name: str, seed: int) -> CfgNode:
    """The configuration of one run."""
    folder = f"{name.replace(', ', '_').replace(' ', '_')}-{seed}"
    own = {"data.root": args.root, "data.save_dir": str(Path(args.out, folder)), "train.seed": seed}
    return load_config("", {**SETTINGS, **COMBINATIONS.get(name, {}), **own}, args.opts)


def one_camera_share(labels: Path) -> float:
    """The share of the clusters in a ``labels.csv`` whose images are all of one camera."""
    cameras = defaultdict(set)
    with open(labels, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if int(row["label"]) >= 0:
                cameras[row["label"]].add(row["camera"])
    return statistics.mean(len(seen) == 1 for seen in cameras.values())


def read(cfg: CfgNode) -> Result | None:
    """Measures of a finished run's last model and of the labels that it was trained with last; None of any other.

    Seconds are those of its fastest epoch: what else the machine did then disturbed least.
    """
    folder = RunFolder(cfg.data.save_dir)
    if not folder.metrics.exists():
        return None
    with open(folder.metrics, encoding="utf-8", newline="") as file:
        _, *epochs = csv.DictReader(file)
    if not epochs or len(epochs) < cfg.train.max_epoch or not epochs[-1]["mAP"]:
        return None
    return {
        **{name: float(epochs[-1][name]) for name in ("mAP", "rank1", "ari") if name in epochs[-1]},
        "one_camera": one_camera_share(folder.labels),
        "seconds_per_step": min(float(epoch["seconds_train"]) for epoch in epochs) / cfg.engine.iters,
    }


def train(cfg: CfgNode) -> Result | None:
    """One run of HHCL, or what is left of it."""
    if read(cfg) is None:
        cfg.model.resume = "auto"
        runner.run(cfg)
    result = read(cfg)
    return None if result is None else {**result, "mAP_by_camera": test_by_camera(cfg)}


def test_by_camera(cfg: CfgNode) -> float:
    """The last model's mAP where each camera of the test set has batch-norm statistics of its own."""
    folder = RunFolder(cfg.data.save_dir)
    kept = Path(cfg.data.save_dir, "by_camera.json")
    if not kept.exists():
        tested = cfg.clone()
        tested.model.resume, tested.model.load_weights = "", str(folder.last_checkpoint)
        tested.test.evaluate, tested.test.camera_bn = True, STATISTICS["train.camera_bn"]
        (found,) = runner.run(tested).results.values()
        with writing(kept):
            kept.write_text(json.dumps(found["mAP"]) + "\n", encoding="utf-8")
    return float(json.loads(kept.read_text(encoding="utf-8")))


def compare(name: str, cfg: CfgNode) -> Result:
    """What is no run of HHCL: the start's test, or torchreid's softmax engine over as many images."""
    path = Path(cfg.data.save_dir, "result.json")
    if not path.exists():
        images_seen = cfg.train.batch_size * cfg.engine.iters * cfg.train.max_epoch
        found = adapt_batch_norm(cfg) if name == START else train_with_labels(cfg, images_seen, cfg.train.batch_size)
        result = {"mAP": found["after"]["mAP"], "rank1": found["after"]["Rank-1"]}
        with writing(path):
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def run_all(args: argparse.Namespace) -> dict[str, list[Result]]:
    """Trains what has no result yet, the first seed of all before the second."""
    render_market1501(Path(args.root, SyntheticMarket.dataset_dir), **RENDERING)
    results: dict[str, list[Result]] = {name: [] for name in args.combinations}
    for seed in args.seeds:
        for name in args.combinations:
            cfg = configure(args, name, seed)
            if (result := train(cfg) if name in COMBINATIONS else compare(name, cfg)) is not None:
                results[name].append(result)
    return results


def table(results: dict[str, list[Result]]) -> str:
    """Mean ± standard deviation of every measure, and each mAP, as Markdown."""
    headings = [heading for heading, _, _ in COLUMNS.values()]
    lines = [f"| | {' | '.join(headings)} | each mAP |", "|---" * (len(headings) + 2) + "|"]
    for name, runs in results.items():
        cells = []
        for measure, (_, factor, decimals) in COLUMNS.items():
            values = [factor * run[measure] for run in runs if measure in run]
            spread = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.{decimals}f}{spread}" if values else "")
        each = ", ".join(f"{100 * run['mAP']:.1f}" for run in runs)
        lines.append(f"| {name} | {' | '.join(cells)} | {each} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Renders, trains and prints the table; 2 after bad input."""
    args = parse_arguments(arguments)
    torch.set_num_threads(1)
    try:
        results = run_all(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
