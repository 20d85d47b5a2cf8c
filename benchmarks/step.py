"""Images per second of a training step and of extraction alone, on random pixels that are on the device already.

A minute on a GPU says what a run could reach there: no data set, no decoding, no clustering. The host's part is the
time until the last kernel is asked for; where it is all of a step, the GPU waits for the CPU.

Examples:
    python benchmarks/step.py
    python benchmarks/step.py --model osnet_x0_25 --batch-size 64 --height 128 --width 64 --steps 3
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchreid
from torch import Tensor

from hhcl_torchreid import HybridMemory, build_model
from hhcl_torchreid.data import BatchAugmentation
from hhcl_torchreid.data.store import to_device
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features import Embedder, use_precision
from hhcl_torchreid.models.batch_norm import InGroups
from hhcl_torchreid.training.optimization import fuse_optimizer

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TRANSFORMS = ("random_flip", "random_pad_crop", "random_erase")
NUM_CLUSTERS, WARM_UP = 700, 3


def measure_steps(options: argparse.Namespace, amp: str, bn_groups: int) -> None:
    """Times steps as ``ImageHHCLEngine.forward_backward`` takes them."""
    device = torch.device(options.device)
    torchreid.utils.set_random_seed(1)
    model = build_model(options.model, pretrained=False).to(device).train()
    embedder = Embedder(model, MEAN, STD, use_precision(amp, device))
    optimizer = fuse_optimizer(torchreid.optim.build_optimizer(model, optim="adam", lr=0.00035))
    memory = HybridMemory(NUM_CLUSTERS, model.feature_dim).to(device)
    memory.features = torch.nn.functional.normalize(torch.randn_like(memory.features), dim=1)
    grouped = InGroups(model, options.batch_size // bn_groups)
    augmentation = BatchAugmentation(TRANSFORMS, options.height, options.width, MEAN, STD)
    pixels, generator = make_pixels(options, options.batch_size), np.random.default_rng(0)
    labels = torch.arange(options.batch_size) // 16 % NUM_CLUSTERS

    def step() -> None:
        images = augmentation(pixels, generator)
        with embedder.autocast():
            features = grouped(images)
        of_batch = to_device(labels, device)
        loss = memory(features, of_batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        memory.update(features, of_batch)

    report(f"step, train.amp {amp}, train.bn_groups {bn_groups}", step, options.batch_size, options)


def measure_extraction(options: argparse.Namespace, amp: str) -> None:
    """Times the features of sixteen batches."""
    device = torch.device(options.device)
    model = build_model(options.model, pretrained=False).to(device).eval()
    embedder = Embedder(model, MEAN, STD, use_precision(amp, device))
    pixels = make_pixels(options, 16 * options.batch_size)
    report(f"extraction, train.amp {amp}", lambda: embedder.embed(pixels), len(pixels), options)


def make_pixels(options: argparse.Namespace, count: int) -> Tensor:
    """Random uint8 images on the device."""
    shape = (count, 3, options.height, options.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=options.device)


def report(name: str, work: Callable[[], Any], num_images: int, options: argparse.Namespace) -> None:
    """Prints a line of the table."""

    def wait() -> None:
        if torch.device(options.device).type == "cuda":
            torch.cuda.synchronize(options.device)

    for _ in range(WARM_UP):
        work()
    wait()
    started = time.perf_counter()
    for _ in range(options.steps):
        work()
    host = time.perf_counter() - started
    wait()
    seconds = time.perf_counter() - started
    milliseconds = [f"{1000 * part / options.steps:10.1f}" for part in (seconds, host)]
    print(f"{name:<44}{''.join(milliseconds)}{num_images * options.steps / seconds:10.0f}", flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--amp", nargs="+", default=["auto", "off"], help="values of train.amp")
    parser.add_argument("--bn-groups", type=int, nargs="+", default=[1, 4], help="values of train.bn_groups")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> int:
    """Measures and prints; 2 after bad input."""
    options = parse_arguments()
    torch.backends.cudnn.benchmark = True  # as a run
    print(f"{'':<44}{'ms':>10}{'host ms':>10}{'images/s':>10}")
    try:
        for amp in options.amp:
            for bn_groups in options.bn_groups:
                measure_steps(options, amp, bn_groups)
            measure_extraction(options, amp)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
