"""The table of settings: torchreid's own names and meanings, plus what HHCL adds; one row makes one setting."""

import copy
import reprlib
import sys
from dataclasses import dataclass
from typing import Any

import torch
from yacs.config import CfgNode

from .errors import InputError

__all__ = ["SETTINGS", "Setting", "get_default_config", "shorten"]

LARGEST = {int: 2**31 - 1, float: sys.float_info.max}
NOUNS = {int: "whole number", float: "number", str: "name"}

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 100, 100


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Its values are of the default's type. A number may be written whole where it need not be; a list may be a tuple.

    Attributes:
        name: full key, such as ``cluster.eps``.
        default: the value where nothing is said; a list's items are all of one type.
        comment: what it means, its unit.
        least: the smallest number, of a list the smallest in it.
        most: the largest.
        above: a number that all values are above.
        below: a number that all values are below.
        choices: the only values that there are; those that depend on a room of the package are checked there.
        kind: the type; only needed where the default is None.
        optional: None is a value.
        may_be_empty: so is the empty text or list.
        three: a list must hold three numbers, a single number may be three as well.
        has_effect: False for what torchreid's other engines read, and HHCL does not.
        word: a text that is a value besides.
        idle_while: another setting's name and the values of it with which this one has no effect.
        values: what to give, in place of the words made of all this.
    """

    name: str
    default: Any
    comment: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    kind: type | None = None
    optional: bool = False
    may_be_empty: bool = False
    three: bool = False
    has_effect: bool = True
    word: str | None = None
    idle_while: tuple[Any, ...] = ()
    values: str = ""

    @property
    def is_list(self) -> bool:
        """Whether the default is a list."""
        return isinstance(self.default, list)

    @property
    def type(self) -> type:
        """Of a value, or of the items of a list."""
        return self.kind or type(self.default[0] if self.is_list else self.default)

    def describe_values(self, least_only: bool = False) -> str:
        """What may be given, for sentences and pages: ``a whole number, 1 or more``.

        Args:
            least_only: leaves ``most`` out.
        """
        if self.values:
            return self.values
        if self.choices:
            words = f"one of {', '.join(map(str, self.choices))}"
        elif self.type is bool:
            words = "True or False"
        else:
            noun = NOUNS[self.type]
            words = f"three {noun}s" if self.three else f"a list of {noun}s" if self.is_list else f"a {noun}"
            words += self._describe_bounds(least_only)
        return words + " or None" * self.optional

    def _describe_bounds(self, least_only: bool) -> str:
        if self.least is not None and self.most is not None and not least_only:
            return f" from {self.least:g} to {self.most:.10g}"
        above = "" if self.above is None else f" above {self.above:g}"
        least = "" if self.least is None else f", {self.least:g} or more"
        below = "" if self.below is None else f"{' and' if above or least else ''} below {self.below:g}"
        return above + least + below

    def check(self, value: Any) -> Any:
        """Gives the value as the configuration keeps it: floats where numbers are asked, lists and no tuples.

        Raises:
            InputError: it is of another type, out of range, or empty.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, str) and value == self.word:
            return value
        if value is False and "off" in self.choices:
            return "off"  # what YAML makes of a bare off
        has_items = isinstance(value, list | tuple)
        if (isinstance(value, str) or has_items) and not value and has_items == self.is_list:
            if not self.may_be_empty:
                raise InputError(f"{self.name} is empty: give {self.describe_values()}")
            return [] if has_items else ""
        items = list(value) if has_items else [value]
        if has_items != self.is_list and not (has_items and self.three):
            raise self._refuse(value, "list" if self.is_list else self.type.__name__)
        if not all(map(self._is_of_type, items)):
            raise self._refuse(value, "" if has_items else self.type.__name__)
        is_too_small = self.least is not None and any(item < self.least for item in items)
        if is_too_small or not all(map(self._is_allowed, items)) or (self.three and has_items and len(items) != 3):
            raise self._refuse(value, least_only=is_too_small)
        items = [self.type(item) for item in items]
        return items if has_items else items[0]

    def _is_of_type(self, item: Any) -> bool:
        types = (int, float) if self.type is float else self.type
        return isinstance(item, types) and isinstance(item, bool) == (self.type is bool)

    def _is_allowed(self, item: Any) -> bool:
        if self.choices or self.type is bool:
            return not self.choices or item in self.choices
        if self.type is str:
            return item != "" and "\0" not in item and _is_unicode(item)
        largest = LARGEST[self.type]
        least, most = -largest if self.least is None else self.least, largest if self.most is None else self.most
        is_inside = (self.above is None or item > self.above) and (self.below is None or item < self.below)
        return least <= item <= most and is_inside  # no NaN is

    def _refuse(self, value: Any, expected: str = "", least_only: bool = False) -> InputError:
        types = f" ({type(value).__name__}, not {expected})" if expected and value is not None else ""
        items = value if isinstance(value, list | tuple) else [value]
        is_too_large = self.type is int and any(isinstance(item, int) and item > LARGEST[int] for item in items)
        most = f", {LARGEST[int]} at most" if is_too_large and self.most is None else ""
        return InputError(f"{self.name} is {shorten(value)}{types}: give {self.describe_values(least_only)}{most}")


