"""HHCL without labels beside torchreid's softmax engine with them: same data, backbone, start and images seen."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torchreid
from yacs.config import CfgNode

from hhcl_torchreid import config, runner
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.data.transforms import normalize_images
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import writing
from hhcl_torchreid.models.batch_norm import estimate_statistics
from hhcl_torchreid.models.network import ReIDModel
from hhcl_torchreid.training.reports import comparison_table


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="configs/hhcl_demo.yaml")
    parser.add_argument("--out", default="log/compare_supervised", help="folder for both runs and results.json")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="single settings for both: KEY VALUE ...")
    return parser.parse_args(arguments)


def train_without_labels(cfg: CfgNode) -> dict[str, Any]:
    """Runs HHCL; results before and after, and the seconds it took."""
    started = time.monotonic()
    engine = runner.run(cfg)
    (name,) = engine.results
    return {
        "before": engine.results_before[name],
        "after": engine.results[name],
        "images_seen": sum(
            min(cfg.train.batch_size, row["clusters"] * cfg.sampler.num_instances) * cfg.engine.iters
            for row in engine.rows[1:]
        ),
        "seconds": time.monotonic() - started,
    }


def adapt_batch_norm(cfg: CfgNode) -> dict[str, Any]:
    """Tests the start with batch-norm statistics of the unlabelled training images: what needs no training at all."""
    model = runner.build_model_from_config(cfg)
    engine = runner.build_engine(cfg, runner.build_datamanager(cfg), model)
    order = torch.randperm(len(engine.store), generator=torch.Generator().manual_seed(cfg.train.seed))
    batches = engine.store.batches(order.split(cfg.train.batch_size))
    estimate_statistics(model, (normalize_images(images, engine.mean, engine.std) for images in batches))
    engine.run(save_dir=cfg.data.save_dir, test_only=True)
    (result,) = engine.results.values()
    return {"after": result, "images_seen": 0}


def train_with_labels(cfg: CfgNode, images_seen: int, batch_size: int = 64) -> dict[str, Any]:
    """Runs torchreid's ImageSoftmaxEngine over as many training images; tested by the HHCL engine, pixel for pixel."""
    started = time.monotonic()
    torchreid.utils.set_random_seed(cfg.train.seed)
    kwargs = {
        **config.imagedata_kwargs(cfg),
        "transforms": [name.replace("random_pad_crop", "random_crop") for name in cfg.data.transforms],
        "batch_size_train": batch_size,
    }
    datamanager = torchreid.data.ImageDataManager(**kwargs)
    model = torchreid.models.build_model(
        cfg.model.name, datamanager.num_train_pids, pretrained=cfg.model.pretrained, use_gpu=cfg.use_gpu
    )
    if cfg.model.load_weights:
        start = load_checkpoint(cfg.model.load_weights)["state_dict"]
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in start.items()}, strict=False
        )
    epochs = max(1, round(images_seen / (len(datamanager.train_loader) * batch_size)))
    optimizer = torchreid.optim.build_optimizer(model, **config.optimizer_kwargs(cfg))
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="cosine", max_epoch=epochs)
    engine = torchreid.engine.ImageSoftmaxEngine(datamanager, model, optimizer, scheduler, use_gpu=cfg.use_gpu)
    engine.test = lambda **_: 0.0  # measured below instead, on the same pixels as HHCL
    engine.run(save_dir=cfg.data.save_dir, max_epoch=epochs, print_freq=50)
    return {
        "after": _test(cfg, model),
        "images_seen": epochs * len(datamanager.train_loader) * batch_size,
        "seconds": time.monotonic() - started,
    }


def _test(cfg: CfgNode, trained: torch.nn.Module) -> dict[str, float]:
    """The backbone's features, without a neck that it was not trained with, by our evaluation."""
    model = ReIDModel(cfg.model.name, trained, bnneck=False).to(memory_format=torch.channels_last)
    engine = runner.build_engine(cfg, runner.build_datamanager(cfg), model)
    engine.run(save_dir=cfg.data.save_dir, test_only=True)
    (result,) = engine.results.values()
    return result


def main(arguments: list[str] | None = None) -> int:
    """Runs both and writes ``results.json``; 2 after bad input."""
    args = parse_arguments(arguments)
    try:
        cfg = config.load_config(args.config_file, options=args.opts)
        cfg.data.save_dir = str(Path(args.out, "hhcl"))
        results = {"hhcl": train_without_labels(cfg)}
        cfg.data.save_dir = str(Path(args.out, "batch_norm"))
        results["batch_norm"] = adapt_batch_norm(cfg)
        cfg.data.save_dir = str(Path(args.out, "softmax"))
        results["softmax"] = train_with_labels(cfg, results["hhcl"]["images_seen"])
        path = Path(args.out, "results.json")
        with writing(path):
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(results))
    return 0


def _table(results: dict[str, Any]) -> str:
    columns = {
        "start": results["hhcl"]["before"],
        "BN only": results["batch_norm"]["after"],
        "HHCL": results["hhcl"]["after"],
        "softmax": results["softmax"]["after"],
    }
    ratio = columns["HHCL"]["mAP"] / columns["softmax"]["mAP"]
    seen = ", ".join(f"{name} {result['images_seen']:,}" for name, result in results.items())
    return (
        f"\n{comparison_table(columns)}\nHHCL reaches {ratio:.1%} of the supervised mAP. Training images seen: {seen}."
    )


if __name__ == "__main__":
    sys.exit(main())
