"""Data manager, model and engine from a configuration."""

import logging
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchreid
from yacs.config import CfgNode

from .. import config
from ..checkpoint import load_checkpoint
from ..data.corrections import read_corrections
from ..data.datasets import FolderOfCrops
from ..engine import ImageHHCLEngine
from ..errors import InputError, explain_out_of_memory, is_out_of_memory
from ..files import FULL_DISK, expanded, visible
from ..labels import CorrectedLabeler, Labeler, TrueLabels, build_labeler, combine_answers
from ..models import ReIDModel, build_model, load_from
from ..models.batch_norm import check_num_batches
from ..models.compilation import compile_model
from ..training.optimization import fuse_optimizer, warm_up
from .fitting import checkpoint_to_resume

__all__ = [
    "build_datamanager",
    "build_engine",
    "build_model_from_config",
    "build_schedule",
    "correct",
    "folder_of_images",
]

logger = logging.getLogger(__name__)


def build_datamanager(cfg: CfgNode) -> Any:
    """Builds torchreid's own image data manager.

    Raises:
        InputError: a data set is not there, or not in the layout that torchreid expects.
    """
    FolderOfCrops.left_out, FolderOfCrops.sightings = [], {}
    FolderOfCrops.camera_regex, FolderOfCrops.track_regex = cfg.data.camera_regex, cfg.data.track_regex
    try:
        with warnings.catch_warnings():
            # torchreid asks for the folder above the one that everybody has.
            warnings.filterwarnings("ignore", "The current data structure is deprecated")
            datamanager = torchreid.data.ImageDataManager(**config.imagedata_kwargs(cfg))
    except InputError:
        raise
    except Exception as error:  # a class of anybody's may raise anything
        if is_out_of_memory(error) or isinstance(error, BrokenPipeError | Warning):
            raise
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        raise _explain_data_set(cfg, error) from error
    augmentation = ", ".join(cfg.data.transforms) or "nothing"
    logger.info(f"HHCL augments with {augmentation} and resizes with bicubic interpolation\n")
    return datamanager


def _explain_data_set(cfg: CfgNode, error: Exception) -> InputError:
    names = ", ".join(dict.fromkeys([*cfg.data.sources, *cfg.data.targets]))
    hint = "its folder is empty or not in the layout that torchreid expects"
    if isinstance(error, ModuleNotFoundError):
        hint = f"install the package {error.name}, which reads it"
    elif isinstance(error, IndexError):
        hint = "torchreid wants training, query and gallery images, named as its class reads them"
    reason = textwrap.shorten(visible(" ".join(str(error).split())), width=400, placeholder=" ...")
    return InputError(f"cannot read data set {names} under {cfg.data.root} ({type(error).__name__}: {reason}): {hint}")


def build_model_from_config(cfg: CfgNode) -> ReIDModel:
    """Builds the model, with weights from ``model.load_weights`` or torchreid, on the device that is there.

    Raises:
        InputError: an unknown name, a setting that the backbone does not allow, or weights that do not fit.
    """
    logger.info(f"Building model: {cfg.model.name}")
    is_resumed = bool(checkpoint_to_resume(cfg))
    model = build_model(
        cfg.model.name,
        pretrained=False if cfg.model.load_weights or is_resumed else cfg.model.pretrained,
        pooling=cfg.model.pooling,
        last_stride=cfg.model.last_stride,
        embedding_dim=cfg.model.embedding_dim,
        dropout=cfg.model.dropout,
        drop_path=cfg.model.drop_path,
        bnneck=cfg.model.bnneck,
        image_size=(cfg.data.height, cfg.data.width),
    )
    _check_layers(cfg, model)
    parameters, operations = torchreid.utils.compute_model_complexity(model, (1, 3, cfg.data.height, cfg.data.width))
    logger.info(f"Model complexity: params={parameters:,} flops={operations:,}, {model.feature_dim} features")
    if cfg.model.load_weights and not is_resumed:
        logger.info(load_from(model, load_checkpoint(cfg.model.load_weights), cfg.model.load_weights))
    model = model.to(memory_format=torch.channels_last)
    if cfg.use_gpu and torch.cuda.is_available():
        with explain_out_of_memory("moving the model to the GPU", "free memory there, or set use_gpu False"):
            model = model.cuda()
    if cfg.train.compile:
        compile_model(model, (cfg.data.height, cfg.data.width))
    return model


def _check_layers(cfg: CfgNode, model: ReIDModel) -> None:
    """The layers that are to learn alone, or faster than others, must be there and have something to learn."""
    asked = {"train.open_layers": cfg.train.open_layers} if cfg.train.fixbase_epoch else {}
    asked |= {"train.new_layers": cfg.train.new_layers} if cfg.train.staged_lr else {}
    learning = [name for name, layer in model.named_children() if list(layer.parameters())]
    for key, layers in asked.items():
        if not layers or set(layers) - set(learning):
            raise InputError(f"{key} is {layers!r}: give some of the layers that learn, {', '.join(learning)}")


def build_engine(cfg: CfgNode, datamanager: Any, model: ReIDModel) -> ImageHHCLEngine:
    """Builds optimizer, scheduler and engine.

    Raises:
        InputError: settings that do not go together.
    """
    check_num_batches("test.camera_bn", cfg.test.camera_bn, model)
    optimizer, schedule = build_schedule(cfg, model)
    labeler = build_labeler(cfg.engine.labels, cfg)
    if cfg.cluster.corrections and not isinstance(labeler, TrueLabels):
        records = datamanager.train_loader.dataset.data
        root = folder_of_images(cfg, records)
        labeler = correct(cfg, labeler, {Path(path).relative_to(root).as_posix(): path for path, *_ in records}, root)
    return ImageHHCLEngine(
        datamanager,
        model,
        optimizer,
        scheduler=warm_up(schedule, cfg.train.warmup_epochs),
        labeler=labeler,
        **config.engine_kwargs(cfg),
    )


def build_schedule(cfg: CfgNode, model: ReIDModel) -> tuple[torch.optim.Optimizer, Any]:
    """Builds torchreid's optimizer and scheduler.

    Raises:
        InputError: settings that one of them refuses.
    """
    try:
        optimizer = fuse_optimizer(torchreid.optim.build_optimizer(model, **config.optimizer_kwargs(cfg)))
        return optimizer, torchreid.optim.build_lr_scheduler(optimizer, **config.lr_scheduler_kwargs(cfg))
    except ValueError as error:
        raise InputError(f"train.optim or train.lr_scheduler: {error}") from None


def correct(cfg: CfgNode, labeler: Labeler, names: Mapping[str, str], root: Path) -> Labeler:
    """Gives the labeler that heeds what people have said of its images; ``names`` are by paths below ``root``."""
    return CorrectedLabeler(labeler, combine_answers(read_corrections(cfg.cluster.corrections), names, root))


def folder_of_images(cfg: CfgNode, records: Sequence[tuple[str, int, int, int]]) -> Path:
    """Gives the folder below which a run's training images have their names."""
    images = [path for path, *_ in records]
    if cfg.data.sources == ["folder"]:
        root = expanded(cfg.data.root)
        train = root / "train"
        return train if all(Path(image).is_relative_to(train) for image in images) else root
    return Path(os.path.commonpath([os.path.dirname(image) for image in images]))
