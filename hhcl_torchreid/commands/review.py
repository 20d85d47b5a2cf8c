"""Opens the page of identities from a server of this machine, which keeps every answer in DIR/corrections.csv.

Only who knows the address that is printed can use it, and only on this machine. Ctrl-C ends it.
"""

import argparse
import sys
from collections.abc import Sequence

from ..cli import parse_paths, run_tool
from ..identities import ReviewServer
from ..log import add_verbosity, answer
from ..options import Parser


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog, description=__doc__, epilog="example: hhcl review log/identities")
    parser.add_argument("folder", metavar="DIR", help="folder of the results, the --out of hhcl assign")
    parser.add_argument("--port", type=int, default=0, help="(default: one that is free)")
    add_verbosity(parser)
    return parse_paths(parser, arguments)


def review(args: argparse.Namespace) -> None:
    """Does the work, until a signal ends it."""
    with ReviewServer(args.folder, args.port) as server:
        answer(f"Open {server.address} in a browser of this machine; Ctrl-C ends it")
        sys.stdout.flush()
        server.serve_forever()


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: review(args), "; the answers are in corrections.csv", args.level)
