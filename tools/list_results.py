"""Writes the tables of docs/results.md: what each configuration is to reach, and what it is to cost.

Published numbers are read from the configurations' first lines. Minutes and memory are computed, from the measurements
named below, for nobody has run these configurations yet.

Example:
    python tools/list_results.py
"""

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from yacs.config import CfgNode

from hhcl_torchreid import build_model
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import replacing

CONFIGURATIONS = Path(__file__).parents[1] / "configs"
NAMES = {"Market-1501": "market1501", "DukeMTMC-reID": "dukemtmcreid", "MSMT17": "msmt17_trainval"}
NAMES |= {"PersonX": "personx", "Celeb-reID": "celebreid", "VeRi-776": "veri"}
IMAGES = {
    "market1501": (12_936, 3_368, 15_913),
    "dukemtmcreid": (16_522, 2_228, 17_661),
    "msmt17_trainval": (32_621, 11_659, 82_161),
    "personx": (9_840, 5_136, 30_816),
    "celebreid": (20_208, 2_972, 11_006),
    "veri": (37_778, 1_678, 11_579),
}
"""Training, query and gallery images, as torchreid's data sets and docs/datasets.md give them."""

# Measured on one H200, docs/benchmarks.md: ResNet-50, 256 x 128, batches of 256.
STEP_SECONDS = {("bf16", 1): 0.0447, ("bf16", 4): 0.0600, ("float32", 1): 0.223, ("float32", 4): 0.236}
FEATURES_PER_SECOND = {"bf16": 18_904, "float32": 2_440}
LABEL_SECONDS = 0.031 / 12_936**2  # of an early epoch; of a million images it is less per pair
RANK_SECONDS = 4 / (3_368 * 15_913)  # a test of Market-1501's size
MEASURED_PIXELS, MEASURED_BATCH = 256 * 128, 256
TIMED = ("resnet50", "resnet50_ibn_a")

BYTES = {"bf16": 2, "float32": 4}
PER_WEIGHT = {"bf16": 18, "float32": 16}
"""Bytes: the weight, its gradient and Adam's two moments in float32, and in bf16 autocast's copy."""


class Activations(NamedTuple):
    """What a network keeps of an image between forward and backward, at the size asked for."""

    numbers: float
    """Elements in the network's precision."""
    other: float
    """Bytes that no precision changes, as the places of max pooling."""
    weights: int
    """Elements of the network's weights."""