def _is_unicode(text: str) -> bool:
    """False for what a terminal or a file system hands over in another encoding."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def shorten(value: Any) -> str:
    """Gives the value as a sentence shows it, however long, deep or recursive it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"


_OTHERS_THAN_SGD = ("train.optim", "adam", "amsgrad", "radam", "rmsprop")
_SAMPLERS = (
    "RandomSampler",
    "RandomIdentitySampler",
    "SequentialSampler",
    "RandomDomainSampler",
    "RandomDatasetSampler",
)

_ROWS = (
    Setting("use_gpu", True, "where there is one"),
    Setting("model.name", "resnet50", "any name of torchreid's model factory, or timm/NAME"),
    Setting(
        "model.pretrained",
        True,
        "start from the weights that torchreid downloads; V2: from torchvision's better ones, from ResNet-50 on",
        word="V2",
        values="True, False or V2",
    ),
    Setting("model.load_weights", "", "start from (or test) this file instead", may_be_empty=True),
    Setting(
        "model.resume",
        "",
        'go on from this checkpoint; "auto": from the last one in data.save_dir, if any',
        may_be_empty=True,
    ),
    Setting("model.pooling", "avg", "avg, max, gem, avg+max"),
    Setting(
        "model.last_stride", 1, "of the last stage, in the backbones that have one; None: their own", optional=True
    ),
    Setting("model.embedding_dim", 0, "length of a linear embedding before the BNNeck; 0: none", least=0),
    Setting("model.dropout", 0.0, "probability of dropping a feature in training", least=0, below=1),
    Setting(
        "model.drop_path",
        0.0,
        "probability of skipping the last block for an image in training, earlier ones less: timm/NAME, vit_small_ics",
        least=0,
        below=1,
    ),
    Setting("model.bnneck", True, "batch-normalise the features before they are brought to unit length"),
    Setting("data.type", "image", choices=("image",), values="'image', which is what HHCL learns from"),
    Setting("data.root", "reid-data", "the folder that holds the data sets"),
    Setting("data.sources", ["market1501"], "data sets to train on"),
    Setting("data.targets", ["market1501"], "data sets to test on", may_be_empty=True),
    Setting("data.workers", 4, "processes that decode images", least=0, most=1024),
    Setting(
        "data.cache",
        "auto",
        "where decoded images stay: gpu, ram, off (nowhere), auto (where there is room)",
        choices=("gpu", "ram", "off", "auto"),
    ),
    Setting("data.split_id", 0, "of data sets with several splits", least=0),
    Setting("data.height", 256, "pixels", least=1),
    Setting("data.width", 128, "pixels", least=1),
    Setting("data.combineall", False, "train on query and gallery images too"),
    Setting("data.transforms", ["random_flip", "random_pad_crop", "random_erase"], "augmentation", may_be_empty=True),
    Setting("data.k_tfm", 1, least=1, most=1, values="1, as HHCL augments an image once per batch"),
    Setting("data.norm_mean", [0.485, 0.456, 0.406], "of red, green and blue", three=True),
    Setting("data.norm_std", [0.229, 0.224, 0.225], "of red, green and blue", least=1e-6, three=True),
    Setting("data.save_dir", "log", "the run's folder"),
    Setting("data.load_train_targets", False, has_effect=False),
    Setting(
        "data.camera_regex",
        "",
        "of data set folder: its first group names the camera in a path; empty: the 1st folder",
        may_be_empty=True,
    ),
    Setting(
        "data.track_regex",
        "",
        "of data set folder: its groups camera, track and frame name them in a path; empty: crops.csv, if any",
        may_be_empty=True,
    ),
    Setting("market1501.use_500k_distractors", False),
    Setting("cuhk03.labeled_images", False),
    Setting("cuhk03.classic_split", False),
    Setting("cuhk03.use_metric_cuhk03", False),
    Setting("video.seq_len", 15, least=1, has_effect=False),
    Setting("video.sample_method", "evenly", has_effect=False),
    Setting("video.pooling_method", "avg", has_effect=False),
    Setting("sampler.train_sampler", "RandomSampler", choices=_SAMPLERS, has_effect=False),
    Setting("sampler.train_sampler_t", "RandomSampler", choices=_SAMPLERS, has_effect=False),
    Setting("sampler.num_instances", 16, "images per identity in a batch", least=2, most=2**16),
    Setting("sampler.num_cams", 1, least=1, has_effect=False),
    Setting("sampler.num_datasets", 1, least=1, has_effect=False),
    Setting("train.optim", "adam", "adam, amsgrad, sgd, rmsprop, radam"),
    Setting("train.lr", 0.00035, "learning rate", above=0),
    Setting("train.weight_decay", 5e-4, least=0),
    Setting("train.max_epoch", 60, least=0),
    Setting("train.start_epoch", 0, least=0),
    Setting("train.batch_size", 256, "images", least=2, most=2**16),
    Setting(
        "train.bn_groups",
        1,
        "parts of a batch with own batch-norm statistics; of N processes a multiple of N",
        least=1,
    ),
    Setting(
        "train.precise_bn",
        0,
        "batches that re-estimate batch-norm statistics after every epoch; 0: running averages",
        least=0,
    ),
    Setting(
        "train.camera_bn",
        0,
        "batches of each camera for its own batch-norm statistics in the features that are labelled; 0: those of all",
        least=0,
        idle_while=("engine.labels", "identities"),
    ),
    Setting(
        "train.amp",
        "auto",
        "arithmetic: off (float32, never TF32), bf16, fp16, auto (what the processor is made for)",
        choices=("off", "bf16", "fp16", "auto"),
    ),
    Setting("train.compile", False, "torch.compile: minutes once, then faster steps"),
    Setting("train.fixbase_epoch", 0, "epochs in which only train.open_layers learn", least=0),
    Setting("train.open_layers", ["neck"], may_be_empty=True, idle_while=("train.fixbase_epoch", 0)),
    Setting("train.staged_lr", False, "train.new_layers learn at train.lr, the others at train.base_lr_mult times it"),
    Setting("train.new_layers", ["neck"], may_be_empty=True, idle_while=("train.staged_lr", False)),
    Setting("train.base_lr_mult", 0.1, least=0, idle_while=("train.staged_lr", False)),
    Setting("train.lr_scheduler", "single_step", "single_step, multi_step, cosine"),
    Setting("train.stepsize", [20], "epochs", least=1, idle_while=("train.lr_scheduler", "cosine")),
    Setting("train.gamma", 0.1, least=0, idle_while=("train.lr_scheduler", "cosine")),
    Setting(
        "train.warmup_epochs",
        0,
        "epochs in which the learning rate first rises from a tenth; train.stepsize counts from their end",
        least=0,
    ),
    Setting("train.print_freq", 20, "iterations", least=1),
    Setting("train.seed", 1, least=0, most=2**32 - 1),
    Setting("sgd.momentum", 0.9, "of rmsprop too", least=0, idle_while=("train.optim", "adam", "amsgrad", "radam")),
    Setting("sgd.dampening", 0.0, least=0, idle_while=_OTHERS_THAN_SGD),
    Setting("sgd.nesterov", False, idle_while=_OTHERS_THAN_SGD),
    Setting("rmsprop.alpha", 0.99, least=0, most=1, idle_while=("train.optim", "adam", "amsgrad", "radam", "sgd")),
    Setting("adam.beta1", 0.9, least=0, below=1, idle_while=("train.optim", "sgd", "rmsprop")),
    Setting("adam.beta2", 0.999, least=0, below=1, idle_while=("train.optim", "sgd", "rmsprop")),
    Setting("loss.name", "softmax", "of torchreid's supervised engines, as the other three", has_effect=False),
    Setting("loss.softmax.label_smooth", True, has_effect=False),
    Setting("loss.triplet.margin", 0.3, has_effect=False),
    Setting("loss.triplet.weight_t", 1.0, has_effect=False),
    Setting("loss.triplet.weight_x", 0.0, has_effect=False),
    Setting(
        "cluster.eps",
        0.45,
        "largest Jaccard distance between neighbours; three values: SpCL's reliability test",
        above=0,
        below=1,
        three=True,
        values="a number from 0 to 1 (both excluded), or three of them",
    ),
    Setting("cluster.min_samples", 4, "neighbours that make a core point", least=1),
    Setting("cluster.k1", 30, "neighbours of the k-reciprocal encoding", least=1),
    Setting("cluster.k2", 6, "neighbours of its query expansion", least=1),
    Setting(
        "cluster.tracks",
        "auto",
        "one label per track where tracks are known: auto (eps is widened as far as tracks seen together allow), fixed "
        "(eps as it is), off",
        choices=("auto", "fixed", "off"),
    ),
    Setting("cluster.knn", "auto", "neighbour search: auto, faiss, torch"),
    Setting(
        "cluster.corrections",
        "",
        "corrections.csv of the training images' identities, which the labels of every epoch respect",
        may_be_empty=True,
        idle_while=("engine.labels", "identities"),
    ),
    Setting("hhcl.mode", "hybrid", "centroid, hard, hybrid, hybrid_instances, harmonic"),
    Setting("hhcl.temperature", 0.05, "divides the similarities", above=0),
    Setting("hhcl.momentum", 0.1, "what a memory row keeps of itself in an update", least=0, most=1),
    Setting("hhcl.hard_weight", None, "None: the mode's own", kind=float, optional=True, least=0),
    Setting("hhcl.centroid_weight", None, "None: the mode's own", kind=float, optional=True, least=0),
    Setting("hhcl.label_smoothing", 0.0, least=0, below=1),
    Setting(
        "hhcl.camera_weight",
        "none",
        "entropy: clusters seen evenly by many cameras weigh more in the loss",
        choices=("none", "entropy"),
    ),
    Setting("hhcl.camera_proxy", 0.0, "weight of the loss against inter-camera proxies; 0: off", least=0),
    Setting("hhcl.camera_temperature", 0.07, "of that loss", above=0, idle_while=("hhcl.camera_proxy", 0)),
    Setting(
        "hhcl.camera_negatives",
        50,
        "most similar proxies of other clusters in that loss",
        least=1,
        idle_while=("hhcl.camera_proxy", 0),
    ),
    Setting(
        "hhcl.teacher",
        0.0,
        "an average of the weights that keeps this much of itself a step, as 0.999, labels and is saved; 0: none",
        least=0,
        below=1,
    ),
    Setting("engine.iters", 200, "optimiser steps per epoch", least=1, values="at least one step per epoch"),
    Setting(
        "engine.labels",
        "clusters",
        'clusters, "identities" (the true labels: the paper\'s upper row), or a labeler that was registered',
    ),
    Setting("test.batch_size", 100, "images", least=1),
    Setting("test.dist_metric", "euclidean", choices=("euclidean", "cosine")),
    Setting("test.normalize_feature", False),
    Setting("test.ranks", [1, 5, 10, 20], least=1),
    Setting("test.evaluate", False, "test only"),
    Setting("test.eval_freq", 10, "epochs; -1: only before and after training", least=-1),
    Setting("test.start_eval", 0, "epochs without a test", least=0),
    Setting("test.rerank", False, "k-reciprocal re-ranking; with test.evaluate", idle_while=("test.evaluate", False)),
    Setting(
        "test.camera_bn",
        0,
        "batches of each camera for its own batch-norm statistics in tests and identities; 0: the model's own",
        least=0,
    ),
    Setting("test.visrank", False, "write ranking pictures"),
    Setting("test.visrank_topk", 10, "images in a row of them", least=1, idle_while=("test.visrank", False)),
    Setting("test.identities", False, "at the end, write an identity for every training image and a page to look at"),
)

SETTINGS = {row.name: row for row in _ROWS}


def get_default_config() -> CfgNode:
    """Returns the whole tree with its defaults.

    Every key of torchreid's ``scripts/default_config.py`` is here under its own name. Its defaults are torchreid's too,
    but where the paper says otherwise (batch, instances, transforms, learning rate, evaluation).
    """
    cfg = CfgNode()
    for setting in SETTINGS.values():
        section = cfg
        *sections, name = setting.name.split(".")
        for parent in sections:
            if parent not in section:
                section[parent] = CfgNode()
            section = section[parent]
        section[name] = copy.copy(setting.default)
    cfg.use_gpu = torch.cuda.is_available()
    return cfg
