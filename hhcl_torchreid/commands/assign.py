"""Gives every image of a folder an identity, without training.

DIR receives identities.csv, features.npz, where tracks are known tracks.csv, and index.html: a page to look at that
needs neither network nor server.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..cli import add_camera_bn, add_image_size, add_places, add_tracks, parse_paths, run_tool
from ..data.corrections import CORRECTIONS, write_corrections
from ..features.extractor import FeatureExtractor
from ..identities import (
    EXPORTS,
    Identities,
    JoiningLabeler,
    check_folder,
    check_mot_folder,
    cluster_settings,
    collect_corrections,
    correct,
    crops_from_features,
    crops_from_images,
    export_identities,
    forget_identity,
    load_known,
    load_names,
    write_identities,
    write_mot,
    write_unreadable,
)
from ..labels import PseudoLabeler
from ..log import add_verbosity, answer
from ..options import Parser

TO_FORGET = ("forget", "root", "out", "camera_regex", "track_regex", "level")


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="MODEL", help="checkpoint, or a file of weights")
    source.add_argument("--features", metavar="FILE", help="features.npz of an earlier assignment, in place of a model")
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for weights that do not name it")
    add_image_size(parser)
    add_camera_bn(parser)
    parser.add_argument("--root", required=True, metavar="CROPS", help="folder of images, of any depth")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results")
    add_places(parser)
    add_tracks(parser)
    parser.add_argument(
        "--mot-out", metavar="DIR", help="also write each camera's track file, with identities for track numbers"
    )
    parser.add_argument("--eps", type=float, help="largest Jaccard distance between neighbours, 0 to 1; see choose-eps")
    parser.add_argument("--min-samples", type=int, help="images within eps that make an image the core of an identity")
    parser.add_argument("--k1", type=int, help="neighbours of the k-reciprocal encoding")
    parser.add_argument("--k2", type=int, help="neighbours of its query expansion")
    parser.add_argument("--corrections", metavar="FILE", help="answers of people, which DIR keeps with those of before")
    parser.add_argument("--into", metavar="EARLIER", help="results of before, whose identities new images may join")
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        choices=tuple(EXPORTS),
        help="also write DIR/export, for other programs",
    )
    parser.add_argument("--forget", metavar="IDENTITY", help="only take this one, a number or a name, out of DIR")
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
    add_verbosity(parser)
    parser.epilog = (
        "Where nothing else is said, clustering is as in the model's training, or as it was for the features.\n\n"
        "example:\n  hhcl assign --weights MODEL --root CROPS --out DIR"
    )
    args = parse_paths(parser, arguments)
    if args.forget is None and not (args.weights or args.features):
        parser.error("one of the arguments --weights --features is required")
    if args.features and args.camera_bn is not None:
        parser.error("--camera-bn needs --weights: features that are there stay as they are")
    others = [name for name, value in vars(args).items() if value != parser.get_default(name) and name not in TO_FORGET]
    if args.forget is not None and others:
        parser.error(f"--forget does nothing else: leave --{others[0].replace('_', '-')} out")
    return args


def assign(args: argparse.Namespace) -> str:
    """Does the work; returns what to say at the end."""
    check_folder(args.out, args.root)
    if args.forget is not None:
        return forget_identity(args.out, args.forget, args.root, args.camera_regex, args.track_regex)
    if args.mot_out:
        check_mot_folder(args.mot_out)
    settings = cluster_settings(args.weights, args.features)
    settings |= {name: getattr(args, name) for name in settings if getattr(args, name) is not None}
    PseudoLabeler(**settings)  # settings that are none are told before the work
    if args.features:
        crops = crops_from_features(args.features, args.root, args.camera_regex, args.track_regex)
    else:
        extractor = FeatureExtractor(
            args.model_name, args.weights, image_size=args.image_size, device=args.device, verbose=False
        )
        crops = crops_from_images(extractor, args.root, args.camera_regex, args.track_regex, args.camera_bn)
    if args.eps is not None and args.tracks is None and crops.images.have_tracks:
        settings["tracks"] = "fixed"  # who names an eps gets that one
    labeler = PseudoLabeler(**settings)
    joining = JoiningLabeler(labeler, load_known(args.into, crops, args.out)) if args.into else None
    corrections = collect_corrections(crops, args.into or args.out, args.corrections)
    corrected = correct(joining or labeler, crops, corrections)
    write_unreadable(args.out, crops.unreadable)
    identities = write_identities(args.out, crops, corrected, joining)
    if corrections:
        write_corrections(Path(args.out, CORRECTIONS), corrections)
    for kind in args.export:
        export_identities(kind, args.out, crops, identities, load_names(args.out))
    if args.mot_out:
        write_mot(args.mot_out, crops, identities)
    return summary(identities, len(crops.unreadable), labeler, args)


def summary(identities: Identities, num_unreadable: int, labeler: PseudoLabeler, args: argparse.Namespace) -> str:
    """What was found and where it is."""
    eps = labeler.statistics.eps if labeler.statistics else labeler.eps[0]
    lines = [
        f"{len(identities)} images: {identities.num_identities} identities, {identities.num_outliers} outliers, "
        f"largest identity {identities.largest} images (eps {eps:g})"
    ]
    if args.mot_out:
        lines.append(f"{args.mot_out} has a track file per camera: numbers are those of the identities, plus 1")
    if num_unreadable:
        lines.append(f"{num_unreadable} files could not be read and are left out: {Path(args.out, 'unreadable.txt')}")
    if identities.num_identities <= 1:
        advice = "raise" if identities.num_identities == 0 else "lower"
        lines.append(
            f"That is no useful result: {advice} --eps; hhcl choose-eps (choose_eps.py) shows what each gives."
        )
    lines.append(f"Open {Path(args.out, 'index.html')} in a browser; {Path(args.out, 'identities.csv')} is the table.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments, prog)
    return run_tool(lambda: answer(assign(args)), level=args.level)
