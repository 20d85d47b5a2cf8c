"""The configuration: torchreid's own tree, with its names and meanings, plus what HHCL adds."""

import difflib
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from yacs.config import CfgNode

from .errors import InputError

__all__ = [
    "all_keys",
    "engine_run_kwargs",
    "get_default_config",
    "imagedata_kwargs",
    "load_config",
    "lr_scheduler_kwargs",
    "optimizer_kwargs",
    "set_value",
]

# These may be of several types, and are None until somebody sets them; yacs would hold on to one type.
FREE_TYPES = ("cluster.eps", "data.cache", "train.amp")

# What a number, or each in a list of them, may be: its type, the least, the most. What is missing here is checked by
# the part of the package that it is for.
NUMBERS: dict[str, tuple[type, float, float]] = {
    "data.workers": (int, 0, math.inf),
    "data.height": (int, 1, math.inf),
    "data.width": (int, 1, math.inf),
    "data.norm_mean": (float, -math.inf, math.inf),
    "data.norm_std": (float, 1e-6, math.inf),
    "train.max_epoch": (int, 0, math.inf),
    "train.start_epoch": (int, 0, math.inf),
    "train.fixbase_epoch": (int, 0, math.inf),
    "train.stepsize": (int, 1, math.inf),
    "train.gamma": (float, 0, math.inf),
    "train.print_freq": (int, 1, math.inf),
    "train.seed": (int, 0, 2**32 - 1),
    "cluster.eps": (float, 0, 1),
    "hhcl.hard_weight": (float, 0, math.inf),
    "hhcl.centroid_weight": (float, 0, math.inf),
    "test.batch_size": (int, 1, math.inf),
    "test.ranks": (int, 1, math.inf),
    "test.visrank_topk": (int, 1, math.inf),
}
NAMES = ("data.sources", "data.targets", "data.transforms", "train.open_layers", "train.new_layers")
NOT_EMPTY = ("data.sources", "data.save_dir", "train.stepsize")
CHOICES = {"test.dist_metric": ("euclidean", "cosine")}


def get_default_config() -> CfgNode:
    """Returns the whole tree with its defaults.

    Every key of torchreid's ``scripts/default_config.py`` is here under its own name. Its defaults are torchreid's too,
    but where the paper says otherwise (batch, instances, transforms, learning rate, evaluation).
    """
    cfg = CfgNode()
    cfg.use_gpu = torch.cuda.is_available()  # where there is one
    _add_model_and_data(cfg)
    _add_training(cfg)
    _add_torchreid_losses(cfg)
    _add_hhcl(cfg)
    _add_test(cfg)
    return cfg


def _add_model_and_data(cfg: CfgNode) -> None:
    cfg.model = CfgNode()
    cfg.model.name = "resnet50"  # any name of torchreid's model factory
    cfg.model.pretrained = True  # start from the weights that torchreid downloads
    cfg.model.load_weights = ""  # start from (or test) this file instead
    cfg.model.resume = ""  # go on from this checkpoint; "auto": from the last one in data.save_dir, if any
    cfg.model.pooling = "avg"  # avg, max, gem, avg+max
    cfg.model.last_stride = 1  # of the last stage, in the backbones that have one
    cfg.model.embedding_dim = 0  # length of a linear embedding before the BNNeck; 0: none
    cfg.model.dropout = 0.0  # probability of dropping a feature in training
    cfg.model.bnneck = True  # batch-normalise the features before they are brought to unit length

    cfg.data = CfgNode()
    cfg.data.type = "image"
    cfg.data.root = "reid-data"
    cfg.data.sources = ["market1501"]
    cfg.data.targets = ["market1501"]
    cfg.data.workers = 4  # processes that decode images
    cfg.data.cache = "auto"  # where decoded images stay: gpu, ram, off (nowhere), auto (where there is room)
    cfg.data.split_id = 0
    cfg.data.height = 256  # pixels
    cfg.data.width = 128  # pixels
    cfg.data.combineall = False  # train on query and gallery images too
    cfg.data.transforms = ["random_flip", "random_pad_crop", "random_erase"]
    cfg.data.k_tfm = 1
    cfg.data.norm_mean = [0.485, 0.456, 0.406]
    cfg.data.norm_std = [0.229, 0.224, 0.225]
    cfg.data.save_dir = "log"  # the run's folder
    cfg.data.load_train_targets = False
    cfg.data.camera_regex = ""  # of data set folder: its first group names the camera in a path; empty: the 1st folder

    cfg.market1501 = CfgNode()
    cfg.market1501.use_500k_distractors = False
    cfg.cuhk03 = CfgNode()
    cfg.cuhk03.labeled_images = False
    cfg.cuhk03.classic_split = False
    cfg.cuhk03.use_metric_cuhk03 = False

    cfg.video = CfgNode()
    cfg.video.seq_len = 15
    cfg.video.sample_method = "evenly"
    cfg.video.pooling_method = "avg"


