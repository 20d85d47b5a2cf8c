"""Tests a model on labelled images: what ``hhcl train`` does with ``test.evaluate True``."""

import argparse
import sys
from collections.abc import Sequence

from ..cli import run_tool
from ..errors import InputError
from .train import build_parser, parse_mixed, run_from

EXAMPLES = """\
examples:
  hhcl test --weights log/demo/model/model-best.pth.tar --config-file hhcl_demo.yaml
  hhcl test --weights log/market/model/model-best.pth.tar --root DIR -t market1501 test.rerank True test.visrank True
"""


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = build_parser(prog, "Tests a model on query and gallery images with labels", EXAMPLES)
    parser.add_argument("--weights", metavar="MODEL", help="checkpoint, or a file of weights (model.load_weights)")
    return parse_mixed(parser, sys.argv[1:] if arguments is None else arguments)


def test(args: argparse.Namespace) -> None:
    """Does the work.

    Raises:
        InputError: a setting asks for training.
    """
    pairs = zip(args.opts[::2], args.opts[1::2], strict=False)
    if {value for key, value in pairs if key == "test.evaluate"} - {"True"}:
        raise InputError("test.evaluate is not True, and hhcl test only tests: leave it out, or train with hhcl train")
    run_from(args, {"test.evaluate": True, "model.load_weights": args.weights})


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: test(args), level=args.level)
