"""A whole run from a configuration: what torchreid's ``scripts/main.py`` is to its engines."""

import contextlib
import functools
import logging
import os
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchreid
from yacs.config import CfgNode

from . import config, distributed
from ._torchreid import image_datasets
from .checkpoint import check_settings, configuration_in, load_checkpoint
from .data.corrections import read_corrections
from .data.datasets import FolderOfCrops, check_datasets, sightings_of
from .data.sampler import check_batch_size
from .data.tracks import Sighting
from .data.transforms import check_transforms
from .engine import ImageHHCLEngine
from .errors import InputError, explain_out_of_memory, is_out_of_memory
from .features import SeenByCameras, features_by_camera
from .files import FULL_DISK, expanded, libraries_writing, replacing, visible, writing
from .identities import Crops, check_folder, write_identities
from .interruption import catch_signals
from .labels import CorrectedLabeler, Labeler, TrueLabels, build_labeler, combine_answers
from .log import answer, copied_to
from .models import ReIDModel, build_model, check_input_size, find_backbone, load_from, settings_seen_in
from .models.batch_norm import check_num_batches
from .models.compilation import compile_model
from .settings import SETTINGS
from .training import reports
from .training.callbacks import Callback
from .training.checks import check_groups
from .training.folder import RunFolder
from .training.optimization import fuse_optimizer, warm_up

__all__ = ["build_datamanager", "build_engine", "build_model_from_config", "run", "system_info", "try_step"]

logger = logging.getLogger(__name__)

LAYERS_OF_TORCHREID = ("classifier", "fc")  # what its networks learn anew, and HHCL's lack
OF_THE_NETWORK = (
    *("model.pooling", "model.last_stride", "model.embedding_dim", "model.bnneck"),
    *("data.height", "data.width", "data.norm_mean", "data.norm_std"),
)
"""Settings that a network is tested with as it was trained."""


def run(cfg: CfgNode, dry_run: bool = False, callbacks: Sequence[Callback] = ()) -> ImageHHCLEngine:
    """Trains, or with ``test.evaluate`` tests, as the configuration says; the log goes to ``data.save_dir``.

    Inside :func:`~hhcl_torchreid.distributed.processes`, every process calls it; only the main one needs
    ``data.save_dir`` and writes there.

    Args:
        cfg: from :func:`hhcl_torchreid.config.load_config`.
        dry_run: only check configuration, weights, data and memory; data that are made on first use are made.
        callbacks: what is to hear of every epoch, see :class:`~hhcl_torchreid.training.callbacks.Callback`.

    Returns:
        The engine, after its run.

    Raises:
        InputError: anything in the configuration, the data or the machine that the user can mend.
    """
    _check_settings(cfg)
    torchreid.utils.set_random_seed(cfg.train.seed)
    torch.backends.cudnn.benchmark = True  # as torchreid's own main.py
    folder = RunFolder(cfg.data.save_dir)
    log = _logging_to(folder.log(cfg.test.evaluate))
    with (
        catch_signals(),
        folder.locked(),
        libraries_writing(cfg.data.save_dir),
        log if distributed.is_main() and not dry_run else contextlib.nullcontext(),
    ):
        cfg = _fit_to_checkpoint(_fit_to_weights(_fit_to_hhcl(cfg)))
        logger.info(f"Show configuration\n{cfg}\n")
        if distributed.is_main():
            logger.info(f"** System info **\n{system_info()}\n")
        if not dry_run:
            distributed.from_main(lambda: _write_configuration(cfg))
        # Both may make files on first use: downloaded weights, rendered images.
        with distributed.in_turn():
            model = build_model_from_config(cfg)
            _build_schedule(cfg, model)
            datamanager = build_datamanager(cfg)
        if "folder" in cfg.data.sources and not dry_run:
            reports.write_left_out(FolderOfCrops.left_out, folder.left_out)
        engine = build_engine(cfg, datamanager, model)
        start_epoch = _resume(cfg, engine)
        if cfg.test.identities:
            distributed.from_main(
                lambda: check_folder(
                    RunFolder(cfg.data.save_dir).identities, _folder_of_images(cfg, engine.records), "data.save_dir"
                )
            )
        if dry_run:
            _check_memory(cfg, engine)
        else:
            _train_or_test(cfg, engine, start_epoch, callbacks)
    return engine


def _check_memory(cfg: CfgNode, engine: ImageHHCLEngine) -> None:
    """Finds room for the decoded training images, and on a GPU for a step."""
    if not cfg.test.evaluate:
        engine.store.choose_cache()
        if engine.device.type == "cuda":
            used, name = try_step(engine) / 1e6, torch.cuda.get_device_name(engine.device)
            logger.info(f"=> A step takes {used:,.0f} MB of {name}, decoded images not counted")
    answer("=> Nothing is wrong with this run; it has not been started")


