"""A whole run, from its configuration to its last words."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torchreid
from yacs.config import CfgNode

from .. import config, distributed
from ..data.datasets import FolderOfCrops, check_datasets
from ..data.sampler import check_batch_size
from ..data.transforms import check_transforms
from ..engine import ImageHHCLEngine
from ..errors import InputError, explain_out_of_memory
from ..files import libraries_writing, replacing, writing
from ..identities import check_folder
from ..interruption import catch_signals
from ..labels import build_labeler
from ..log import answer, copied_to
from ..models import check_input_size
from ..training import reports
from ..training.callbacks import Callback
from ..training.checks import check_groups
from ..training.folder import RunFolder
from .building import build_datamanager, build_engine, build_model_from_config, build_schedule, folder_of_images
from .endings import print_summary, write_identities_of_run
from .fitting import checkpoint_to_resume, fit_to_checkpoint, fit_to_hhcl, fit_to_weights

__all__ = ["run", "system_info", "try_step"]

logger = logging.getLogger(__name__)


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
        cfg = fit_to_checkpoint(fit_to_weights(fit_to_hhcl(cfg)))
        logger.info(f"Show configuration\n{cfg}\n")
        if distributed.is_main():
            logger.info(f"** System info **\n{system_info()}\n")
        if not dry_run:
            distributed.from_main(lambda: _write_configuration(cfg))
        # Both may make files on first use: downloaded weights, rendered images.
        with distributed.in_turn():
            model = build_model_from_config(cfg)
            build_schedule(cfg, model)
            datamanager = build_datamanager(cfg)
        if "folder" in cfg.data.sources and not dry_run:
            reports.write_left_out(FolderOfCrops.left_out, folder.left_out)
        engine = build_engine(cfg, datamanager, model)
        start_epoch = _resume(cfg, engine)
        if cfg.test.identities:
            distributed.from_main(
                lambda: check_folder(
                    RunFolder(cfg.data.save_dir).identities, folder_of_images(cfg, engine.records), "data.save_dir"
                )
            )
        if dry_run:
            _check_memory(cfg, engine)
        else:
            _train_or_test(cfg, engine, start_epoch, callbacks)
    return engine


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


def _write_configuration(cfg: CfgNode) -> None:
    if not cfg.test.evaluate:
        with replacing(RunFolder(cfg.data.save_dir).configuration) as file:
            file.write(cfg.dump())


def _resume(cfg: CfgNode, engine: ImageHHCLEngine) -> int:
    path = distributed.from_main(lambda: checkpoint_to_resume(cfg))
    if not path:
        if cfg.model.resume:
            logger.info(f"Nothing to resume in {cfg.data.save_dir}: training starts from the beginning")
        return cfg.train.start_epoch
    start_epoch = engine.resume(path)
    logger.info(f"Resumed from {path}, {start_epoch} epochs done")
    return start_epoch


def _train_or_test(cfg: CfgNode, engine: ImageHHCLEngine, start_epoch: int, callbacks: Sequence[Callback]) -> None:
    if not cfg.test.evaluate and start_epoch >= cfg.train.max_epoch:
        logger.warning(
            f"=> Nothing to train: {start_epoch} epochs are done, and train.max_epoch is {cfg.train.max_epoch}\n"
        )
    engine.run(**{**config.engine_run_kwargs(cfg), "start_epoch": start_epoch}, callbacks=callbacks)
    if cfg.test.identities:
        write_identities_of_run(cfg, engine)
    if distributed.is_main():
        print_summary(cfg, engine)


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


@functools.cache
def system_info() -> str:
    """Lists versions and hardware as torchreid does, which asks pip for a second: once for all runs of a process."""
    return str(torchreid.utils.collect_env_info())


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Writes what is printed and logged to a file as well."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (closed below, where writing() no longer applies)
    with file, copied_to(file):
        yield
