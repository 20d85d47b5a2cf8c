"""Trains or tests a model: ``python tools/train_hhcl.py --config-file configs/hhcl_r50_market.yaml --root DIR``.

``torchrun --nproc_per_node N`` in place of ``python`` trains on N GPUs.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence

from .. import distributed
from ..cli import run_tool
from ..config import load_config
from ..runner import run
from ..settings import SETTINGS


def parse_arguments(arguments: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Torchreid's own command line; known settings may stand anywhere in it, also behind a list of names."""
    parser = argparse.ArgumentParser(prog, description="Person re-identification without labels (HHCL) on torchreid")
    parser.add_argument("--config-file", default="", help="YAML file with settings; see configs/")
    parser.add_argument("-s", "--sources", nargs="+", action="extend", help="data sets to train on")
    parser.add_argument("-t", "--targets", nargs="+", action="extend", help="data sets to test on")
    parser.add_argument("--transforms", nargs="+", action="extend", help="data augmentation")
    parser.add_argument("--root", help="folder that holds the data sets")
    parser.add_argument("opts", nargs="*", help="single settings: KEY VALUE KEY VALUE ...")
    settings, others, remaining = [], [], iter(arguments)
    for argument in remaining:
        if argument in SETTINGS:
            settings += [argument, *itertools.islice(remaining, 1)]
        else:
            others.append(argument)
    args = parser.parse_intermixed_args(others)
    args.opts += settings
    return args


def train(args: argparse.Namespace) -> None:
    """Does the work, together with the other processes of the run."""
    overrides = {
        "data.root": args.root,
        "data.sources": args.sources,
        "data.targets": args.targets,
        "data.transforms": args.transforms,
    }
    with distributed.processes():
        run(load_config(args.config_file, {k: v for k, v in overrides.items() if v is not None}, args.opts))


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(sys.argv[1:] if arguments is None else arguments, prog)
    return run_tool(lambda: train(args), after_signal="; the same command with model.resume auto goes on from here")