def _add_training(cfg: CfgNode) -> None:
    cfg.sampler = CfgNode()
    cfg.sampler.train_sampler = "RandomSampler"  # of torchreid's own engines; HHCL's sampler is its own
    cfg.sampler.train_sampler_t = "RandomSampler"
    cfg.sampler.num_instances = 16  # images per identity in a batch
    cfg.sampler.num_cams = 1
    cfg.sampler.num_datasets = 1

    cfg.train = CfgNode()
    cfg.train.optim = "adam"
    cfg.train.lr = 0.00035
    cfg.train.weight_decay = 5e-4
    cfg.train.max_epoch = 60
    cfg.train.start_epoch = 0
    cfg.train.batch_size = 256
    cfg.train.bn_groups = 1  # parts of a batch with own batch-norm statistics; of N processes a multiple of N
    cfg.train.precise_bn = 0  # batches that re-estimate batch-norm statistics after every epoch; 0: running averages
    cfg.train.amp = "auto"  # arithmetic: off (float32, never TF32), bf16, fp16, auto (what the processor is made for)
    cfg.train.compile = False  # torch.compile: minutes once, then faster steps
    cfg.train.fixbase_epoch = 0  # epochs in which only train.open_layers learn
    cfg.train.open_layers = ["neck"]
    cfg.train.staged_lr = False  # train.new_layers learn at train.lr, the others at train.base_lr_mult times it
    cfg.train.new_layers = ["neck"]
    cfg.train.base_lr_mult = 0.1
    cfg.train.lr_scheduler = "single_step"
    cfg.train.stepsize = [20]  # epochs
    cfg.train.gamma = 0.1
    cfg.train.print_freq = 20  # iterations
    cfg.train.seed = 1

    cfg.sgd = CfgNode()
    cfg.sgd.momentum = 0.9  # of rmsprop too
    cfg.sgd.dampening = 0.0
    cfg.sgd.nesterov = False
    cfg.rmsprop = CfgNode()
    cfg.rmsprop.alpha = 0.99
    cfg.adam = CfgNode()
    cfg.adam.beta1 = 0.9
    cfg.adam.beta2 = 0.999


def _add_torchreid_losses(cfg: CfgNode) -> None:
    """Settings of torchreid's supervised engines, so that its configuration files load."""
    cfg.loss = CfgNode()
    cfg.loss.name = "softmax"
    cfg.loss.softmax = CfgNode()
    cfg.loss.softmax.label_smooth = True
    cfg.loss.triplet = CfgNode()
    cfg.loss.triplet.margin = 0.3
    cfg.loss.triplet.weight_t = 1.0
    cfg.loss.triplet.weight_x = 0.0


def _add_hhcl(cfg: CfgNode) -> None:
    cfg.cluster = CfgNode()
    cfg.cluster.eps = 0.45  # largest Jaccard distance between neighbours; three values: SpCL's reliability test
    cfg.cluster.min_samples = 4  # neighbours that make a core point
    cfg.cluster.k1 = 30  # neighbours of the k-reciprocal encoding
    cfg.cluster.k2 = 6  # neighbours of its query expansion
    cfg.cluster.knn = "auto"  # neighbour search: auto, faiss, torch

    cfg.hhcl = CfgNode()
    cfg.hhcl.mode = "hybrid"  # centroid, hard, hybrid, hybrid_instances
    cfg.hhcl.temperature = 0.05
    cfg.hhcl.momentum = 0.1  # what a memory row keeps of itself in an update
    cfg.hhcl.hard_weight = None  # None: the mode's own
    cfg.hhcl.centroid_weight = None
    cfg.hhcl.label_smoothing = 0.0

    cfg.engine = CfgNode()
    cfg.engine.iters = 200  # optimiser steps per epoch
    cfg.engine.labels = "clusters"  # "identities" trains with the true labels: the paper's upper row


