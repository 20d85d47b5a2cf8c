"""What the tracker BoxMOT gives for exported files, beside the extractor's own features: cosines of the two.

BoxMOT runs in an environment of its own, which needs none of this package:
``python -m venv DIR && DIR/bin/pip install 'boxmot[onnx,openvino]'``. It cuts the crops out of one picture itself, once
in the network's size and once as they are, so that it resizes them.

Example:
    python benchmarks/boxmot_features.py --boxmot DIR/bin/python --weights MODEL --crops FOLDER
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hhcl_torchreid import FeatureExtractor
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.data.folder import find_images
from hhcl_torchreid.data.images import open_image
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.export import export_onnx, export_openvino, export_torchscript

EXPORTS = {".onnx": export_onnx, ".torchscript": export_torchscript, "_openvino_model": export_openvino}
PICTURES = ("in the network's size", "as they are")

IN_BOXMOT = """
import json, sys
import cv2, numpy
from boxmot.reid.core.runtime import ReID

told = []
for file in sys.argv[2:]:
    try:
        reid = ReID(file)
        features = [reid(cv2.imread(f"{name}.png"), numpy.load(f"{name}.npy")) for name in ("0", "1")]
        told.append([part.tolist() for part in features])
    except Exception as error:
        told.append(f"{type(error).__name__}: {error}".splitlines()[0][:200])
json.dump(told, open(sys.argv[1], "w"))
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxmot", required=True, metavar="PYTHON", help="Python of the environment that has BoxMOT")
    parser.add_argument("--weights", required=True, metavar="MODEL", type=Path)
    parser.add_argument("--model-name", default="", metavar="NAME", help="backbone, for a file of weights alone")
    parser.add_argument("--crops", required=True, metavar="FOLDER", help="images of people")
    parser.add_argument("--count", type=int, default=64, help="crops taken, evenly spread (default: %(default)s)")
    return parser.parse_args(arguments)


def write_picture(crops: Sequence[Image.Image], folder: Path, name: str) -> None:
    """Puts crops side by side into one picture, and writes where they are."""
    edges = np.cumsum([0, *(crop.width for crop in crops)])
    picture = Image.new("RGB", (int(edges[-1]), max(crop.height for crop in crops)))
    for left, crop in zip(edges, crops, strict=False):
        picture.paste(crop, (int(left), 0))
    picture.save(folder / f"{name}.png")
    boxes = [[left, 0, left + crop.width, crop.height] for left, crop in zip(edges, crops, strict=False)]
    np.save(folder / f"{name}.npy", np.array(boxes, np.float32))


def write_files(extractor: FeatureExtractor, weights: Path, folder: Path) -> list[str]:
    """Exports for trackers, and the weights as a tracker's own network would read them; gives the names."""
    names = []
    for ending, export in EXPORTS.items():
        export(extractor, folder / f"exported{ending}", "float")
        names.append(f"exported{ending}")
    (folder / "checkpoint.pt").write_bytes(weights.read_bytes())
    network = dict(extractor.model.backbone.state_dict())
    torch.save({"state_dict": network, "model_name": extractor.model.name}, folder / "backbone_alone.pt")
    return [*names, "checkpoint.pt", "backbone_alone.pt"]


def features_of_boxmot(python: str, folder: Path, names: Sequence[str]) -> list[Any]:
    """For each file the features of both pictures, or what went wrong."""
    command = [python, "-c", IN_BOXMOT, "told.json", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{python} cannot run BoxMOT: {done.stderr.strip().splitlines()[-1]}")
    return json.loads((folder / "told.json").read_text(encoding="utf-8"))


def cell(theirs: Any, ours: np.ndarray) -> str:
    """Least and mean cosine."""
    cosines = (np.array(theirs) * ours).sum(1)
    return f"{cosines.min():.4f} ({cosines.mean():.4f})"


def measure(args: argparse.Namespace) -> str:
    """The table, in Markdown."""
    extractor = FeatureExtractor(args.model_name, args.weights, device="cpu", verbose=False, amp="off")
    paths = find_images(args.crops)
    if not paths:
        raise InputError(f"{args.crops} holds no images: set --crops to a folder of them")
    crops = [open_image(path) for path in paths[:: max(1, len(paths) // args.count)][: args.count]]
    height, width = extractor.image_size
    ours = extractor(crops).numpy()
    lines = [f"| file | crops {PICTURES[0]} | crops {PICTURES[1]} |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_picture([crop.resize((width, height), Image.Resampling.BICUBIC) for crop in crops], folder, "0")
        write_picture(crops, folder, "1")
        names = write_files(extractor, args.weights, folder)
        for file, told in zip(names, features_of_boxmot(args.boxmot, folder, names), strict=True):
            cells = [told, ""] if isinstance(told, str) else [cell(theirs, ours) for theirs in told]
            lines.append(f"| {file} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    args = parse_arguments(arguments)
    return run_tool(lambda: print(measure(args)))


if __name__ == "__main__":
    sys.exit(main())
