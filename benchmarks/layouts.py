"""Loads a file of every layout of weights: names matched, difference of features, seconds of a processor, memory.

The files are a network's own weights by the names of each program, so the features after loading must be those before.

Example:
    python benchmarks/layouts.py
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from peak_memory import PeakMemory

from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.models import ReIDModel, build_model, load_from
from hhcl_torchreid.models.layouts import LAYOUTS, Layout

IMAGE_SIZE = (256, 128)


class FileOf(NamedTuple):
    """A file as a program writes it."""

    mark: str
    """Of its layout."""
    backbone: str
    prefix: str = ""
    """Before all names."""
    outer: str = "state_dict"
    has_neck: bool = True
    embedding_dim: int = 0


FILES = (
    FileOf("", "resnet50", has_neck=False),
    FileOf("neck.", "resnet50"),
    FileOf("base.0.", "resnet50", "module."),
    FileOf("base.3.", "bot/resnet50", "module."),
    FileOf("resnet_conv.", "bot/resnet50", "module.", outer=""),
    FileOf("base.", "bot/resnet50", outer=""),
    FileOf("heads.", "fastreid/resnet50", outer="model"),
    FileOf("heads.bottleneck.1.", "fastreid/resnet50", outer="model", embedding_dim=512),
    FileOf("encoder_q.", "resnet50", "module.", has_neck=False),
    FileOf("base.", "timm/vit_small_patch16_224", outer=""),
    FileOf("b1.0.", "timm/vit_small_patch16_224", outer=""),
    FileOf("backbone.", "timm/vit_small_patch16_224", "module.", "teacher", has_neck=False),
    FileOf("bottleneck.", "timm/vit_small_patch16_224", "module."),
    FileOf("base.", "vit_small_ics", outer=""),
    FileOf("backbone.", "vit_small_ics", "module.", "teacher", has_neck=False),
    FileOf("bottleneck.", "vit_small_ics", "module."),
    FileOf("backbone.", "vit_base_ics", "module.", "teacher", has_neck=False),
)
HEADER = (
    "| layout | network | file, MB | names matched | difference | seconds | memory, MB |\n|---|---|---|---|---|---|---|"
)


def write(model: ReIDModel, layout: Layout, file: FileOf, path: Path) -> None:
    """Writes a model's weights by the names of a layout."""
    weights = {file.prefix + _name_there(key, layout): value for key, value in model.state_dict().items()}
    torch.save({file.outer: weights, "epoch": 1} if file.outer else weights, path)


def _name_there(key: str, layout: Layout) -> str:
    there, here = max((pair for pair in layout.renamed if key.startswith(pair[1])), key=lambda pair: len(pair[1]))
    return there + key.removeprefix(here)


@torch.no_grad()
def measure(file: FileOf, folder: Path) -> str:
    """One line of the table."""
    layout = next(row for row in LAYOUTS if row.mark == file.mark)
    source, model = (
        build_model(
            file.backbone, False, embedding_dim=file.embedding_dim, bnneck=file.has_neck, image_size=IMAGE_SIZE
        ).eval()
        for _ in "12"
    )
    path = folder / "weights.pth"
    write(source, layout, file, path)
    memory, started = PeakMemory(torch.device("cpu")), time.process_time()
    report = load_from(model, load_checkpoint(path), path)
    seconds, taken = time.process_time() - started, memory.bytes()
    images = torch.rand(2, 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    difference = (model(images) - source(images)).abs().max().item()
    cells = (
        *(report.layout, file.backbone, f"{path.stat().st_size / 1e6:.0f}", f"{report.matched} of {report.total}"),
        *(f"{difference:.0e}", f"{seconds:.2f}", f"{taken / 1e6:.0f}"),
    )
    return f"| {' | '.join(cells)} |"


def run() -> None:
    """Does the work."""
    warnings.simplefilter("ignore")
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            print(measure(file, Path(folder)), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    return run_tool(run)


if __name__ == "__main__":
    sys.exit(main())
