"""Writes a model for other programs: images in, unit vectors out."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ..cli import add_image_size, parse_paths, run_tool
from ..errors import InputError
from ..export import INPUTS, TOLERANCE, export_onnx, export_openvino, export_torchscript
from ..features.extractor import FeatureExtractor
from ..log import add_verbosity, answer
from ..options import Parser

FORMATS = {
    "onnx": (export_onnx, ".onnx"),
    "torchscript": (export_torchscript, ".torchscript"),
    "openvino": (export_openvino, "_openvino_model"),
}
"""What writes a format, and what is put behind the name of the weights."""


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    example = "example: hhcl export --weights MODEL --format onnx"
    parser = Parser(prog, description=__doc__, epilog=example)
    parser.add_argument("--weights", required=True, metavar="MODEL", help="checkpoint, such as model-best.pth.tar")
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for a file of weights alone")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="(default: %(default)s)")
    inputs = "; ".join(f"{kind}: {what}" for kind, (_, what) in INPUTS.items())
    parser.add_argument("--input", choices=INPUTS, default="uint8", help=f"{inputs} (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="to write; of openvino a folder (default: beside MODEL)")
    add_image_size(parser)
    add_verbosity(parser)
    return parse_paths(parser, arguments)


def run(args: argparse.Namespace) -> None:
    """Does the work, and says what it was."""
    export, ending = FORMATS[args.format]
    out = Path(args.out) if args.out else _beside(Path(args.weights), ending)
    if out.exists() and os.path.exists(args.weights) and out.samefile(args.weights):
        raise InputError(f"--out {out} is the file of the weights, which would be lost: give another name")
    extractor = FeatureExtractor(
        args.model_name, args.weights, image_size=args.image_size, device="cpu", verbose=False, amp="off"
    )
    difference = export(extractor, out, args.input)
    height, width = extractor.image_size
    answer(
        f"Wrote {out}: {extractor.model.name}, (batch, 3, {height}, {width}) {INPUTS[args.input][1]}, to unit rows "
        f"(batch, {extractor.model.feature_dim}); within {difference:.1g} of the model (allowed: {TOLERANCE:g})"
    )


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: run(args), level=args.level)


def _beside(weights: Path, ending: str) -> Path:
    name = weights.name
    for suffix in (".tar", ".pth", ".pt"):
        name = name.removesuffix(suffix)
    return weights.with_name(f"{name}{ending}")
