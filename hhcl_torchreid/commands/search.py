"""Ranks a folder's images by their similarity to query images; a track, where tracks are known, is found once."""

import argparse
from collections.abc import Sequence

from ..cli import add_camera_bn, add_image_size, add_places, parse_paths, run_tool
from ..features.extractor import FeatureExtractor
from ..log import add_verbosity
from ..options import Parser
from ..search import search


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    example = "example: hhcl search --weights MODEL --query IMAGE --gallery CROPS --topk 10"
    parser = Parser(prog, description=__doc__, epilog=example)
    parser.add_argument("--weights", required=True, metavar="MODEL", help="checkpoint, such as model-best.pth.tar")
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for a file of weights alone")
    add_image_size(parser)
    parser.add_argument(
        "--query", required=True, nargs="+", action="extend", metavar="IMAGE", help="image files, or folders of them"
    )
    parser.add_argument("--gallery", required=True, metavar="DIR", help="folder of images, searched at any depth")
    add_camera_bn(parser)
    add_places(parser)
    parser.add_argument("--topk", type=int, default=10, help="matches per query (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    parser.add_argument(
        "--out", default="log/search", metavar="DIR", help="for CSV and pictures (default: %(default)s)"
    )
    add_verbosity(parser)
    return parse_paths(parser, arguments)


def run(args: argparse.Namespace) -> None:
    """Does the work."""
    extractor = FeatureExtractor(
        args.model_name, args.weights, image_size=args.image_size, device=args.device, verbose=False
    )
    places = args.track_regex, args.camera_regex
    search(extractor, args.query, args.gallery, args.topk, args.out, *places, args.camera_bn)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: run(args), level=args.level)