@functools.cache
def activations(name: str, pooling: str, last_stride: int, height: int, width: int) -> Activations | None:
    """Counts the maps that autograd saves in a forward pass of a small batch of smaller images.

    All maps of a convolutional network shrink with the image, so that an image of a quarter of the pixels keeps a
    quarter of the numbers; vision transformers, which keep no maps, are not counted.
    """
    if "vit_" in name:
        return None
    batch, shrink = 2, 4 if height % 64 == width % 64 == 0 else 2  # the last map keeps a whole number of places
    model = build_model(name, pretrained=False, pooling=pooling, last_stride=last_stride).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        is_map = tensor.dim() == 4 and tensor.shape[2:].numel() > 1
        if is_map and (place := tensor.untyped_storage().data_ptr()) not in own:
            saved[place] = tensor
        return tensor

    images = torch.zeros(batch, 3, height // shrink, width // shrink)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    of_image = shrink**2 / batch
    numbers, other = (
        sum(tensor.untyped_storage().nbytes() for tensor in saved.values() if tensor.is_floating_point() == kind)
        for kind in (True, False)
    )
    weights = sum(weight.numel() for weight in model.parameters())
    return Activations(of_image * numbers / BYTES["float32"], of_image * other, weights)


def minutes(cfg: CfgNode, precision: str) -> float | None:
    """A run on one H200, from what was measured there; None for networks that were not."""
    if cfg.model.name not in TIMED:
        return None
    train, query, gallery = IMAGES[cfg.data.sources[0]]
    size = cfg.data.height * cfg.data.width / MEASURED_PIXELS
    groups = 1 if cfg.train.bn_groups == 1 else 4
    steps = cfg.train.max_epoch * cfg.engine.iters
    training = steps * STEP_SECONDS[precision, groups] * size * cfg.train.batch_size / MEASURED_BATCH
    clusters = cfg.engine.labels == "clusters"
    labelled = cfg.train.max_epoch + clusters  # the last epoch is judged by labels made for it
    tests = 2 + (cfg.train.max_epoch - 1) // cfg.test.eval_freq
    features = (labelled * train + tests * (query + gallery)) * size / FEATURES_PER_SECOND[precision]
    return (
        training + features + clusters * labelled * LABEL_SECONDS * train**2 + tests * RANK_SECONDS * query * gallery
    ) / 60


def gigabytes(cfg: CfgNode, precision: str, kept: Activations | None) -> float | None:
    """What a step keeps on the GPU; None where it is not counted."""
    if kept is None:
        return None
    of_image = kept.numbers * BYTES[precision] + kept.other
    return (kept.weights * PER_WEIGHT[precision] + cfg.train.batch_size * of_image) / 1e9


def published(path: Path) -> tuple[str, str]:
    """The numbers and their source in the first lines of a configuration; empty where there are none."""
    head = "".join(line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    found = re.search(r"mAP ([\d.]+\d), rank-1 ([\d.]+\d)", head)
    if not found:
        return "", ""
    paper = re.search(r"arXiv (\d+\.\d+)", head)
    if "issue 7" in head:
        return ", ".join(found.groups()), "[its authors](https://github.com/bupt-ai-cz/HHCL-ReID/issues/7)"
    number = paper[1] if paper else "2109.12333"
    return ", ".join(found.groups()), f"[{number}](https://arxiv.org/abs/{number})"


def tables(text: str = "") -> tuple[str, str]:
    """The rows to fill, with what is filled in on the page already, and what they cost."""
    filled = dict(re.findall(r"^\| `hhcl train --config-file (\S+) .*\| ?(.*?) \|$", text, re.MULTILINE))
    results = ["| command | data | published: mAP, rank-1 | source | this package |", "|---|---|---|---|---|"]
    head = "| configuration | epochs x steps | minutes, bf16 | float32 | GB of a step, bf16 | float32 | GB of images |"
    costs, known = [head, f"|---|{'---:|' * 6}"], {name: shown for shown, name in NAMES.items()}
    for path in sorted(CONFIGURATIONS.glob("*.yaml"), key=lambda path: (not path.stem.startswith("hhcl"), path.stem)):
        cfg = load_config(str(path))
        data = cfg.data.sources[0]
        if data not in IMAGES:
            continue
        command = f"`hhcl train --config-file {path.name} --root DIR`"
        results.append(f"| {' | '.join((command, known[data], *published(path), filled.get(path.name, '')))} |")
        size = cfg.data.height, cfg.data.width
        kept = activations(cfg.model.name, cfg.model.pooling, cfg.model.last_stride, *size)
        times = [minutes(cfg, precision) for precision in BYTES]
        memory = [gigabytes(cfg, precision, kept) for precision in BYTES]
        images = sum(IMAGES[data]) * 3 * size[0] * size[1] / 1e9
        cells = (
            f"`{path.stem}`",
            f"{cfg.train.max_epoch} x {cfg.engine.iters}",
            *("" if time is None else f"{time:.0f}" for time in times),
            *("" if size is None else f"{size:.1f}" for size in memory),
            f"{images:.1f}",
        )
        costs.append(f"| {' | '.join(cells)} |")
    return "\n".join(results), "\n".join(costs)


def page(text: str) -> str:
    """The page with its tables made anew.

    Raises:
        InputError: it has no place for them.
    """
    for name, table in zip(("results", "costs"), tables(text), strict=True):
        parts = re.split(f"(<!-- {name}: tools/list_results.py -->\n\n|\n\n<!-- end of {name} -->)", text)
        if len(parts) != 5:
            raise InputError(f"the page has no place for the {name}: put the two comments there, as docs/results.md")
        text = "".join((*parts[:2], table, *parts[3:]))
    return text


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    return run_tool(lambda: write(options.page))


def write(path: Path) -> None:
    """Writes the page's tables in their places."""
    made = page(path.read_text(encoding="utf-8"))
    with replacing(path, option="--page") as file:
        file.write(made)


if __name__ == "__main__":
    sys.exit(main())
