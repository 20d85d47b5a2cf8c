"""Seconds of an epoch's phases, images per second and memory; with each lever changed; beside the authors' code.

Every run is a process of its own, all on the same images, start weights, batch size and device. The first epoch also
decodes images and warms up; the phases shown are those of the last one, in seconds. Waiting for data is a part of
training; "epoch img/s" counts the images trained on, in the seconds of extraction, labels and training together.

The authors' own ``main_worker`` runs from a checkout of theirs, with their trainer, loader, clustering and evaluation,
unchanged but for the start weights and for what today's PyTorch or FAISS, or a CPU, would not run.

Examples:
    python benchmarks/training.py
    python benchmarks/training.py --official path/to/HHCL-ReID --levers --json training.json
    python benchmarks/training.py --official path/to/HHCL-ReID model.name resnet50 model.last_stride 1 data.height 256
"""

import argparse
import contextlib
import importlib
import io
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchreid
from clustering import in_own_process, search_of_authors
from torch import nn
from yacs.config import CfgNode

from hhcl_torchreid import config, runner
from hhcl_torchreid.data.transforms import AugmentationDraws, BatchAugmentation
from hhcl_torchreid.engine import ImageHHCLEngine
from hhcl_torchreid.errors import InputError

Record = dict[str, Any]

# The authors' ResNet-18, which keeps its last stride, small enough for a CPU; anything may be set on the command line.
SETTINGS = {
    "model.name": "resnet18",
    "model.pretrained": False,
    "model.last_stride": 2,
    "data.root": "data",
    "data.sources": ["synthetic"],
    "data.targets": ["synthetic"],
    "data.workers": 2,
    "data.height": 128,
    "data.width": 64,
    "train.batch_size": 64,
    "train.max_epoch": 2,
    "test.batch_size": 64,
    "test.eval_freq": -1,
    "cluster.eps": 0.6,
    "engine.iters": 50,
}
# What is changed about a run to see what each lever does.
LEVERS: dict[str, dict[str, Any]] = {
    "float32": {"train.amp": "off"},
    "bf16": {"train.amp": "bf16"},
    "no cache": {"data.cache": "off"},
    "cache in RAM": {"data.cache": "ram"},
    "bn_groups 1": {"train.bn_groups": 1},
    "bn_groups 4": {"train.bn_groups": 4},
    "compiled": {"train.compile": True},
    "channels first": {},
    "images augmented one by one": {},
    "optimiser not fused": {},
}
MEMORY_NAMES = {"centroid": "CM", "hard": "CMhard", "hybrid": "CMhybrid", "hybrid_instances": "CMhybrid_v2"}
LAYER_NAMES = {
    **{"conv1": "base.0", "bn1": "base.1", "neck": "feat_bn"},
    **{f"layer{number}": f"base.{number + 3}" for number in range(1, 5)},
}
PHASES = ("extract", "label", "train", "data", "evaluate")
COLUMNS = ("code", "first epoch", *PHASES, "data %", "img/s", "epoch img/s", "times", "MB")


def configure(options: argparse.Namespace, lever: str = "") -> CfgNode:
    """The configuration of a run, with a lever's settings over the user's."""
    overrides: dict[str, Any] = {**SETTINGS, **({"data.root": options.root} if options.root else {})}
    cfg = config.load_config("", overrides, options.opts)
    for key, value in LEVERS.get(lever, {}).items():
        config.set_value(cfg, key, value)
    return cfg


def measure_ours(lever: str, options: argparse.Namespace) -> Record:
    """A run of ours; the seconds are those of its ``metrics.csv``."""
    cfg = configure(options, lever)
    torch.backends.cudnn.benchmark = True  # as a run of the command line, and as the authors'
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        torchreid.utils.set_random_seed(cfg.train.seed)
        datamanager = runner.build_datamanager(cfg)
        engine = runner.build_engine(cfg, datamanager, runner.build_model_from_config(cfg))
        take_away(lever, engine)
        engine.run(save_dir=folder, max_epoch=cfg.train.max_epoch, print_freq=10**6, eval_freq=-1)
    epochs = [{phase: row.get(f"seconds_{phase}", 0.0) for phase in PHASES} for row in engine.history.lines[1:]]
    batch = min(cfg.train.batch_size, engine.history.last["clusters"] * cfg.sampler.num_instances)
    return summarize(f"this, {lever}" if lever else "this", epochs, cfg.engine.iters * batch, engine.device)


