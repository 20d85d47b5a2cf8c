"""Trains or tests a model: ``python tools/train_hhcl.py --config-file configs/hhcl_r50_market.yaml --root DIR``.

``torchrun --nproc_per_node N`` in place of ``python`` trains on N GPUs.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence

from hhcl_torchreid import distributed
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.interruption import Interrupted
from hhcl_torchreid.runner import run
from hhcl_torchreid.settings import SETTINGS


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Torchreid's own command line; known settings may stand anywhere in it, also behind a list of names."""
    parser = argparse.ArgumentParser(description="Person re-identification without labels (HHCL) on torchreid")
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


def main(arguments: list[str] | None = None) -> int:
    """Runs the tool.

    Returns:
        0, 1 after another process of the run has died, 2 after bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    args = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    overrides = {
        "data.root": args.root,
        "data.sources": args.sources,
        "data.targets": args.targets,
        "data.transforms": args.transforms,
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    try:
        with distributed.processes():
            run(load_config(args.config_file, overrides, args.opts))
    except InputError as error:
        distributed.tell_once(f"error: {error}")
        return 2
    except Interrupted as interruption:
        distributed.tell_once(f"{interruption}; the same command with model.resume auto goes on from here")
        return 128 + interruption.signal
    except RuntimeError as error:
        if not distributed.lost_contact(error):
            raise
        distributed.tell_once(
            "error: another process of this run has died or no longer answers; model.resume auto goes on after the "
            "last finished epoch"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
