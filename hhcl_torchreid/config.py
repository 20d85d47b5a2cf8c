"""The configuration of a run: the table's defaults, a file over them, single settings over both."""

import ast
import difflib
import functools
import logging
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from yacs.config import CfgNode

from .errors import InputError
from .resources import find_resource, resource_folder
from .settings import SETTINGS, get_default_config, shorten

__all__ = [
    "LARGEST_FILE",
    "engine_kwargs",
    "engine_run_kwargs",
    "get_default_config",
    "get_value",
    "has_effect",
    "imagedata_kwargs",
    "load_config",
    "lr_scheduler_kwargs",
    "optimizer_kwargs",
    "set_value",
    "settings_without_effect",
]

logger = logging.getLogger(__name__)

DEEPEST = 10  # sections and a list in them make four
LARGEST_FILE = 100_000  # bytes; PyYAML takes seconds for it, and the whole table is a twentieth of it


def load_config(path: str = "", overrides: Mapping[str, Any] | None = None, options: Sequence[str] = ()) -> CfgNode:
    """Reads a configuration file over the defaults, then single settings over both.

    Args:
        path: YAML file, with any suffix, or the name of one that comes with the package, as ``hhcl_demo.yaml``; empty
            for the defaults.
        overrides: full key -> value, as in ``{"data.root": "reid-data"}``.
        options: ``KEY VALUE KEY VALUE ...``, as on the command line; values are Python literals, or else text.

    Returns:
        The configuration.

    Raises:
        InputError: no such file, one that is not YAML or larger than 100 kB, an unknown key (the nearest ones are
            named), a value of another type or out of range.
    """
    if len(options) % 2:
        for text in options:
            _check_parted(text)
        raise InputError(f"settings come in pairs, KEY VALUE; the last one, {shorten(options[-1])}, stands alone")
    values = _read(find_resource(path, "configs")) if path else {}
    for key, value in (overrides or {}).items():
        _check_key(key)
        values[key] = value
    values |= _read_options(options)
    cfg = get_default_config()
    for key, value in values.items():
        set_value(cfg, key, value)
    return cfg


def _read_options(options: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in zip(options[::2], options[1::2], strict=True):
        _check_parted(key)
        _check_key(key, " on the command line")
        value = _decode(text)
        if key in values and values[key] != value:
            logger.warning(
                f"{key} is given twice, as {shorten(values[key])} and {shorten(value)}: the last one counts\n"
            )
        values[key] = value
    return values


def _read(path: str) -> dict[str, Any]:
    """Full key -> value of a YAML file; nothing in it is run, and nothing is larger in memory than in the file."""
    if not os.path.isfile(path):  # a folder, a pipe or a device is none either
        known = sorted(file.name for file in resource_folder("configs").glob("*.yaml"))
        similar = difflib.get_close_matches(os.path.basename(path), known, n=3) or known
        raise InputError(f"no configuration file {path!r}: give a path, or a name such as {' or '.join(similar)}")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(f"{path} is larger than {LARGEST_FILE} bytes: give a configuration file in YAML")
        text = content.decode("utf-8-sig")
        _check_depth(text, path)
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a configuration file that can be read") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read {path} ({reason}): give a configuration file in YAML and UTF-8") from None
    settings = _settings_in(tree, path, {}) if tree else ()
    return {key: _construct(loader, node, key, path) for key, node in settings}


