"""The command ``hhcl``: one module per sub-command, imported only when it is asked for."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__

__all__ = ["COMMANDS", "load", "main"]

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

NO_MEMORY = ("annot allocate memory", "can't start new thread")

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
        module = load(command)
    except SystemExit as end:
        return int(end.code or 0)
    return module.main(words[1:], f"hhcl {command}")


def load(command: str) -> Any:
    """Imports the module of a command; a sentence says it where something that it needs cannot be imported.

    Args:
        command: one of ``COMMANDS``.

    Raises:
        SystemExit: with 2, after the sentence.
    """
    way_out = "hhcl doctor says what is missing and how to mend it"
    try:
        return import_module(f".{command.replace('-', '_')}", __name__)
    except ImportError as error:
        if (error.name or "").startswith(__package__.partition(".")[0]):
            raise
        reason, is_memory = str(error), "failed to map segment" in str(error)
    except OSError as error:  # PyTorch wants a folder for temporary files
        reason, is_memory = f"cannot start ({error.strerror})", _is_of_memory(error)
        way_out = "free some space there, or set TMPDIR to a folder that can be written"
    # Where packages do not go together, or Python itself finds no room for one, it fails in any way.
    except Exception as error:
        is_memory = _is_of_memory(error)
        if _is_ours(error) and not is_memory:
            raise
        reason = " ".join(f"cannot start ({type(error).__name__}: {error})".split())
    if is_memory:
        way_out = "there is too little memory for it; free some, or raise its limit (ulimit -v)"
    print(f"error: {reason}: {way_out}", file=sys.stderr)
    raise SystemExit(2)


def _is_ours(error: Exception) -> bool:
    """Whether it was raised by this package, and not by one that it imports."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(Path(__file__).parents[1])


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | SystemError) or any(words in str(error) for words in NO_MEMORY)
