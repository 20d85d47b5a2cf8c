"""Takes backbones through a step of training, resuming, extraction and an ONNX file, on small rendered images.

Example:
    python benchmarks/backbones.py --output docs/backbones.md
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import tempfile
import textwrap
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hhcl_torchreid import FeatureExtractor, runner
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.config import load_config
from hhcl_torchreid.export import export_onnx
from hhcl_torchreid.files import replacing
from hhcl_torchreid.models import available_backbones
from hhcl_torchreid.rendering import render_market1501

FAMILIES_OF_TIMM = (
    *("resnet10t", "mobilenetv3_small_050", "tf_efficientnet_b0", "convnext_atto", "regnety_002", "ghostnet_050"),
    *("vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "levit_128s"),
    *("mobilevit_xxs", "edgenext_xx_small", "fastvit_t8", "eva02_tiny_patch14_224", "mixer_s32_224"),
)
OF_OTHER_PROGRAMS = ("bot/resnet50", "fastreid/resnet50")
SIZES = ((64, 32), (160, 64), (256, 128), (384, 128))
"""Height and width, pixels; the first that a backbone takes counts."""

SETTINGS = {
    "model.pretrained": False,
    "data.targets": [],
    "data.sources": ["synthetic"],
    "data.workers": 0,
    "sampler.num_instances": 4,
    "train.batch_size": 8,
    "cluster.k1": 8,
    "engine.iters": 1,
    "engine.labels": "identities",  # clusters of a random network's features may be none
    "use_gpu": False,
}
HEADING = "\n## Tried\n"

OF_LIBRARIES = {
    "timm/fastvit_t8": "does not train on a CPU: PyTorch 2.14 frees memory twice in its backward pass of channels-last "
    "images",
}
"""Why a backbone fails, where that is not this package's to mend."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="backbones (default: all, and some of timm's)")
    parser.add_argument("--log", type=Path, default="log/backbones.jsonl", help="results, of earlier calls too")
    parser.add_argument("--output", type=Path, metavar="PAGE", help="write what the log holds there, at its end")
    return parser.parse_args(arguments)


def try_backbone(name: str, root: Path) -> dict[str, Any]:
    """What became of one backbone: image size, largest difference of the ONNX file, or where it failed."""
    failures = []
    for size in SIZES:
        try:
            # Of its own, because a library that breaks takes its process along.
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
                result = process.submit(_go_through, name, size, root).result()
        except BrokenProcessPool:
            result = "its process died"
        if not isinstance(result, str):
            return {"name": name, "size": size, "difference": result}
        failures.append(f"{size[0]} x {size[1]}: {result}")
    return {"name": name, "failures": failures}


def _go_through(name: str, size: tuple[int, int], root: Path) -> float | str:
    done = ["the beginning"]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return _train_to_export(name, size, root, done)
    except Exception as error:  # networks fail in their own ways, and the others are to be tried all the same
        return f"after {done[-1]}, {' '.join(str(error).split())[:400]}"


def _train_to_export(name: str, size: tuple[int, int], root: Path, done: list[str]) -> float:
    with tempfile.TemporaryDirectory() as log:
        settings = {**SETTINGS, "model.name": name, "data.root": str(root), "data.save_dir": log}
        settings |= {"data.height": size[0], "data.width": size[1]}
        runner.run(load_config(overrides={**settings, "train.max_epoch": 1}))
        done.append("training")
        engine = runner.run(load_config(overrides={**settings, "train.max_epoch": 2, "model.resume": "auto"}))
        done.append("resuming")
        extractor = FeatureExtractor(model_path=Path(log, "model", "model-last.pth.tar"), device="cpu", verbose=False)
        pixels = torch.randint(0, 256, (3, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        engine.model.eval()
        np.testing.assert_allclose(extractor(pixels), engine.embedder.embed(pixels), atol=1e-6)
        done.append("extraction")
        return export_onnx(extractor, Path(log, "model.onnx"))


def section(results: list[dict[str, Any]], untried: int) -> str:
    """The end of the page.

    Args:
        results: from :func:`try_backbone`.
        untried: backbones that the log does not hold.
    """
    others = f"{untried} others have not been tried so. " if untried else ""
    passed = [result for result in results if "difference" in result]
    rows = [
        f"| {result['name']} | {result['size'][0]} x {result['size'][1]} | {result['difference']:.0e} |\n"
        if "difference" in result
        else f"| {result['name']} | none | {OF_LIBRARIES.get(result['name'], '; '.join(result['failures']))} |\n"
        for result in results
    ]
    text = (
        f"{len(passed)} of {len(results)} backbones have gone through a step of training, resuming with a second one, "
        "extraction (within 1e-6 of the trained network) and an ONNX file, with "
        "`python benchmarks/backbones.py --output docs/backbones.md`: random weights, rendered people, a CPU; images "
        f"are of the smallest size tried that the network takes. {others}The last column is the largest difference "
        "between the file's features in ONNX Runtime and PyTorch's."
    )
    return f"{HEADING}\n{textwrap.fill(text, 120)}\n\n| network | images | ONNX file |\n|---|---|---|\n{''.join(rows)}"


def run(args: argparse.Namespace) -> None:
    """Does the work."""
    warnings.simplefilter("ignore")
    every = (*available_backbones(), *OF_OTHER_PROGRAMS, *(f"timm/{name}" for name in FAMILIES_OF_TIMM))
    args.log.parent.mkdir(parents=True, exist_ok=True)
    lines = args.log.read_text(encoding="utf-8").splitlines() if args.log.exists() else []
    known = {result["name"]: result for result in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as root, open(args.log, "a", encoding="utf-8") as log:
        render_market1501(
            Path(root, "synthetic_market"),
            num_train_ids=6,
            num_test_ids=2,
            images_per_tracklet=(2, 2),
            num_distractors=0,
            height=64,
            width=32,
            seed=3,
            workers=1,
        )
        for name in args.names or [name for name in every if name not in known]:
            known[name] = try_backbone(name, Path(root))
            print(json.dumps(known[name]), file=log, flush=True)
            print(known[name], flush=True)
    if args.output:
        results = [known[name] for name in every if name in known]
        page = args.output.read_text(encoding="utf-8").partition(HEADING)[0]
        with replacing(args.output) as file:
            file.write(page + section(results, len(every) - len(results)))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
