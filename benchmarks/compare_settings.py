"""Values of one setting on the demo, several seeds each: mean and spread of mAP and rank-1.

Examples:
    python benchmarks/compare_settings.py --key hhcl.mode --values centroid hard hybrid hybrid_instances
    python benchmarks/compare_settings.py --key train.bn_groups --values 1 2 4 8
    python benchmarks/compare_settings.py --key train.amp --values off bf16
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from hhcl_torchreid import runner
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import writing

Scores = dict[str, list[dict[str, float]]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/hhcl_demo.yaml")
    parser.add_argument("--key", required=True, help="the setting that differs, such as train.bn_groups")
    parser.add_argument("--values", nargs="+", required=True, help="what it is set to, as on the command line")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", default="log/compare_settings", help="folder for the runs and KEY.json")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all runs: KEY VALUE ...")
    return parser.parse_args(arguments)


def run_all(args: argparse.Namespace) -> Scores:
    """Trains once per value and seed; ``results.json`` grows with every run."""
    scores: Scores = {}
    for value in args.values:
        scores[value] = []
        for seed in args.seeds:
            cfg = load_config(
                args.config_file, {"train.seed": seed, "test.visrank": False}, [*args.opts, args.key, value]
            )
            cfg.data.save_dir = str(Path(args.out, f"{args.key}-{value}-{seed}"))
            (result,) = runner.run(cfg).results.values()
            scores[value].append(result)
            path = Path(args.out, f"{args.key}.json")
            with writing(path):
                path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def table(key: str, scores: Scores) -> str:
    """Mean ± standard deviation, in percent, as Markdown."""
    lines = [f"| `{key}` | mAP | rank-1 | each mAP |", "|---|---|---|---|"]
    for value, results in scores.items():
        cells = []
        for measure in ("mAP", "Rank-1"):
            values = [100 * result[measure] for result in results]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        each = ", ".join(f"{100 * result['mAP']:.1f}" for result in results)
        lines.append(f"| `{value}` | {' | '.join(cells)} | {each} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 after bad input."""
    args = parse_arguments(arguments)
    try:
        print(table(args.key, run_all(args)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