def _add_test(cfg: CfgNode) -> None:
    cfg.test = CfgNode()
    cfg.test.batch_size = 100
    cfg.test.dist_metric = "euclidean"  # or cosine
    cfg.test.normalize_feature = False
    cfg.test.ranks = [1, 5, 10, 20]
    cfg.test.evaluate = False  # test only
    cfg.test.eval_freq = 10  # epochs; -1: only before and after training
    cfg.test.start_eval = 0
    cfg.test.rerank = False  # k-reciprocal re-ranking; with test.evaluate
    cfg.test.visrank = False  # write ranking pictures
    cfg.test.visrank_topk = 10
    cfg.test.identities = False  # at the end, write an identity for every training image and a page to look at


def load_config(path: str = "", overrides: dict[str, Any] | None = None, options: Sequence[str] = ()) -> CfgNode:
    """Reads a configuration file over the defaults, then single settings over both.

    Args:
        path: YAML file; empty for the defaults.
        overrides: full key -> value, as in ``{"data.root": "reid-data"}``.
        options: ``KEY VALUE KEY VALUE ...``, as on the command line.

    Returns:
        The configuration.

    Raises:
        InputError: no such file, an unknown key (the nearest ones are named), a value of another type or out of range.
    """
    cfg = get_default_config()
    defaults = {key: _get(cfg, key) for key in FREE_TYPES}
    for key in FREE_TYPES:
        set_value(cfg, key, None)
    if path:
        if not os.path.isfile(path):
            raise InputError(f"no configuration file {path!r}: configs/ holds those that come with hhcl-torchreid")
        _merge(cfg, lambda: cfg.merge_from_file(path), f"in {path}")
    for key, value in (overrides or {}).items():
        set_value(cfg, key, value)
    if len(options) % 2:
        raise InputError(f"settings come in pairs, KEY VALUE; the last one, {options[-1]!r}, stands alone")
    _merge(cfg, lambda: cfg.merge_from_list(list(options)), "on the command line")
    for key, default in defaults.items():
        if _get(cfg, key) is None:
            set_value(cfg, key, default)
        elif _get(cfg, key) is False:
            set_value(cfg, key, "off")  # a bare off is False in YAML
    _check_values(cfg)
    return cfg


