"""Cuts the people that a tracker has found out of a video."""

import argparse
from collections.abc import Sequence

from ..cli import parse_paths, run_tool
from ..footage import crop_tracks
from ..log import add_verbosity, answer
from ..options import Parser


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    example = "example: hhcl crop-tracks --video VIDEO --tracks FILE --camera hall --out CROPS --every 8"
    parser = Parser(prog, description=__doc__, epilog=example)
    parser.add_argument("--video", required=True, help="video file, of any kind that FFmpeg decodes")
    parser.add_argument(
        "--tracks",
        required=True,
        metavar="FILE",
        help="MOTChallenge text: frame, track, left, top, width, height, ...",
    )
    parser.add_argument("--camera", required=True, metavar="NAME", help="name of the camera, a folder in --out")
    parser.add_argument("--out", required=True, metavar="CROPS", help="folder of the crops; cameras and runs add to it")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="keep every N-th frame of the video (default: %(default)s)"
    )
    parser.add_argument(
        "--min-height", type=int, default=32, metavar="PIXELS", help="least height of a crop (default: %(default)s)"
    )
    parser.add_argument(
        "--max-covered",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="largest share of a box that people in front of it may cover, 0 to 1 (default: %(default)s)",
    )
    add_verbosity(parser)
    return parse_paths(parser, arguments)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    settings = vars(parse_arguments(arguments, prog))
    level = settings.pop("level")
    after_signal = "; the same command goes on where this one stopped"
    return run_tool(lambda: answer(crop_tracks(**settings)), after_signal, level)