def take_away(lever: str, engine: ImageHHCLEngine) -> None:
    """Takes levers away that no setting takes away."""
    if lever == "channels first":
        engine.model.to(memory_format=torch.contiguous_format)
        engine.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    elif lever == "images augmented one by one":
        engine.augmentation.__class__ = OneByOne
    elif lever == "optimiser not fused":
        for group in engine.optimizer.param_groups:
            group["fused"] = False


class OneByOne(BatchAugmentation):
    """Augments as a data set's transform does: one image after the other."""

    def apply(self, images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
        """Applies given draws to (B, 3, H, W) uint8 images."""
        singles = [
            super(OneByOne, self).apply(images[i : i + 1], AugmentationDraws(*(draw[i : i + 1] for draw in draws)))
            for i in range(len(images))
        ]
        return torch.cat(singles)


def measure_official(_: str, options: argparse.Namespace) -> Record:
    """A run of the authors' code."""
    cfg = configure(options)
    sys.path[:0] = [options.official, str(Path(options.official, "examples"))]
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        torchreid.utils.set_random_seed(cfg.train.seed)
        ours = runner.build_model_from_config(cfg)
        device = next(ours.parameters()).device
        images = Path(runner.build_datamanager(cfg).train_loader.dataset.data[0][0])
        Path(folder, "data").mkdir()
        Path(folder, "data", "market1501").symlink_to(images.absolute().parents[2])
        theirs = importlib.import_module("train")
        laps = prepare(theirs, cfg, ours, device, options)
        stdout = sys.stdout
        with contextlib.suppress(Finished):
            theirs.main_worker(official_arguments(cfg, folder))
        sys.stdout = stdout
    epochs = []
    for (started, extracted), (ready, trained) in zip(laps["extract"], laps["train"], strict=True):
        waits = [end - start for start, end in laps["data"] if ready <= start < trained]
        epochs.append({"extract": extracted - started, "label": ready - extracted, "train": trained - ready})
        epochs[-1]["data"] = sum(waits)
    if "evaluate" in laps:
        ((tested, ended),) = laps["evaluate"]
        epochs[-1]["evaluate"] = ended - tested
    return summarize("the authors'", epochs, cfg.engine.iters * cfg.train.batch_size, device)


class Finished(Exception):
    """The authors' run has come to its last evaluation; what follows loads the best model and tests again."""


def prepare(
    theirs: Any, cfg: CfgNode, ours: nn.Module, device: torch.device, options: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """Gives the authors' script our start weights and a clock; returns when each phase began and ended."""
    laps: dict[str, list[tuple[float, float]]] = {}

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = now(device)
            result = function(*args, **kwargs)
            laps.setdefault(phase, []).append((start, now(device)))
            return result

        return call

    def create_model(args: argparse.Namespace) -> nn.Module:
        model = theirs.models.create(
            args.arch, pretrained=False, num_features=0, norm=True, dropout=0, num_classes=0, pooling_type="avg"
        )
        weights = {}
        for name, value in ours.state_dict().items():
            layer, _, rest = name.partition(".")
            weights[f"{LAYER_NAMES[layer]}.{rest}"] = value
        model.load_state_dict({**model.state_dict(), **weights})
        return nn.DataParallel(model.to(device))

    def evaluate(*args: Any, **kwargs: Any) -> None:
        if not options.skip_their_evaluation:
            timed("evaluate", evaluate_theirs)(*args, **kwargs)
        raise Finished

    if device.type == "cpu":
        tensor_class: Any = torch.Tensor
        module_class: Any = nn.Module
        tensor_class.cuda = module_class.cuda = lambda self, *args, **kwargs: self
    search_option = search_of_authors(device.type)
    theirs.compute_jaccard_distance = partial(theirs.compute_jaccard_distance, search_option=search_option)
    sampler_class: Any = torch.utils.data.Sampler
    sampler_class.__init__ = lambda self, *args: None  # PyTorch's took an argument when theirs was written
    evaluate_theirs, theirs.Evaluator.evaluate = theirs.Evaluator.evaluate, evaluate
    theirs.create_model = create_model
    theirs.extract_features = timed("extract", theirs.extract_features)
    theirs.Trainer.train = timed("train", theirs.Trainer.train)
    theirs.IterLoader.next = timed_on_host("data", theirs.IterLoader.next, laps)
    return laps


def timed_on_host(phase: str, function: Callable[..., Any], laps: dict[str, Any]) -> Callable[..., Any]:
    """Like the authors' own clock for data, which does not wait for the GPU."""

    def call(*args: Any) -> Any:
        start = time.perf_counter()
        result = function(*args)
        laps.setdefault(phase, []).append((start, time.perf_counter()))
        return result

    return call


def official_arguments(cfg: CfgNode, folder: str) -> argparse.Namespace:
    """What the authors' command line would say."""
    return argparse.Namespace(
        dataset="market1501",
        data_dir=str(Path(folder, "data")),
        logs_dir=str(Path(folder, "logs")),
        resume="",
        arch=cfg.model.name,
        pooling_type=cfg.model.pooling,
        features=0,
        dropout=0,
        batch_size=cfg.train.batch_size,
        workers=cfg.data.workers,
        height=cfg.data.height,
        width=cfg.data.width,
        num_instances=cfg.sampler.num_instances,
        eps=cfg.cluster.eps,
        k1=cfg.cluster.k1,
        k2=cfg.cluster.k2,
        memorybank=MEMORY_NAMES[cfg.hhcl.mode],
        momentum=cfg.hhcl.momentum,
        temp=cfg.hhcl.temperature,
        smooth=cfg.hhcl.label_smoothing,
        lr=cfg.train.lr,
        weight_decay=cfg.train.weight_decay,
        step_size=cfg.train.stepsize[0],
        epochs=cfg.train.max_epoch,
        iters=cfg.engine.iters,
        eval_step=cfg.train.max_epoch,
        print_freq=10**6,
        seed=cfg.train.seed,
    )


def now(device: torch.device) -> float:
    """Seconds, when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def summarize(code: str, epochs: list[Record], images: int, device: torch.device) -> Record:
    """One line of the table, from the seconds of each epoch's phases and the images trained on in one."""
    seconds = [epoch["extract"] + epoch["label"] + epoch["train"] for epoch in epochs]
    last = {phase: round(value, 3) for phase, value in epochs[-1].items()}
    on_gpu = device.type == "cuda"
    return {
        "code": code,
        "first epoch": round(seconds[0], 3),
        **last,
        "data %": round(100 * epochs[-1]["data"] / epochs[-1]["train"], 2),
        "img/s": round(images / epochs[-1]["train"], 1),
        "epoch img/s": round(images / seconds[-1], 1),
        "MB": round((torch.cuda.max_memory_allocated(device) if on_gpu else 1024 * peak_kilobytes()) / 2**20),
    }


def peak_kilobytes() -> int:
    """The most main memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_record(record: Record) -> None:
    """One line of the table."""
    cells = [f"{record.get(name, '')!s:>12}" for name in COLUMNS[1:]]
    print(f"{record['code']:<33}" + "".join(cells), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("--official", metavar="DIR", help="checkout of the authors' repository, to run beside ours")
    parser.add_argument(
        "--skip-their-evaluation",
        action="store_true",
        help="end the authors' run before its test, minutes at full size",
    )
    parser.add_argument("--levers", nargs="*", choices=list(LEVERS), help="also run with each of these; all if none")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for all runs: KEY VALUE ...")
    return parser.parse_args()


def main() -> int:
    """Measures, prints and saves; 2 after bad input."""
    options = parse_arguments()
    levers = [] if options.levers is None else options.levers or list(LEVERS)
    runs: list[tuple[Callable[..., Record], str]] = [(measure_official, "")] if options.official else []
    runs += [(measure_ours, lever) for lever in ["", *levers]]
    records: list[Record] = []
    try:
        cfg = configure(options)
        if options.official and cfg.model.name in ("resnet18", "resnet34") and cfg.model.last_stride != 2:
            raise InputError(f"the authors' {cfg.model.name} has last stride 2: set model.last_stride 2")
        print_record({name: name for name in COLUMNS})
        for measure, lever in runs:
            records.append(in_own_process(measure, lever, options))
            if options.official:
                records[-1]["times"] = round(records[-1]["epoch img/s"] / records[0]["epoch img/s"], 2)
            print_record(records[-1])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
        if torch.cuda.is_available():
            machine["gpu"] = torch.cuda.get_device_name()
        options.json.write_text(json.dumps({"settings": cfg.dump(), "machine": machine, "results": records}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