@explain_out_of_memory("a step of training", "lower train.batch_size, or free memory on the device")
def try_step(engine: ImageHHCLEngine) -> int:
    """Takes a batch of blank images forward and backward; gives the bytes that the GPU has had in use until then.

    Batch-norm statistics are spoilt by it: it is for runs that end there.

    Raises:
        InputError: there is too little memory for a step.
    """
    batch_size = engine.plan.batch_size // distributed.world_size()
    size = batch_size, 3, engine.datamanager.height, engine.datamanager.width
    images = torch.zeros(size, device=engine.device).contiguous(memory_format=torch.channels_last)
    engine.set_model_mode("train")
    with engine.embedder.autocast():
        features = engine.model(images)
    features.float().sum().backward()
    engine.optimizer.zero_grad()
    return torch.cuda.max_memory_allocated(engine.device) if engine.device.type == "cuda" else 0


def _train_or_test(cfg: CfgNode, engine: ImageHHCLEngine, start_epoch: int, callbacks: Sequence[Callback]) -> None:
    if not cfg.test.evaluate and start_epoch >= cfg.train.max_epoch:
        logger.warning(
            f"=> Nothing to train: {start_epoch} epochs are done, and train.max_epoch is {cfg.train.max_epoch}\n"
        )
    engine.run(**{**config.engine_run_kwargs(cfg), "start_epoch": start_epoch}, callbacks=callbacks)
    if cfg.test.identities:
        _write_identities(cfg, engine)
    if distributed.is_main():
        _print_summary(cfg, engine)


@functools.cache
def system_info() -> str:
    """Lists versions and hardware as torchreid does, which asks pip for a second: once for all runs of a process."""
    return str(torchreid.utils.collect_env_info())


def _fit_to_hhcl(cfg: CfgNode) -> CfgNode:
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


def _fit_to_weights(cfg: CfgNode) -> CfgNode:
    """Tests a file's network as it was trained, and says which settings are others for that."""
    path = cfg.model.load_weights
    if not (cfg.test.evaluate and path) or distributed.from_main(lambda: _checkpoint_to_resume(cfg)):
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


def _fit_to_checkpoint(cfg: CfgNode) -> CfgNode:
    """Refuses to resume with other settings than the checkpoint's, and says which have no effect any more."""
    path = distributed.from_main(lambda: _checkpoint_to_resume(cfg))
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


def _check_settings(cfg: CfgNode) -> None:
    check_batch_size(cfg.train.batch_size, cfg.sampler.num_instances)
    check_groups(cfg.train.bn_groups, cfg.train.batch_size)
    check_input_size(cfg.model.name, cfg.data.height, cfg.data.width)
    check_transforms(cfg.data.transforms)
    build_labeler(cfg.engine.labels, cfg)
    check_datasets([*cfg.data.sources, *cfg.data.targets], cfg.data.root)
    num_processes, num_gpus = distributed.processes_here(), torch.cuda.device_count()
    if cfg.use_gpu and 0 < num_gpus < num_processes:
        raise InputError(
            f"torchrun started {num_processes} processes for the {num_gpus} GPU(s) of this machine: start it with "
            f"--nproc_per_node {num_gpus}, or set use_gpu False"
        )


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
    is_resumed = bool(_checkpoint_to_resume(cfg))
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
    optimizer, schedule = _build_schedule(cfg, model)
    labeler = build_labeler(cfg.engine.labels, cfg)
    if cfg.cluster.corrections and not isinstance(labeler, TrueLabels):
        records = datamanager.train_loader.dataset.data
        root = _folder_of_images(cfg, records)
        labeler = _correct(cfg, labeler, {Path(path).relative_to(root).as_posix(): path for path, *_ in records}, root)
    return ImageHHCLEngine(
        datamanager,
        model,
        optimizer,
        scheduler=warm_up(schedule, cfg.train.warmup_epochs),
        labeler=labeler,
        **config.engine_kwargs(cfg),
    )


def _build_schedule(cfg: CfgNode, model: ReIDModel) -> tuple[torch.optim.Optimizer, Any]:
    try:
        optimizer = fuse_optimizer(torchreid.optim.build_optimizer(model, **config.optimizer_kwargs(cfg)))
        return optimizer, torchreid.optim.build_lr_scheduler(optimizer, **config.lr_scheduler_kwargs(cfg))
    except ValueError as error:
        raise InputError(f"train.optim or train.lr_scheduler: {error}") from None


