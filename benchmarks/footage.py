"""What tracks do for footage: training and identities with a tracker's tracks and without, on rendered cameras.

Renders footage below ``--root`` for each seed, cuts the people out along the tracker's boxes, errors included, and
trains from weights that have seen only other people by day. A crop is of the person whose true box it overlaps most;
those of nobody are not judged. Finished runs are kept, and one that was cut off goes on after its last epoch.

Examples:
    python benchmarks/footage.py
    python benchmarks/footage.py --seeds 1 --out log/footage_eps cluster.eps 0.6
    python benchmarks/footage.py --rows start --out log/footage_by_camera test.camera_bn 8
"""

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from identities import agreement
from torch import Tensor
from yacs.config import CfgNode

from hhcl_torchreid import FeatureExtractor, PseudoLabeler, runner
from hhcl_torchreid.config import load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.evaluation.ranking import can_be_found, evaluate_rank
from hhcl_torchreid.files import replacing
from hhcl_torchreid.footage import crop_tracks, read_tracks, true_people
from hhcl_torchreid.identities import Crops, crops_from_images
from hhcl_torchreid.labels.tracks import find_pieces
from hhcl_torchreid.rendering import render_footage
from hhcl_torchreid.training.folder import RunFolder

FOOTAGE: dict[str, Any] = {"num_people": 24, "num_cameras": 3, "seconds": 75.0, "light": "mixed"}
EVERY = 5
"""Two crops of a track a second."""
PAUSE = 50
"""Frames out of sight, after which a person is there for another time."""

SETTINGS: dict[str, Any] = {
    "model.name": "osnet_x0_25",
    "model.pretrained": False,
    "model.load_weights": "weights/osnet_x0_25_rendered.pth",
    "data.sources": ["folder"],
    "data.targets": [],
    "data.workers": 0,
    "data.height": 128,
    "data.width": 64,
    "data.transforms": ["random_flip"],
    "sampler.num_instances": 16,
    "train.batch_size": 128,
    "train.max_epoch": 6,
    "train.lr": 0.0003,
    "train.amp": "off",
    "train.precise_bn": 8,
    "cluster.eps": 0.5,
    "engine.iters": 16,
}
START = "start"
TRAINED: dict[str, dict[str, Any]] = {
    "HHCL, images alone": {"cluster.tracks": "off"},
    "HHCL, tracks": {},
}
COLUMNS = {
    "other_camera": "other-camera mAP",
    "later": "later appearances mAP",
    "f1_images": "F1, images alone",
    "f1_tracks": "F1, tracks",
    "broken_images": "seen together yet joined, images alone",
    "broken_tracks": "with tracks",
}
"""Measure -> its heading; all are shown in percent."""

Result = dict[str, float]


class Truth(NamedTuple):
    """Who is on each of N crops, and in which visit to a camera."""

    people: np.ndarray
    """(N,) int64, -1 for nobody."""
    cameras: np.ndarray
    """(N,) int64."""
    visits: np.ndarray
    """(N,) int64; no two people and no two cameras share one."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [START, *TRAINED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/footage_benchmark", help="folder that footage is rendered into")
    parser.add_argument("--out", default="log/footage", help="folder for the runs and their results")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the footage and the training")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all runs: KEY VALUE ...")
    return parser.parse_args(arguments)


def make_crops(root: Path, seed: int) -> Path:
    """Renders and crops the footage of a seed, unless that is done."""
    footage = render_footage(root / f"footage-{seed}", seed=seed, **FOOTAGE)
    crops = root / f"crops-{seed}"
    for video in sorted(footage.glob("*.mp4")):
        camera = video.stem
        crop_tracks(video, footage / f"{camera}.tracks.txt", camera, crops, every=EVERY)
    return crops


def truth_of(footage: Path, crops: Path, paths: list[str]) -> Truth:
    """Looks up who is on the crops of these paths."""
    with open(crops / "crops.csv", encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    people, cameras, visits = (np.full(len(paths), -1) for _ in range(3))
    names = sorted({row["camera"] for row in rows.values()})
    for number, camera in enumerate(names):
        boxes, truth = (read_tracks(footage / f"{camera}.{kind}.txt") for kind in ("tracks", "truth"))
        person = dict(zip(zip(boxes.track, boxes.frame, strict=True), true_people(boxes, truth), strict=True))
        visit = visit_of(truth.track, truth.frame)
        for place, path in enumerate(paths):
            row = rows[path]
            if row["camera"] == camera:
                cameras[place] = number
                who = people[place] = person[int(row["track"]), int(row["frame"])]
                if who >= 0:
                    visits[place] = 10**6 * number + 1000 * who + visit[int(who), int(row["frame"])]
    return Truth(people, cameras, visits)


def visit_of(people: np.ndarray, frames: np.ndarray) -> dict[tuple[int, int], int]:
    """For each person and frame of one camera, the how manieth visit it is."""
    found: dict[tuple[int, int], int] = {}
    last: dict[int, tuple[int, int]] = {}
    for frame, person in sorted(zip(frames.tolist(), people.tolist(), strict=True)):
        before, visit = last.get(person, (frame, 0))
        last[person] = frame, visit + (frame - before > PAUSE)
        found[person, frame] = last[person][1]
    return found


def mean_average_precision(features: Tensor, people: np.ndarray, places: np.ndarray) -> tuple[float, int]:
    """Torchreid's, of every crop among those of other places, and how many can be found there."""
    found = int(can_be_found(people, people, places, places).sum())
    if not found:
        return 0.0, 0
    distances = (1 - features @ features.T).numpy()
    return float(evaluate_rank(distances, people, people, places, places)[1]), found


