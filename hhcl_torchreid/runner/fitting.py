"""Settings fitted to what a run meets: HHCL, a file of weights, the checkpoint that it goes on from."""

import logging
import os
from typing import Any

from yacs.config import CfgNode

from .. import config, distributed
from .._torchreid import image_datasets
from ..checkpoint import check_settings, configuration_in, load_checkpoint
from ..data.datasets import FolderOfCrops
from ..models import check_input_size, find_backbone, settings_seen_in
from ..settings import SETTINGS
from ..training.folder import RunFolder

__all__ = ["checkpoint_to_resume", "fit_to_checkpoint", "fit_to_hhcl", "fit_to_weights"]

logger = logging.getLogger(__name__)

LAYERS_OF_TORCHREID = ("classifier", "fc")  # what its networks learn anew, and HHCL's lack
OF_THE_NETWORK = (
    *("model.pooling", "model.last_stride", "model.embedding_dim", "model.bnneck"),
    *("data.height", "data.width", "data.norm_mean", "data.norm_std"),
)
"""Settings that a network is tested with as it was trained."""


def fit_to_hhcl(cfg: CfgNode) -> CfgNode:
    """Says which settings do nothing, and fits others to the network: its layers, the pixels it was trained on."""
    ignored = config.settings_without_effect(cfg)
    if not any(_is_folder(name) for name in (*cfg.data.sources, *cfg.data.targets)):
        ignored += [key for key in ("data.camera_regex", "data.track_regex") if config.get_value(cfg, key)]
    if ignored:
        logger.warning(f"These settings have no effect on HHCL: {', '.join(ignored)}\n")
    cfg = cfg.clone()
    for key in ("open_layers", "new_layers"):
        layers = cfg.train[key]
        if f"train.{key}" not in ignored and set(layers) & set(LAYERS_OF_TORCHREID):
            cfg.train[key] = list(dict.fromkeys("neck" if name in LAYERS_OF_TORCHREID else name for name in layers))
            logger.warning(f"HHCL's model has no classifier: train.{key} is {cfg.train[key]} in place of {layers}\n")
    backbone = find_backbone(cfg.model.name)
    for key, own in (("norm_mean", list(backbone.pixel_mean)), ("norm_std", list(backbone.pixel_std))):
        if cfg.data[key] == SETTINGS[f"data.{key}"].default != own:
            cfg.data[key] = own
            logger.info(f"The weights of {cfg.model.name} were trained with data.{key} {own}, which this run takes\n")
    return cfg


def _is_folder(dataset: str) -> bool:
    known = image_datasets().get(dataset)
    return isinstance(known, type) and issubclass(known, FolderOfCrops)


def fit_to_weights(cfg: CfgNode) -> CfgNode:
    """Tests a file's network as it was trained, and says which settings are others for that."""
    path = cfg.model.load_weights
    if not (cfg.test.evaluate and path) or distributed.from_main(lambda: checkpoint_to_resume(cfg)):
        return cfg
    cfg = cfg.clone()
    for key, value in distributed.from_main(lambda: _settings_of_weights(cfg, path)).items():
        now = config.get_value(cfg, key)
        config.set_value(cfg, key, value)
        if config.get_value(cfg, key) != now:
            logger.info(f"{path} is of a network with {key} {value!r}, which this test takes in place of {now!r}\n")
    check_input_size(cfg.model.name, cfg.data.height, cfg.data.width)
    return cfg


def _settings_of_weights(cfg: CfgNode, path: str) -> dict[str, Any]:
    """Key -> value of the network in a file: what its configuration says, or else what its weights tell."""
    checkpoint = load_checkpoint(path)
    stored = configuration_in(checkpoint, path)
    if stored is None:
        seen = settings_seen_in(cfg.model.name, checkpoint, path, (cfg.data.height, cfg.data.width))
        return {f"model.{key}": value for key, value in seen.items()}
    return {key: config.get_value(stored, key) for key in OF_THE_NETWORK}


def fit_to_checkpoint(cfg: CfgNode) -> CfgNode:
    """Refuses to resume with other settings than the checkpoint's, and says which have no effect any more."""
    path = distributed.from_main(lambda: checkpoint_to_resume(cfg))
    if not path:
        return cfg
    kept = distributed.from_main(lambda: check_settings(load_checkpoint(path), path, cfg))
    cfg = cfg.clone()
    for key, value in kept.items():
        logger.warning(
            f"The run began with {key} {value!r}: {config.get_value(cfg, key)!r} has no effect on it any more\n"
        )
        config.set_value(cfg, key, value)
    return cfg


def checkpoint_to_resume(cfg: CfgNode) -> str:
    """Gives the file that ``model.resume`` means; empty if it is ``auto`` and there is none yet."""
    if cfg.model.resume != "auto":
        return cfg.model.resume
    last = RunFolder(cfg.data.save_dir).last_checkpoint
    return str(last) if os.path.lexists(last) else ""