def _correct(cfg: CfgNode, labeler: Labeler, names: Mapping[str, str], root: Path) -> Labeler:
    """The labeler, with what people have said of its images, whose names are by their paths below the folder."""
    return CorrectedLabeler(labeler, combine_answers(read_corrections(cfg.cluster.corrections), names, root))


def _checkpoint_to_resume(cfg: CfgNode) -> str:
    """The file that ``model.resume`` means; empty if it is ``auto`` and there is none yet."""
    if cfg.model.resume != "auto":
        return cfg.model.resume
    last = RunFolder(cfg.data.save_dir).last_checkpoint
    return str(last) if os.path.lexists(last) else ""


def _resume(cfg: CfgNode, engine: ImageHHCLEngine) -> int:
    path = distributed.from_main(lambda: _checkpoint_to_resume(cfg))
    if not path:
        if cfg.model.resume:
            logger.info(f"Nothing to resume in {cfg.data.save_dir}: training starts from the beginning")
        return cfg.train.start_epoch
    start_epoch = engine.resume(path)
    logger.info(f"Resumed from {path}, {start_epoch} epochs done")
    return start_epoch


def _write_configuration(cfg: CfgNode) -> None:
    if not cfg.test.evaluate:
        with replacing(RunFolder(cfg.data.save_dir).configuration) as file:
            file.write(cfg.dump())


def _folder_of_images(cfg: CfgNode, records: Sequence[tuple[str, int, int, int]]) -> Path:
    images = [path for path, *_ in records]
    if cfg.data.sources == ["folder"]:
        root = expanded(cfg.data.root)
        train = root / "train"
        return train if all(Path(image).is_relative_to(train) for image in images) else root
    return Path(os.path.commonpath([os.path.dirname(image) for image in images]))


def _write_identities(cfg: CfgNode, engine: ImageHHCLEngine) -> None:
    """What ``tools/assign_identities.py`` writes, of the training images by the model as it is now."""
    features = engine.extract_training_features()
    root = _folder_of_images(cfg, engine.records)
    paths = [Path(path).relative_to(root).as_posix() for path, *_ in engine.records]
    seen = sightings_of(cfg.data.sources)
    sightings = [
        seen.get(path) or Sighting(f"camera {camera}")
        for (path, *_), camera in zip(engine.records, engine.images.cameras.tolist(), strict=True)
    ]
    crops = Crops(root, paths, sightings, features, [])
    seen_by = SeenByCameras(engine.store, crops.images.cameras, features)
    crops = crops._replace(features=features_by_camera(engine.embedder, [seen_by], cfg.test.camera_bn)[0])
    labeler = engine.labeler
    if not distributed.is_main():
        labeler(crops.features, engine.images)  # its part of the neighbour search
        return
    if isinstance(labeler, CorrectedLabeler):  # its images are called by their paths below the folder here
        labeler = _correct(cfg, labeler.labeler, {path: path for path in paths}, root)
    found = write_identities(RunFolder(cfg.data.save_dir).identities, crops, labeler)
    answer(f"=> {found.num_identities} identities, {found.num_outliers} outliers of {len(found)} training images")


def _print_summary(cfg: CfgNode, engine: ImageHHCLEngine) -> None:
    """Accuracy before and after training, and where to look."""
    for name, after in engine.results.items():
        columns = (
            {"after": after}
            if cfg.test.evaluate
            else {"before": engine.history.results_before.get(name, {}), "after": after}
        )
        answer(f"\n{name}\n{reports.comparison_table(columns)}")
    folder = RunFolder(cfg.data.save_dir)
    lines = engine.history.lines[1:]
    measures = [name for name in ("track_separation", "self_retrieval") if any(name in line for line in lines)]
    if measures and not engine.test_loader:
        best = max((line for line in lines if measures[0] in line), key=lambda line: line[measures[0]])
        values = ", ".join(f"{name} {best[name]:.3f}" for name in measures)
        answer(f"\nBest epoch, judged without labels: {best['epoch']} ({values}), {folder.best_checkpoint}")
    pictures = [folder.curves, folder.clusters]
    for name in engine.results:
        pictures += [folder.rankings(name), folder.visrank(name)]
    if cfg.test.identities:
        pictures.append(folder.identities / "index.html")
    answer("\n".join(["\nPictures:", *(f"  {picture}" for picture in pictures if picture.exists())]))


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Writes what is printed and logged to a file as well."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (closed below, where writing() no longer applies)
    with file, copied_to(file):
        yield
