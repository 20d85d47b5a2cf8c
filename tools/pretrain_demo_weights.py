"""Trains the weights that the demo starts from, with labels, on rendered people and cameras that the demo lacks."""

import argparse
import sys
from pathlib import Path

import torch

from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.models import ReIDModel
from hhcl_torchreid.rendering import render_market1501

BACKBONE = "osnet_x0_25"
SEEDS_OF_OTHER_PEOPLE = range(1000, 1012)  # six other cameras each; the demo's seed is 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Trains the demo's starting weights with torchreid's softmax engine")
    parser.add_argument("--out", default=f"weights/{BACKBONE}_rendered.pth", help="file to write")
    parser.add_argument("--root", default="data/pretraining", help="folder for the rendered images")
    parser.add_argument("--train-ids", type=int, default=75, help="people per seed")
    parser.add_argument("--max-epoch", type=int, default=12)
    return parser.parse_args(arguments)


def train(root: str, train_ids: int, max_epoch: int) -> torch.nn.Module:
    """Renders the people and learns to tell them apart, as torchreid's users do."""
    import torchreid  # after hhcl_torchreid, which keeps it from warning of an evaluation that it does not use

    torchreid.utils.set_random_seed(1)
    names = [f"rendered_{seed}" for seed in SEEDS_OF_OTHER_PEOPLE]
    for name, seed in zip(names, SEEDS_OF_OTHER_PEOPLE, strict=True):
        render_market1501(
            Path(root, name),
            num_train_ids=train_ids,
            num_test_ids=5,
            images_per_tracklet=(2, 4),
            cameras_per_person=(4, 6),
            num_distractors=0,
            seed=seed,
            light="day",
        )
        dataset = type(name, (torchreid.data.datasets.Market1501,), {"dataset_dir": name})
        torchreid.data.register_image_dataset(name, dataset)
    datamanager = torchreid.data.ImageDataManager(
        root=root,
        sources=names,
        targets=names[0],
        height=128,
        width=64,
        transforms=["random_flip", "random_crop", "random_erase", "color_jitter"],
        batch_size_train=64,
        workers=2,
    )
    model = torchreid.models.build_model(BACKBONE, datamanager.num_train_pids, pretrained=False)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torchreid.optim.build_optimizer(model, optim="adam", lr=0.0015)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="cosine", max_epoch=max_epoch)
    engine = torchreid.engine.ImageSoftmaxEngine(datamanager, model, optimizer, scheduler=scheduler, use_gpu=False)
    engine.run(save_dir=str(Path(root, "log")), max_epoch=max_epoch, print_freq=20)
    return model


def pretrain(args: argparse.Namespace) -> None:
    """Does the work, and says what it was."""
    backbone = train(args.root, args.train_ids, args.max_epoch)
    # Of our model's state dict, which has no classifier; in half precision, which halves the file.
    weights = ReIDModel(BACKBONE, backbone, bnneck=False).state_dict()
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_checkpoint({"model_name": BACKBONE, "state_dict": halved}, args.out)
    print(f"Wrote {args.out}, {Path(args.out).stat().st_size / 1e6:.2f} MB")


def main(arguments: list[str] | None = None) -> int:
    """Runs the tool; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: pretrain(args))


if __name__ == "__main__":
    sys.exit(main())
