"""Shows what each eps of the clustering gives for the features of a folder's images: identities, outliers, largest one.

The column lead is how much more similar the images are to their identity than to the runner-up, on average, with 0 for
an outlier. Where tracks are known (see --root), joined is the share of the pairs of tracks seen together, two people
surely, that would become one identity if they were not kept apart. An eps is recommended by these, never one at which
an identity swallows most images.
"""

import argparse
from collections.abc import Sequence

from ..cli import add_camera_bn, add_image_size, add_places, add_tracks, parse_paths, run_tool
from ..features.extractor import FeatureExtractor
from ..identities import (
    cluster_settings,
    clusters_by_eps,
    crops_from_features,
    crops_from_images,
    draw_clusters_by_eps,
    load_features,
    recommend_eps,
    table_of_clusters,
)
from ..log import add_verbosity, answer
from ..options import Parser

VALUES = [number / 100 for number in range(20, 80, 5)]


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", metavar="FILE", help="features.npz, as hhcl assign writes it")
    source.add_argument("--weights", metavar="MODEL", help="checkpoint, or a file of weights; with --root")
    parser.add_argument("--root", metavar="CROPS", help="folder of images; with --features, for the tracks in it")
    add_places(parser)
    add_tracks(parser)
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for weights that do not name it")
    add_image_size(parser)
    add_camera_bn(parser)
    parser.add_argument("--eps", type=float, nargs="+", default=VALUES, help="values (default: 0.2 to 0.75)")
    parser.add_argument("--min-samples", type=int, help="images within eps that make an image the core of an identity")
    parser.add_argument("--k1", type=int, help="neighbours of the k-reciprocal encoding")
    parser.add_argument("--k2", type=int, help="neighbours of its query expansion")
    parser.add_argument("--plot", metavar="FILE", help="also draw it, as .png or .svg")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    add_verbosity(parser)
    parser.epilog = (
        "Where nothing else is said, clustering is as in the model's training, or as it was for the features.\n\n"
        "example:\n  hhcl choose-eps --features DIR/features.npz --plot eps.png"
    )
    options = parse_paths(parser, arguments)
    if options.weights and not options.root:
        parser.error("--weights needs --root, the folder of images")
    if options.features and options.camera_bn is not None:
        parser.error("--camera-bn needs --weights: features that are there stay as they are")
    return options


def show(args: argparse.Namespace) -> None:
    """Prints the table and the eps to take; draws the plot."""
    images = None
    if args.features and not args.root:
        features = load_features(args.features).features
    else:
        places = args.root, args.camera_regex, args.track_regex
        if args.features:
            crops = crops_from_features(args.features, *places)
        else:
            extractor = FeatureExtractor(
                args.model_name, args.weights, image_size=args.image_size, device=args.device, verbose=False
            )
            crops = crops_from_images(extractor, *places, args.camera_bn)
        features, images = crops.features, crops.images
    settings = cluster_settings(args.weights, args.features)
    settings |= {name: getattr(args, name) for name in settings if getattr(args, name) is not None}
    if settings.pop("tracks") == "off":
        images = None
    lines = clusters_by_eps(features, settings.pop("eps"), **settings, images=images)
    answer(table_of_clusters(lines))
    best = recommend_eps(lines)
    if best:
        answer(f"recommended: eps {best[0]:g}, {best[1]}")
    else:
        answer("no eps separates identities: give others with --eps, or train the model on these images first")
    if args.plot:
        draw_clusters_by_eps(lines, args.plot)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: show(args), level=args.level)