def judge(features: Tensor, crops: Crops, truth: Truth, eps: float) -> Result:
    """All measures of one model's features."""
    known = np.flatnonzero(truth.people >= 0)
    rows = features[torch.from_numpy(known)]
    people, cameras, visits = (numbers[known] for numbers in truth)
    later = []
    for camera in np.unique(cameras):
        here = np.flatnonzero(cameras == camera)
        later.append(mean_average_precision(rows[torch.from_numpy(here)], people[here], visits[here]))
    result = {
        "other_camera": mean_average_precision(rows, people, cameras)[0],
        "later": sum(precision * found for precision, found in later) / max(1, sum(found for _, found in later)),
    }
    pieces = find_pieces(features, crops.images)
    one, other = pieces.apart.T
    for kind, images in (("images", None), ("tracks", crops.images)):
        labels = PseudoLabeler(eps)(features, images)
        result[f"f1_{kind}"] = agreement(people, labels.numpy()[known])["pairwise_f1"]
        first = np.array([most_frequent(labels[pieces.of_images == piece]) for piece in range(len(pieces))])
        result[f"broken_{kind}"] = float(((first[one] == first[other]) & (first[one] >= 0)).mean())
    return result


def most_frequent(labels: Tensor) -> int:
    """The label of most images of a track."""
    values, counts = labels.unique(return_counts=True)
    return int(values[counts.argmax()])


def measure(name: str, args: argparse.Namespace, seed: int) -> Result:
    """One row of one seed, from its file if it is there."""
    root = Path(args.root)
    crops_folder = make_crops(root, seed)
    cfg = configure(name, args, seed, crops_folder)
    path = Path(args.out, f"{RunFolder(cfg.data.save_dir).path.name}.json")
    if not path.exists():
        weights = cfg.model.load_weights
        if name != START:
            runner.run(cfg)
            weights = RunFolder(cfg.data.save_dir).last_checkpoint
        size = cfg.data.height, cfg.data.width
        extractor = FeatureExtractor(cfg.model.name, weights, image_size=size, device="cpu", verbose=False, workers=0)
        crops = crops_from_images(extractor, crops_folder, camera_bn=cfg.test.camera_bn)
        truth = truth_of(root / f"footage-{seed}", crops_folder, crops.paths)
        result = judge(crops.features, crops, truth, cfg.cluster.eps)
        with replacing(path, option="--out") as file:
            file.write(json.dumps(result, indent=2) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def configure(name: str, args: argparse.Namespace, seed: int, crops: Path) -> CfgNode:
    """The configuration of one run."""
    folder = Path(args.out, f"{name.replace(', ', '_').replace(' ', '_')}-{seed}")
    own = {"data.root": str(crops), "data.save_dir": str(folder), "train.seed": seed, "model.resume": "auto"}
    return load_config("", {**SETTINGS, **TRAINED.get(name, {}), **own}, args.opts)


def table(results: dict[str, list[Result]]) -> str:
    """Mean ± standard deviation of every measure, in percent, as Markdown."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, runs in results.items():
        cells = []
        for column in COLUMNS:
            values = [100 * run[column] for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Renders, trains and prints the table; 2 after bad input."""
    args = parse_arguments(arguments)
    torch.set_num_threads(1)
    results: dict[str, list[Result]] = {name: [] for name in args.rows}
    try:
        for seed in args.seeds:
            for name in args.rows:
                results[name].append(measure(name, args, seed))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
