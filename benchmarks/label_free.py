"""Does the label-free measure follow mAP? Trains on the demo data well and badly, and draws one against the other."""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import spearmanr

from hhcl_torchreid import config, runner
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import writing

RUNS: dict[str, dict[str, Any]] = {
    "as the demo": {},
    "learning rate x 10": {"train.lr": 0.003},
    "eps 0.25": {"cluster.eps": 0.25},
    "eps 0.65": {"cluster.eps": 0.65},
    "running averages in batch norm": {"train.precise_bn": 0},
}
"""What each run changes in the demo's configuration."""

MEASURE = "self_retrieval"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="configs/hhcl_demo.yaml")
    parser.add_argument("--out", default="log/label_free", help="folder for the runs and points.csv")
    parser.add_argument("--picture", default="docs/images/label_free.png")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="only these")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all: KEY VALUE ...")
    return parser.parse_args(arguments)


def train(name: str, config_file: str, out: Path, options: Sequence[str]) -> list[dict[str, Any]]:
    """One run, tested after every epoch.

    Returns:
        For each epoch, the untrained model's 0 first: run, epoch, the measure and mAP; none from the epoch on in which
        the run ended for want of clusters.
    """
    changed = {
        "data.save_dir": str(out / name.replace(" ", "_")),
        "test.eval_freq": 1,
        "test.visrank": False,
        **RUNS[name],
    }
    try:
        runner.run(config.load_config(config_file, changed, options))
    except InputError as error:
        print(f"{name} ended early: {error}")
    with open(Path(changed["data.save_dir"], "metrics.csv"), encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row[MEASURE] and row["mAP"]]
    return [
        {"run": name, "epoch": int(row["epoch"]), MEASURE: float(row[MEASURE]), "mAP": float(row["mAP"])}
        for row in rows
    ]


def rank_correlation(points: Sequence[Mapping[str, Any]]) -> float:
    """Spearman's, between the measure and mAP."""
    return float(spearmanr([point[MEASURE] for point in points], [point["mAP"] for point in points]).statistic)


def cost_of_choice(points: Sequence[Mapping[str, Any]]) -> float:
    """What the mAP of the epoch chosen by the measure lacks to the best epoch's."""
    chosen = max(points, key=lambda point: point[MEASURE])
    return max(point["mAP"] for point in points) - chosen["mAP"]


def summary(points: Sequence[Mapping[str, Any]]) -> str:
    """A table of the runs, as Markdown."""
    lines = [
        "| run | mAP, epoch by epoch | measure | rank correlation | lost by its choice |",
        "|---|---|---|---:|---:|",
    ]
    for name in dict.fromkeys(point["run"] for point in points):
        trained = [point for point in points if point["run"] == name and point["epoch"] > 0]
        if len(trained) > 1:
            accuracy = " ".join(f"{point['mAP']:.1%}" for point in trained)
            measured = " ".join(f"{point[MEASURE]:.2f}" for point in trained)
            lines.append(
                f"| {name} | {accuracy} | {measured} | {rank_correlation(trained):+.2f} | "
                f"{cost_of_choice(trained):.1%} |"
            )
    lines.append(f"| all, with epoch 0 | | | {rank_correlation(points):+.2f} | |")
    return "\n".join(lines)


def draw(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """All epochs of all runs: the measure across, mAP up; a line for each run."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(point["run"] for point in points):
        of_run = [point for point in points if point["run"] == name]
        axes.plot(
            [point[MEASURE] for point in of_run], [point["mAP"] for point in of_run], "o-", lw=0.8, ms=4, label=name
        )
    axes.set_xlabel("share of images that find their own cluster at another camera (no labels used)")
    axes.set_ylabel("mAP on the test set")
    axes.set_title(f"rank correlation {rank_correlation(points):+.2f} over {len(points)} models")
    axes.grid(alpha=0.3)
    axes.legend()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Trains, writes ``points.csv`` and the picture, prints the table; 2 after bad input."""
    args = parse_arguments(arguments)
    points: list[dict[str, Any]] = []
    try:
        for name in args.runs:
            points += train(name, args.config_file, Path(args.out), args.opts)
        table = Path(args.out, "points.csv")
        with writing(table), open(table, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ("run", "epoch", MEASURE, "mAP"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(points)
        draw(points, Path(args.picture))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{summary(points)}\n\n{args.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
