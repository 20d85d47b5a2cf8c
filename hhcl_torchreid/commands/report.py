"""Turns the folders of runs into rows of a table in Markdown, and their curves into one picture."""

import argparse
from collections.abc import Sequence

from ..cli import parse_paths, run_tool
from ..log import add_verbosity, answer
from ..options import Parser
from ..training.comparison import draw_runs, read_run, table_of_runs


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog, description=__doc__, epilog="example: hhcl report log/demo log/mine --plot runs.png")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, its data.save_dir")
    parser.add_argument("--plot", metavar="FILE", help="also draw the curves of all, as .png or .svg")
    add_verbosity(parser)
    return parse_paths(parser, arguments)


def report(args: argparse.Namespace) -> None:
    """Does the work."""
    runs = [read_run(path) for path in args.runs]
    answer(table_of_runs(runs))
    if args.plot:
        draw_runs(runs, args.plot)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: report(args), level=args.level)
