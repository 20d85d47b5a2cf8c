"""Queries per second against a large gallery on the CPU, exact search: one query at a time, and many together."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from hhcl_torchreid.clustering.neighbors import nearest
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import writing


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=int, default=100_000, help="features searched (default: %(default)s)")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 2048], help="(default: %(default)s)")
    parser.add_argument("--queries", type=int, default=1000, help="searched together (default: %(default)s)")
    parser.add_argument("--topk", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    return parser.parse_args(arguments)


def unit_rows(count: int, dimensions: int, generator: np.random.Generator) -> Tensor:
    """(count, dimensions) float32, in random directions."""
    rows = generator.standard_normal((count, dimensions), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(rows)


def measure(args: argparse.Namespace, dimensions: int) -> dict[str, Any]:
    """Queries per second, one at a time (a hundred of them) and together."""
    generator = np.random.default_rng(0)
    gallery = unit_rows(args.gallery, dimensions, generator)
    queries = unit_rows(args.queries, dimensions, generator)
    singles = queries[:100]
    nearest(singles, gallery, args.topk)  # threads start and pages are touched before the clock does
    seconds_singly, seconds_together = [], []
    for _ in range(args.repeats):
        started = time.perf_counter()
        for query in singles:
            nearest(query[None], gallery, args.topk)
        seconds_singly.append(time.perf_counter() - started)
        started = time.perf_counter()
        nearest(queries, gallery, args.topk)
        seconds_together.append(time.perf_counter() - started)
    return {
        "gallery": args.gallery,
        "dimensions": dimensions,
        "topk": args.topk,
        "threads": faiss.omp_get_max_threads(),
        "queries_together": len(queries),
        "queries_per_second_singly": len(singles) / min(seconds_singly),
        "queries_per_second_together": len(queries) / min(seconds_together),
        "gallery_megabytes": gallery.nbytes / 1e6,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| gallery | length | memory | queries/s, one at a time | queries/s, together | threads |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        lines.append(
            f"| {result['gallery']:,} | {result['dimensions']:,} | {result['gallery_megabytes']:,.0f} MB "
            f"| {result['queries_per_second_singly']:,.0f} | {result['queries_per_second_together']:,.0f} "
            f"({result['queries_together']:,}) | {result['threads']} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 after bad input."""
    args = parse_arguments(arguments)
    try:
        if args.json:
            with writing(args.json, option="--json"):
                args.json.touch()
        results = [measure(args, dimensions) for dimensions in args.dimensions]
        if args.json:
            with writing(args.json, option="--json"):
                args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
