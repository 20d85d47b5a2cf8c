"""The command ``hhcl``: one module per sub-command, imported only when it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "train on images without labels",
    "test": "test a model on labelled images",
    "assign": "give every image of a folder an identity",
    "review": "look at identities and correct them, in a browser",
    "choose-eps": "show what each eps of the clustering gives",
    "search": "find the images most like a query in a folder",
    "export": "write a model for other programs (ONNX, TorchScript, OpenVINO)",
    "crop-tracks": "cut the people that a tracker has found out of a video",
    "render": "render people, as a data set or as footage",
    "report": "turn runs into rows of a table and curves",
    "doctor": "say what is installed, what is wrong and how to mend it",
}
"""Name -> what it does; the module of the same name has ``main(arguments, prog)``."""

EXAMPLES = """\
examples:
  hhcl train --config-file hhcl_demo.yaml
  hhcl train --config-file hhcl_r50_market.yaml --root DIR model.resume auto
  hhcl test --config-file hhcl_demo.yaml --weights log/demo/model/model-best.pth.tar
  hhcl assign --weights log/demo/model/model-best.pth.tar --root CROPS --out log/identities
  hhcl report log/demo

hhcl COMMAND --help tells the options of a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sub-command and gives its exit code.

    Args:
        arguments: the sub-command and its own arguments; None takes those of the process.
    """
    width = max(map(len, COMMANDS))
    lines = "".join(f"  {name:<{width}}  {what}\n" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "hhcl",
        usage="hhcl COMMAND ...",
        description=f"Person re-identification without labels.\n\ncommands:\n{lines}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hhcl-torchreid {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = parser.parse_args(words[:1]).command
    try:
        module = import_module(f".{command.replace('-', '_')}", __name__)
    except ImportError as error:
        if (error.name or "").startswith(__package__.partition(".")[0]):
            raise
        way_out = "hhcl doctor says what is missing and how to mend it"
        if "failed to map segment" in str(error):
            way_out = "there is too little memory for it; free some, or raise its limit (ulimit -v)"
        print(f"error: {error}: {way_out}", file=sys.stderr)
        return 2
    return module.main(words[1:], f"hhcl {command}")