def _check_depth(text: str, path: str) -> None:
    """Stops before what is nested without end is built, which takes a call a level."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path} is nested too deeply: give settings there, each as NAME: VALUE in its section")


def _settings_in(
    section: yaml.Node, path: str, lines: dict[str, int], prefix: str = ""
) -> Iterator[tuple[str, yaml.Node]]:
    """Full keys of known settings; the parts of YAML that could repeat or run something are in no section.

    ``lines`` gathers where keys and sections stand: PyYAML would take the last of those that stand twice.
    """
    if not isinstance(section, yaml.MappingNode):
        raise InputError(
            f"{prefix.rstrip('.') or 'the whole'} in {path} is no section: give settings there, each as NAME: VALUE"
        )
    for name, node in section.value:
        key = prefix + (name.value if isinstance(name, yaml.ScalarNode) else "a list or mapping")
        line = name.start_mark.line + 1
        if key in lines:
            raise InputError(
                f"{key} stands twice in {path}, in lines {lines[key]} and {line}: keep one, with all there is"
            )
        lines[key] = line
        if any(known.startswith(f"{key}.") for known in SETTINGS):
            yield from _settings_in(node, path, lines, f"{key}.")
        else:
            _check_key(key, f" in {path}")
            yield key, node


def _construct(loader: yaml.SafeLoader, node: yaml.Node, key: str, path: str) -> Any:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    way_out = f"give {SETTINGS[key].describe_values()}"
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        raise InputError(f"{key} in {path} is nested: {way_out}")
    try:
        value = loader.construct_object(node, deep=True)
    # What PyYAML raises where a tag and a text do not go together, as in !!int x and 2020-13-13.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError):
        raise InputError(f"{key} in {path} cannot be read as {node.tag}: {way_out}") from None
    is_text = SETTINGS[key].type is str and not SETTINGS[key].is_list
    # YAML 1.1 takes 1e-3 and None for text.
    return _decode(value) if isinstance(value, str) and not is_text else value


def _decode(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _check_parted(text: str) -> None:
    key, equals, value = text.partition("=")
    if equals and key in SETTINGS:
        raise InputError(f"{shorten(text)} on the command line is one word: write {key} {shorten(value)}, with a space")


def _check_key(key: str, where: str = "") -> None:
    if key not in SETTINGS:
        similar = difflib.get_close_matches(key[:100], SETTINGS, n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "docs/configuration.md lists all keys"
        raise InputError(f"unknown configuration key {shorten(key)}{where}: {hint}")


def get_value(cfg: CfgNode, key: str) -> Any:
    """Reads a key by its full name, such as ``cluster.eps``."""
    return functools.reduce(operator.getitem, key.split("."), cfg)


def set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Sets a key by its full name, such as ``cluster.eps``.

    Raises:
        InputError: an unknown key, or a value of another type or out of range.
    """
    _check_key(key)
    *sections, name = key.split(".")
    functools.reduce(operator.getitem, sections, cfg)[name] = SETTINGS[key].check(value)


def settings_without_effect(cfg: CfgNode) -> list[str]:
    """Names the settings that differ from their defaults and do nothing in a run of HHCL with this configuration.

    They are those of torchreid's other engines, and those of what is not switched on, as ``sgd.momentum`` with Adam.
    """
    return [
        key for key, setting in SETTINGS.items() if get_value(cfg, key) != setting.default and not has_effect(cfg, key)
    ]


def has_effect(cfg: CfgNode, key: str) -> bool:
    """Whether a setting does anything in a run of HHCL with this configuration, whatever its value is."""
    setting = SETTINGS[key]
    if not setting.idle_while:
        return setting.has_effect
    switch, *values = setting.idle_while
    return setting.has_effect and get_value(cfg, switch) not in values


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
    """The arguments of ``torchreid.optim.build_lr_scheduler``, whose schedule begins after the warm-up."""
    return {
        "lr_scheduler": cfg.train.lr_scheduler,
        "stepsize": cfg.train.stepsize,
        "gamma": cfg.train.gamma,
        "max_epoch": max(cfg.train.max_epoch - cfg.train.warmup_epochs, 1),
    }


def engine_kwargs(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of ``ImageHHCLEngine`` but for data manager, model, optimizer, scheduler and labeler."""
    return {
        "use_gpu": cfg.use_gpu,
        "mode": cfg.hhcl.mode,
        "temperature": cfg.hhcl.temperature,
        "momentum": cfg.hhcl.momentum,
        "hard_weight": cfg.hhcl.hard_weight,
        "centroid_weight": cfg.hhcl.centroid_weight,
        "label_smoothing": cfg.hhcl.label_smoothing,
        "camera_weight": cfg.hhcl.camera_weight,
        "camera_proxy": cfg.hhcl.camera_proxy,
        "camera_temperature": cfg.hhcl.camera_temperature,
        "camera_negatives": cfg.hhcl.camera_negatives,
        "num_instances": cfg.sampler.num_instances,
        "iters": cfg.engine.iters,
        "transforms": cfg.data.transforms,
        "bn_groups": cfg.train.bn_groups,
        "precise_bn": cfg.train.precise_bn,
        "camera_bn": cfg.train.camera_bn,
        "teacher": cfg.hhcl.teacher,
        "cache": cfg.data.cache,
        "amp": cfg.train.amp,
        "seed": cfg.train.seed,
        "description": {"model_name": cfg.model.name, "config": cfg.dump()},
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
        "test_camera_bn": cfg.test.camera_bn,
    }
