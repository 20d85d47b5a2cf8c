"""Writes a trained model for other runtimes: ``python tools/export.py --weights MODEL --format onnx``."""

import argparse
import sys
from pathlib import Path

from hhcl_torchreid import FeatureExtractor
from hhcl_torchreid.cli import add_image_size, run_tool
from hhcl_torchreid.export import TOLERANCE, export_onnx


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes a model as ONNX: uint8 pixels in, unit feature vectors out")
    parser.add_argument("--weights", required=True, metavar="MODEL", help="checkpoint, such as model-best.pth.tar")
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for a file of weights alone")
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="file to write (default: beside the weights, ending in .onnx)")
    add_image_size(parser)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> None:
    """Does the work, and says what it was."""
    out = Path(args.out) if args.out else _beside(Path(args.weights))
    extractor = FeatureExtractor(
        args.model_name, args.weights, image_size=args.image_size, device="cpu", verbose=False, amp="off"
    )
    difference = export_onnx(extractor, out)
    height, width = extractor.image_size
    print(
        f"Wrote {out}: {extractor.model.name}, uint8 RGB pixels (batch, 3, {height}, {width}) to unit rows (batch, "
        f"{extractor.model.feature_dim}); ONNX Runtime is within {difference:.1g} of PyTorch (allowed: {TOLERANCE:g})"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the tool; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: run(args))


def _beside(weights: Path) -> Path:
    name = weights.name
    for suffix in (".tar", ".pth", ".pt"):
        name = name.removesuffix(suffix)
    return weights.with_name(f"{name}.onnx")


if __name__ == "__main__":
    sys.exit(main())
