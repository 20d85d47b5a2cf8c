"""Trains on images without labels, or tests a model, as the settings say.

``torchrun --nproc_per_node N -m hhcl_torchreid`` in place of ``hhcl`` trains on N GPUs.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .. import distributed
from ..cli import run_tool
from ..config import load_config
from ..log import add_verbosity
from ..options import Parser
from ..resources import resource_folder
from ..runner import run
from ..settings import SETTINGS

EXAMPLES = """\
examples:
  hhcl train --config-file hhcl_demo.yaml
  hhcl train --config-file hhcl_r50_market.yaml --root DIR --dry-run
  hhcl train --config-file hhcl_r50_market.yaml --root DIR model.resume auto train.seed 2
  hhcl train --config-file hhcl_r50_folder.yaml --root CROPS data.save_dir log/crops
"""


def build_parser(prog: str | None, description: str, examples: str) -> argparse.ArgumentParser:
    """The options that training and testing share, torchreid's own."""
    parser = Parser(
        prog, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(sorted(file.name for file in resource_folder("configs").glob("*.yaml")))
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help=f"YAML file with settings; of those that come along: {known}"
    )
    parser.add_argument("-s", "--sources", nargs="+", action="extend", help="data sets to train on")
    parser.add_argument("-t", "--targets", nargs="+", action="extend", help="data sets to test on")
    parser.add_argument("--transforms", nargs="+", action="extend", help="data augmentation")
    parser.add_argument("--root", help="folder that holds the data sets")
    add_verbosity(parser)
    parser.add_argument("opts", nargs="*", help="single settings: KEY VALUE KEY VALUE ...")
    return parser


def parse_mixed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a command line in which known settings may stand anywhere, also behind a list of names."""
    settings, others, remaining = [], [], iter(arguments)
    for argument in remaining:
        if argument in SETTINGS:
            settings += [argument, *itertools.islice(remaining, 1)]
        else:
            others.append(argument)
    args = parser.parse_intermixed_args(others)
    args.opts += settings
    return args


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = build_parser(prog, "Person re-identification without labels (HHCL) on torchreid", EXAMPLES)
    parser.add_argument("--dry-run", action="store_true", help="check configuration, weights, data, memory, and end")
    return parse_mixed(parser, sys.argv[1:] if arguments is None else arguments)


def run_from(args: argparse.Namespace, settings: Mapping[str, Any], dry_run: bool = False) -> None:
    """Runs what a command line asks for, together with the other processes of the run.

    Args:
        args: what :func:`parse_mixed` gives.
        settings: full key -> value, beside those that have options; None is no value.
        dry_run: only check.
    """
    given = {
        "data.root": args.root,
        "data.sources": args.sources,
        "data.targets": args.targets,
        "data.transforms": args.transforms,
        **settings,
    }
    words = [word for key, value in given.items() if value is not None for word in (key, repr(value))]
    with distributed.processes():
        run(load_config(args.config_file, options=[*words, *args.opts]), dry_run)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(
        lambda: run_from(args, {}, args.dry_run),
        after_signal="; the same command with model.resume auto goes on from here",
        level=args.level,
    )
