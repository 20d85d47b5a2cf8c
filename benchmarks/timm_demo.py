"""Trains timm's networks on the demo: a small vision transformer and two convolutional networks, from like starts.

Each start is trained from random weights with the labels of rendered people by day, as the demo's own is, and then
learns the demo's people at dusk without labels, once a seed.

Example:
    python benchmarks/timm_demo.py --seeds 1 2 3
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchreid
from torch import nn

from hhcl_torchreid import runner
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.config import load_config
from hhcl_torchreid.models import ReIDModel, build_model
from hhcl_torchreid.rendering import render_market1501

LEARNING = {
    "timm/mobilenetv3_small_050": ("adam", 0.0015),
    "timm/regnetx_002": ("adam", 0.0015),
    "timm/levit_128s": ("radam", 0.001),
}
"""Optimiser and learning rate of the starts: RAdam warms up by itself, as transformers need it."""

SEEDS_OF_OTHER_PEOPLE = range(1000, 1006)  # six other cameras each; the demo's seed is 0
PEOPLE = 40  # a seed
IMAGE_SIZE = (128, 64)
DEMO = {"data.workers": 0, "train.batch_size": 128, "test.eval_freq": -1, "test.visrank": False}


class WithClassifier(nn.Module):
    """A network that gives scores of people in training and features in evaluation, as torchreid's engines ask for."""

    def __init__(self, model: ReIDModel, num_people: int) -> None:
        super().__init__()
        self.model = model
        self.classifier = nn.Linear(model.feature_dim, num_people)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, people) or (B, D)."""
        if not self.training or self.model.neck is None:
            return self.model(images)
        return self.classifier(self.model.neck(self.model.backbone(images)))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(LEARNING), metavar="NAME", help="backbones")
    parser.add_argument("--root", default="data", help="folder of the demo's images")
    parser.add_argument("--out", type=Path, default="log/timm_demo", help="folder for images, starts and results.jsonl")
    parser.add_argument("--start-epochs", type=int, default=12, help="of 56 steps, with labels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of 10 steps, on the demo (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    return parser.parse_args(arguments)


def render_others(folder: Path) -> list[str]:
    """Makes the people of the starts where they are not there; gives the names of their data sets."""
    names = [f"rendered_{seed}" for seed in SEEDS_OF_OTHER_PEOPLE]
    for name, seed in zip(names, SEEDS_OF_OTHER_PEOPLE, strict=True):
        if not Path(folder, name).exists():
            render_market1501(
                Path(folder, name),
                num_train_ids=PEOPLE,
                num_test_ids=2,
                images_per_tracklet=(2, 4),
                cameras_per_person=(4, 6),
                num_distractors=0,
                seed=seed,
                light="day",
            )
        dataset = type(name, (torchreid.data.datasets.Market1501,), {"dataset_dir": name})
        torchreid.data.register_image_dataset(name, dataset)
    return names


def train_start(name: str, sources: list[str], args: argparse.Namespace) -> Path:
    """Trains a backbone with labels, unless that has been done; gives its weights."""
    path = args.out / name.replace("/", "_") / "start.pth"
    if path.exists():
        return path
    torchreid.utils.set_random_seed(1)
    use_gpu = torch.cuda.is_available()
    datamanager = torchreid.data.ImageDataManager(
        root=str(args.out),
        sources=sources,
        targets=sources[0],
        height=IMAGE_SIZE[0],
        width=IMAGE_SIZE[1],
        transforms=["random_flip", "random_crop", "random_erase", "color_jitter"],
        batch_size_train=64,
        workers=0,
        use_gpu=use_gpu,
    )
    model = build_model(name, pretrained=False, image_size=IMAGE_SIZE).to(memory_format=torch.channels_last)
    network = WithClassifier(model, datamanager.num_train_pids).to("cuda" if use_gpu else "cpu")
    optim, lr = LEARNING.get(name, ("adam", 0.0015))
    optimizer = torchreid.optim.build_optimizer(network, optim=optim, lr=lr)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="cosine", max_epoch=args.start_epochs)
    engine = torchreid.engine.ImageSoftmaxEngine(datamanager, network, optimizer, scheduler=scheduler, use_gpu=use_gpu)
    engine.test = lambda **_: 0.0  # of people that nobody asks for
    engine.run(save_dir=str(path.parent / "start"), max_epoch=args.start_epochs, print_freq=20)
    save_checkpoint({"model_name": name, "state_dict": model.state_dict()}, path)
    return path


def train_on_demo(name: str, start: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains without labels from a start; mAP before and after."""
    log = args.out / name.replace("/", "_") / f"seed_{seed}"
    settings = {
        "model.name": name,
        "model.load_weights": str(start),
        "train.seed": seed,
        "train.max_epoch": args.epochs,
    }
    settings |= {"data.root": args.root, "data.save_dir": str(log)}
    engine = runner.run(load_config("hhcl_demo.yaml", {**DEMO, **settings}))
    (target,) = engine.results
    before, after = engine.history.results_before[target], engine.results[target]
    return {"name": name, "seed": seed, "before": before["mAP"], "after": after["mAP"]}


def run(args: argparse.Namespace) -> None:
    """Does the work, all networks with one seed before the next."""
    sources = render_others(args.out)
    with open(args.out / "results.jsonl", "a", encoding="utf-8") as file:
        for seed in args.seeds:
            for name in args.names:
                result = train_on_demo(name, train_start(name, sources, args), seed, args)
                print(json.dumps(result), file=file, flush=True)
                print(
                    f"{name}, seed {seed}: mAP {result['before']:.1%} before, {result['after']:.1%} after", flush=True
                )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
