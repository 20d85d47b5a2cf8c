"""Renders people in Market-1501's layout, as a contact sheet to look at, or as footage with tracks."""

import argparse
from collections.abc import Sequence

from ..cli import parse_paths, run_tool
from ..data.datasets import SyntheticMarket
from ..log import add_verbosity, answer
from ..options import Parser
from ..rendering import (
    LIGHTS,
    MARKET1501_SIZE,
    FootageSettings,
    RenderingSettings,
    render_footage,
    render_market1501,
    write_contact_sheet,
)


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        arguments: the words after the program's name; None takes those of the process.
        prog: the program's name, for its help.

    Returns:
        The options.
    """
    example = "example: hhcl render --root data --train-ids 120 --test-ids 50"
    parser = Parser(prog, description=__doc__, epilog=example)
    parser.add_argument("--root", help="folder of the data sets, as for torchreid")
    parser.add_argument("--folder", default=SyntheticMarket.dataset_dir, help="folder in it (default: %(default)s)")
    parser.add_argument("--train-ids", type=int, default=RenderingSettings.num_train_ids)
    parser.add_argument("--test-ids", type=int, default=RenderingSettings.num_test_ids)
    parser.add_argument("--market-size", action="store_true", help="as many people and images as Market-1501 has")
    parser.add_argument("--seed", type=int, default=RenderingSettings.seed)
    parser.add_argument(
        "--light",
        choices=LIGHTS,
        help=f"(default: {RenderingSettings.light}, of footage {FootageSettings.light})",
    )
    parser.add_argument("--height", type=int, default=RenderingSettings.height, help="pixels (default: %(default)s)")
    parser.add_argument("--width", type=int, default=RenderingSettings.width, help="pixels (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: one per processor)")
    parser.add_argument(
        "--sheet", metavar="FILE", help="also write a contact sheet (PNG): rows people, columns cameras"
    )
    add_verbosity(parser)
    footage = parser.add_argument_group("footage", "people who walk past cameras")
    footage.add_argument(
        "--footage", metavar="DIR", help="also render a video, its true and its tracker's boxes a camera"
    )
    footage.add_argument("--people", type=int, default=FootageSettings.num_people, help="(default: %(default)s)")
    footage.add_argument("--cameras", type=int, default=FootageSettings.num_cameras, help="(default: %(default)s)")
    footage.add_argument("--seconds", type=float, default=FootageSettings.seconds, help="(default: %(default)s)")
    options = parse_paths(parser, arguments)
    if options.root is None and options.sheet is None and options.footage is None:
        parser.error("nothing to do: give --root, --sheet or --footage")
    return options


def render(options: argparse.Namespace) -> None:
    """Does the work, and says where it is."""
    light = options.light or RenderingSettings.light
    picture = {"seed": options.seed, "height": options.height, "width": options.width, "light": light}
    size = {"num_train_ids": options.train_ids, "num_test_ids": options.test_ids}
    if options.market_size:
        size = MARKET1501_SIZE
    if options.root is not None:
        answer(render_market1501(f"{options.root}/{options.folder}", workers=options.workers, **size, **picture))
    if options.sheet is not None:
        write_contact_sheet(options.sheet, **picture)
    if options.footage is not None:
        crowd = {"num_people": options.people, "num_cameras": options.cameras, "seconds": options.seconds}
        light = options.light or FootageSettings.light
        answer(render_footage(options.footage, seed=options.seed, light=light, **crowd))


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    options = parse_arguments(arguments, prog)
    return run_tool(lambda: render(options), level=options.level)
