"""Tests weights of torchreid's own with torchreid's engine and with ``test.evaluate``: what makes the difference.

Torchreid resizes bilinearly and ranks by the distance of features as they are; here, images are resized bicubically, as
in training, and rows have unit length. Torchreid's engine is asked with either of both.

Example:
    python benchmarks/plain_weights.py --root data
"""

import argparse
import sys

import torchreid
from torchvision.transforms import InterpolationMode, Resize

from hhcl_torchreid import runner
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.config import load_config
from hhcl_torchreid.resources import find_resource

NAME, WEIGHTS, SIZE = "osnet_x0_25", "weights/osnet_x0_25_rendered.pth", (128, 64)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder of the data set")
    parser.add_argument("--out", default="log/plain_weights", help="folder for logs")
    parser.add_argument("--dataset", default="synthetic", help="its name (default: %(default)s)")
    parser.add_argument("--weights", default=WEIGHTS, help="of torchreid's engine (default: %(default)s)")
    parser.add_argument("--name", default=NAME, help="the network's (default: %(default)s)")
    parser.add_argument("--image-size", type=int, nargs=2, default=SIZE, help="height and width (default: 128 64)")
    return parser.parse_args(arguments)


def tested_by_torchreid(args: argparse.Namespace) -> dict[str, float]:
    """What torchreid's engine gives: resizing and length of rows -> mAP."""
    height, width = args.image_size
    datamanager = torchreid.data.ImageDataManager(
        root=args.root, sources=args.dataset, height=height, width=width, workers=0, use_gpu=False
    )
    model = torchreid.models.build_model(args.name, datamanager.num_train_pids, pretrained=False)
    torchreid.utils.load_pretrained_weights(model, find_resource(args.weights, "weights"))
    engine = torchreid.engine.ImageSoftmaxEngine(
        datamanager, model, torchreid.optim.build_optimizer(model), use_gpu=False
    )
    engine.set_model_mode("eval")
    resize = next(step for step in datamanager.transform_te.transforms if isinstance(step, Resize))
    loaders = datamanager.test_loader[args.dataset]
    results = {}
    for interpolation in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC):
        resize.interpolation = interpolation
        for normalize, length in ((False, "as they are"), (True, "of unit length")):
            _, mean_ap = engine._evaluate(
                args.dataset, loaders["query"], loaders["gallery"], normalize_feature=normalize
            )
            results[f"torchreid's engine, {interpolation.value}, rows {length}"] = float(mean_ap)
    return results


def tested_here(args: argparse.Namespace) -> float:
    """What ``test.evaluate`` gives, mAP."""
    height, width = args.image_size
    settings = {"model.name": args.name, "model.load_weights": args.weights, "test.evaluate": True, "use_gpu": False}
    settings |= {"data.root": args.root, "data.sources": [args.dataset], "data.targets": [args.dataset]}
    settings |= {"data.height": height, "data.width": width, "data.workers": 0, "data.save_dir": args.out}
    return runner.run(load_config(overrides=settings)).results[args.dataset]["mAP"]


def run(args: argparse.Namespace) -> None:
    """Does the work."""
    results = {"test.evaluate": tested_here(args), **tested_by_torchreid(args)}
    for name, mean_ap in results.items():
        print(f"{name}: mAP {mean_ap:.2%}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
