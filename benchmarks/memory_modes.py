"""The four memory modes on the demo, several seeds each: mean and spread of mAP and rank-1."""

import argparse
import json
import statistics
import sys
from pathlib import Path

from hhcl_torchreid import runner
from hhcl_torchreid.checkpoint import writing
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory import MEMORY_MODES

Scores = dict[str, list[dict[str, float]]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="configs/hhcl_demo.yaml")
    parser.add_argument("--modes", nargs="+", default=list(MEMORY_MODES), choices=list(MEMORY_MODES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", default="log/memory_modes", help="folder for the runs and results.json")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all runs: KEY VALUE ...")
    return parser.parse_args(arguments)


def run_modes(args: argparse.Namespace) -> Scores:
    """Trains once per mode and seed; ``results.json`` grows with every run."""
    scores: Scores = {}
    for mode in args.modes:
        scores[mode] = []
        for seed in args.seeds:
            cfg = load_config(
                args.config_file, {"hhcl.mode": mode, "train.seed": seed, "test.visrank": False}, args.opts
            )
            cfg.data.save_dir = str(Path(args.out, f"{mode}-{seed}"))
            (result,) = runner.run(cfg).results.values()
            scores[mode].append(result)
            path = Path(args.out, "results.json")
            with writing(path):
                path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def table(scores: Scores) -> str:
    """Mean ± standard deviation, in percent, as Markdown."""
    lines = ["| mode | mAP | rank-1 | each mAP |", "|---|---|---|---|"]
    for mode, results in scores.items():
        cells = []
        for measure in ("mAP", "Rank-1"):
            values = [100 * result[measure] for result in results]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        each = ", ".join(f"{100 * result['mAP']:.1f}" for result in results)
        lines.append(f"| `{mode}` | {' | '.join(cells)} | {each} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 after bad input."""
    args = parse_arguments(arguments)
    try:
        print(table(run_modes(args)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