def _check_values(cfg: CfgNode) -> None:
    """Stops at what would else come to light deep inside the run, as somebody else's error or as nonsense."""
    for key in NOT_EMPTY:
        if not _get(cfg, key):
            raise InputError(f"{key} is empty: give it a value")
    for key in NAMES:
        if not all(isinstance(name, str) for name in _get(cfg, key)):
            raise InputError(f"{key} is {_get(cfg, key)!r}: give a list of names")
    for key, choices in CHOICES.items():
        if _get(cfg, key) not in choices:
            raise InputError(f"{key} is {_get(cfg, key)!r}: choose one of {', '.join(choices)}")
    for key in ("data.norm_mean", "data.norm_std"):
        if len(_get(cfg, key)) != 3:
            raise InputError(f"{key} is {_get(cfg, key)!r}: give three numbers, for red, green and blue")
    for key, (kind, least, most) in NUMBERS.items():
        value = _get(cfg, key)
        numbers = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if not all(_is_number(number, kind) and least <= number <= most for number in numbers):
            noun = "whole number" if kind is int else "number"
            form = f"a {noun}" if [value] == numbers else f"{noun}s"
            if most < math.inf:
                form += f" from {least:g} to {most:.0f}"
            elif least > -math.inf:
                form += f", {least:g} or more"
            raise InputError(f"{key} is {value!r}: give {form}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def _merge(cfg: CfgNode, merge: Any, where: str) -> None:
    try:
        merge()
    except (KeyError, AssertionError) as error:  # yacs asserts where it reads KEY VALUE, else it raises KeyError
        unknown = str(error.args[0]).split(": ")[-1]
        similar = difflib.get_close_matches(unknown, all_keys(cfg), n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "docs/configuration.md lists all keys"
        raise InputError(f"unknown configuration key {unknown!r} {where}: {hint}") from None
    except (ValueError, yaml.YAMLError, AttributeError) as error:
        raise InputError(f"cannot use a value {where}: {' '.join(str(error).split())}") from None


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Full names of all settings, such as ``cluster.eps``, in the order of the tree."""
    keys: list[str] = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]
    return keys


def _get(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Sets a key by its full name, such as ``cluster.eps``."""
    *parents, name = key.split(".")
    (_get(cfg, ".".join(parents)) if parents else cfg)[name] = value


def imagedata_kwargs(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of ``torchreid.data.ImageDataManager``."""
    return {
        "root": cfg.data.root,
        "sources": cfg.data.sources,
        "targets": cfg.data.targets,
        "height": cfg.data.height,
        "width": cfg.data.width,
        "transforms": cfg.data.transforms,
        "norm_mean": cfg.data.norm_mean,
        "norm_std": cfg.data.norm_std,
        "use_gpu": cfg.use_gpu,
        "split_id": cfg.data.split_id,
        "combineall": cfg.data.combineall,
        "load_train_targets": cfg.data.load_train_targets,
        "batch_size_train": cfg.train.batch_size,
        "batch_size_test": cfg.test.batch_size,
        "workers": cfg.data.workers,
        "num_instances": cfg.sampler.num_instances,
        "num_cams": cfg.sampler.num_cams,
        "num_datasets": cfg.sampler.num_datasets,
        "train_sampler": cfg.sampler.train_sampler,
        "train_sampler_t": cfg.sampler.train_sampler_t,
        "cuhk03_labeled": cfg.cuhk03.labeled_images,
        "cuhk03_classic_split": cfg.cuhk03.classic_split,
        "market1501_500k": cfg.market1501.use_500k_distractors,
    }


def optimizer_kwargs(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of ``torchreid.optim.build_optimizer``."""
    return {
        "optim": cfg.train.optim,
        "lr": cfg.train.lr,
        "weight_decay": cfg.train.weight_decay,
        "momentum": cfg.sgd.momentum,
        "sgd_dampening": cfg.sgd.dampening,
        "sgd_nesterov": cfg.sgd.nesterov,
        "rmsprop_alpha": cfg.rmsprop.alpha,
        "adam_beta1": cfg.adam.beta1,
        "adam_beta2": cfg.adam.beta2,
        "staged_lr": cfg.train.staged_lr,
        "new_layers": cfg.train.new_layers,
        "base_lr_mult": cfg.train.base_lr_mult,
    }


def lr_scheduler_kwargs(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of ``torchreid.optim.build_lr_scheduler``."""
    return {
        "lr_scheduler": cfg.train.lr_scheduler,
        "stepsize": cfg.train.stepsize,
        "gamma": cfg.train.gamma,
        "max_epoch": cfg.train.max_epoch,
    }


def engine_run_kwargs(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of ``ImageHHCLEngine.run``."""
    return {
        "save_dir": cfg.data.save_dir,
        "max_epoch": cfg.train.max_epoch,
        "start_epoch": cfg.train.start_epoch,
        "fixbase_epoch": cfg.train.fixbase_epoch,
        "open_layers": cfg.train.open_layers,
        "start_eval": cfg.test.start_eval,
        "eval_freq": cfg.test.eval_freq,
        "test_only": cfg.test.evaluate,
        "print_freq": cfg.train.print_freq,
        "dist_metric": cfg.test.dist_metric,
        "normalize_feature": cfg.test.normalize_feature,
        "visrank": cfg.test.visrank,
        "visrank_topk": cfg.test.visrank_topk,
        "use_metric_cuhk03": cfg.cuhk03.use_metric_cuhk03,
        "ranks": cfg.test.ranks,
        "rerank": cfg.test.rerank,
    }
