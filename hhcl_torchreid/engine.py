"""The HHCL engine: label -> rebuild the memory -> train -> test, the story of a run, an epoch and a step."""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchreid
from torch import Tensor, nn

from . import distributed
from .checkpoint import save_checkpoint
from .config import get_default_config
from .data import AugmentedBatches, BatchAugmentation, BatchPlan, make_store
from .data.datasets import sightings_of
from .errors import InputError, explain_out_of_memory
from .evaluation import RetrievalEngine, agreement, camera_agreement, self_retrieval, track_separation
from .features import Embedder, SeenByCameras, estimate_statistics, features_by_camera, use_precision
from .files import libraries_writing
from .interruption import uninterrupted
from .labels import Images, Labeler, TrueLabels, choose_labeler, keep_apart, label_epoch
from .log import progress_bar
from .memory import HybridMemory
from .models.batch_norm import InGroups
from .stopwatch import Stopwatch
from .training import History, Losses, RunFolder, TrainingState, check_engine, make_teacher, make_writer, reports
from .training.callbacks import Callback, tell_callbacks

__all__ = ["ImageHHCLEngine"]

logger = logging.getLogger(__name__)

SMALLER_BATCHES = "lower train.batch_size, or free memory on the device; model.resume auto goes on after the last epoch"


class ImageHHCLEngine(RetrievalEngine):
    r"""Learns person re-identification from unlabelled images by hard-sample guided hybrid contrast.

    At the start of each epoch the engine extracts the features of all training images, has them labelled and rebuilds
    the memory; then it trains as torchreid's engines do. The true identities of the training images are never used, but
    for the columns ``ari`` and ``nmi`` of ``metrics.csv`` (and with ``labels="identities"``).

    Images are decoded once and stay as bytes where there is room; of the data manager's loaders only the file lists are
    used. A step never waits for the GPU: losses are read when they are logged, and at the end of an epoch. Processes of
    ``torchrun`` (:func:`~hhcl_torchreid.distributed.processes`) share the work: ``batch_size_train`` and ``bn_groups``
    count the images of all, and the results are those of one process. The main one alone evaluates, logs and writes.

    Reference:
        Hu, Zhu, He. Hard-sample Guided Hybrid Contrast Learning. IC-NIDC 2021. arXiv 2109.12333.

    Args:
        datamanager (DataManager): a ``torchreid.data.ImageDataManager``; its ``batch_size_train`` is the batch, P * K.
        model (nn.Module): from ``hhcl_torchreid.build_model``.
        optimizer (Optimizer): an Optimizer.
        scheduler (LRScheduler, optional): stepped after every epoch. If None, the learning rate stays.
        use_gpu (bool, optional): use gpu.
        labeler (Labeler, optional): turns features into pseudo labels. If None, the one that ``labels`` names.
        num_instances (int, optional): images per identity in a batch, K.
        iters (int, optional): optimiser steps per epoch.
        transforms (sequence of str, optional): see ``BatchAugmentation``.
        bn_groups (int, optional): parts of the batch that have batch-norm statistics of their own; four give one GPU
            the result of the authors' four. In a run of several processes a multiple of their number.
        precise_bn (int, optional): batches over which batch-norm statistics are estimated anew before the first epoch
            and after every one; 0 for running averages, as published.
        camera_bn (int, optional): batches of a camera for its own statistics when labelled, see ``features_by_camera``.
        cache (str, optional): where decoded images stay, see ``ImageStore``.
        amp (str, optional): arithmetic of the network, see ``choose_precision``; the rest is float32 always.
        labels (str, optional): a name in ``hhcl_torchreid.labels.LABELERS``; "identities" are the true labels.
        teacher (float, optional): what an average of the weights keeps of itself, see ``training.teacher``; 0: none.
        seed (int, optional): seed of the batches, the augmentation and the memory.
        description (dict, optional): plain values to keep in every checkpoint, such as the configuration.
        **memory: arguments of ``HybridMemory``: ``mode``, ``temperature``, ``momentum``, ...

    Attributes:
        results (dict): the last test: data set -> ``mAP``, ``Rank-1``, ... as fractions.
        history (History): the lines of ``metrics.csv``, the best measure, the test before training.
        labels (Tensor): (N,) int64 on the CPU, the pseudo labels of ``records``; -1 for outliers.
        records (list of tuple): torchreid's (path, pid, camid, dsetid) of the training images, sorted by path; no two
            data sets have an identity or a camera in common.
        images (Images): the same without the identities.

    Raises:
        InputError: settings that do not go together, data that are no images, a model not from ``build_model``.

    Examples::

        datamanager = torchreid.data.ImageDataManager(root='reid-data', sources='market1501', batch_size_train=256)
        model = hhcl_torchreid.build_model('resnet50').cuda()
        optimizer = torchreid.optim.build_optimizer(model, optim='adam', lr=0.00035)
        scheduler = torchreid.optim.build_lr_scheduler(optimizer, stepsize=20)
        engine = hhcl_torchreid.ImageHHCLEngine(datamanager, model, optimizer, scheduler=scheduler, bn_groups=4)
        engine.run(save_dir='log/hhcl-market1501', max_epoch=60, eval_freq=10)
    """

    model: Any
    grouped_model: nn.Module
    callbacks: Sequence[Callback]
    train_loader: Any
    writer: Any

    def __init__(
        self,
        datamanager: Any,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        use_gpu: bool = True,
        labeler: Labeler | None = None,
        num_instances: int = 16,
        iters: int = 200,
        transforms: Sequence[str] = ("random_flip", "random_pad_crop", "random_erase"),
        bn_groups: int = 1,
        precise_bn: int = 0,
        camera_bn: int = 0,
        cache: str = "auto",
        amp: str = "auto",
        labels: str = "clusters",
        teacher: float = 0.0,
        seed: int = 1,
        description: dict[str, Any] | None = None,
        **memory: Any,
    ) -> None:
        self.plan = BatchPlan(datamanager.train_loader.batch_size, num_instances, iters, bn_groups)
        check_engine(datamanager, model, self.plan, precise_bn, camera_bn, transforms)
        device = next(model.parameters()).device
        scale = datamanager.transform_te.transforms[-1].mean, datamanager.transform_te.transforms[-1].std
        super().__init__(datamanager, use_gpu, Embedder(model, *scale, use_precision(amp, device)), cache)
        self.teacher = make_teacher(model, teacher)  # in the embedder's memory format
        self.model, self.optimizer, self.scheduler, self.device = model, optimizer, scheduler, device
        self.register_model("model", model, optimizer, scheduler)
        if self.teacher:
            self.embedder.model = self.teacher.network
            self.register_model("teacher", self.teacher.network)
        self.precise_bn, self.camera_bn, self.seed = precise_bn, camera_bn, seed
        self.augmentation = BatchAugmentation(transforms, datamanager.height, datamanager.width, *scale)
        self.memory_settings = {"num_instances": num_instances, **memory}
        # Built here once so that wrong settings stop the run before its first epoch, not after the first extraction.
        self.memory = HybridMemory(1, 1, **self.memory_settings)
        # Sorted, because torchreid lists files in the order of the file system, which differs between machines.
        self.records = sorted(keep_apart(self.train_loader.dataset.data))
        self.images = Images.of_records(self.records, sightings_of(datamanager.sources))
        reports.tell_of_cameras(self.images.cameras, self.memory, camera_bn)
        self.identities = np.array([identity for _, identity, _, _ in self.records])
        self.labeler = choose_labeler(labeler, labels, get_default_config(), self.identities.tolist())
        self.labels: Tensor | None = None
        self.store = make_store(datamanager, self.records, cache, device, "training images")
        self.history, self.losses = History(), Losses()
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.embedder.precision == torch.float16)
        self.state = TrainingState(model, self.teacher, optimizer, scheduler, self.scaler, self.labeler, self.history)
        self.folder, self.callbacks, self.description = RunFolder("log"), (), description or {}
        self.grouped_model = self.in_groups = InGroups(model, self.plan.group_size)
        self.resumed, self.start_epoch, self.max_epoch, self.print_freq = False, 0, 0, 1

    def run(
        self,
        save_dir: str = "log",
        max_epoch: int = 0,
        start_epoch: int = 0,
        print_freq: int = 10,
        fixbase_epoch: int = 0,
        open_layers: str | list[str] | None = None,
        start_eval: int = 0,
        eval_freq: int = -1,
        test_only: bool = False,
        *,
        visrank: bool = False,
        rerank: bool = False,
        callbacks: Sequence[Callback] = (),
        **test_settings: Any,
    ) -> None:
        r"""Torchreid's pipeline, which first tests the model as it is, so that there is a before and an after.

        The arguments are those of ``torchreid.engine.Engine.run``; ``visrank`` set for training draws the rankings of
        the final test. ``save_dir`` receives TensorBoard's events and what ``training.folder.RunFolder`` names, and
        ``callbacks`` every line of ``metrics.csv``, as ``training.callbacks.Callback`` says.

        Raises:
            InputError: unreadable images, a folder that cannot be written or is in use, no clusters, a loss that is not
                a number, too little memory. What was trained until then is in ``model/model-last.pth.tar``.
        """
        self.folder, self.callbacks = RunFolder(save_dir), callbacks
        if test_only and not self.test_loader:
            raise InputError("there is nothing to test on: give data.targets a data set with query and gallery images")
        test_settings["save_dir"] = save_dir
        with self.folder.locked(), libraries_writing(save_dir):
            if test_only or (self.resumed and start_epoch >= max_epoch):
                self.test(visrank=visrank, rerank=rerank, **test_settings)
            else:
                self.writer = self.writer or make_writer(self.folder)
                started = time.monotonic()
                self.start_epoch, self.max_epoch, self.epoch = start_epoch, max_epoch, start_epoch
                if not self.resumed:
                    self._test_before(test_settings)
                logger.info("=> Start training")
                for self.epoch in range(start_epoch, max_epoch):
                    self.train(print_freq=print_freq, fixbase_epoch=fixbase_epoch, open_layers=open_layers)
                    done = self.epoch + 1
                    if done < max_epoch and done >= start_eval and eval_freq > 0 and done % eval_freq == 0:
                        self.save_model(self.epoch, self._measure(test_settings), save_dir)
                    elif done < max_epoch:
                        self._save(self.folder.last_checkpoint)
                if max_epoch > 0:
                    logger.info("=> Final test")
                    self.save_model(self.epoch, self._measure({**test_settings, "visrank": visrank}), save_dir)
                tell_callbacks(self.callbacks, self.history.lines)
                logger.info(f"Elapsed {timedelta(seconds=round(time.monotonic() - started))}")
                self.writer.close()
            if not test_only:  # a run that is done may have been ended before
                reports.draw_run(self.folder, self.store, self.labels, self.images.cameras.numpy(), self.test_loader)

    def _test_before(self, test_settings: dict[str, Any]) -> None:
        """Writes the first line of ``metrics.csv``, the model as it is, and a checkpoint to resume from."""
        self.history.begin(self.start_epoch)
        self.history.end()
        if self.test_loader:
            logger.info("=> Test before training")
            self._measure(test_settings)
        self.history.results_before = dict(self.results)
        self.history.write(self.folder, self.writer)
        if self.start_epoch < self.max_epoch:
            # Finds out early whether there is room, and leaves something to resume from.
            self._save(self.folder.last_checkpoint)

    def _measure(self, test_settings: dict[str, Any]) -> float:
        """Completes the line of the epoch behind us by a test; gives its rank-1."""
        watch = Stopwatch(self.device)
        rank1 = self.test(**test_settings)
        if self.test_loader:
            self.history.last["seconds_evaluate"] = watch.lap("evaluate")
        self.history.last.update(self.history.mean_results(self.results))
        return rank1

    def train(self, print_freq: int = 10, fixbase_epoch: int = 0, open_layers: str | list[str] | None = None) -> None:
        """Trains an epoch: pseudo labels and a new memory, then torchreid's training loop over ``iters`` batches."""
        self.history.begin(self.epoch + 1, lr=self.get_current_lr())
        self.print_freq, self.losses = print_freq, Losses()
        if len(self.history.lines) <= 1:  # of an untrained model, also where a run goes on from it
            self._estimate_statistics()
        batches = self._start_epoch()
        tell_callbacks(self.callbacks, self.history.lines)
        watch = Stopwatch(self.device)
        with explain_out_of_memory("training", SMALLER_BATCHES):
            super().train(print_freq=print_freq, fixbase_epoch=fixbase_epoch, open_layers=open_layers)
            self._read_losses()
        self.history.current |= {"seconds_train": watch.lap("train"), "seconds_data": batches.seconds}
        distributed.broadcast_buffers(self.embedder.model)
        # A step can spoil the weights after its loss was fine; the last one's would go into the checkpoint unseen.
        if not torch.stack([torch.isfinite(weight).all() for weight in self.model.parameters()]).all():
            raise self.losses.diverged("weights that are no numbers", self.history, self.folder)
        self._estimate_statistics()
        self.history.current["loss"] = self.losses.mean
        self.history.end()
        self.history.write(self.folder, self.writer)
        reports.write_labels(self.records, batches.labels, self.folder.labels)

    @explain_out_of_memory("the batch-norm statistics", SMALLER_BATCHES)
    def _estimate_statistics(self) -> None:
        """Gives the features of the next extraction and test batch-norm statistics of the weights as they are."""
        if self.precise_bn:
            generator = self._generator("statistics")
            estimate_statistics(self.embedder, self.store, self.plan.batch_size, self.precise_bn, generator)

    def _start_epoch(self) -> AugmentedBatches:
        """Extracts features, makes pseudo labels, rebuilds the memory and the batches."""
        if not distributed.is_main():
            # Only the main process's random states are saved, and dropout should differ between processes.
            torchreid.utils.set_random_seed(int(self._generator(f"rank {distributed.rank()}").integers(2**31)))
        watch = Stopwatch(self.device)
        features = self.extract_training_features()
        self.history.current["seconds_extract"] = watch.lap("extract")
        self.labels = self._make_labels(features)
        num_clusters = int(self.labels.max()) + 1
        self.memory = HybridMemory(num_clusters, features.shape[1], **self.memory_settings).to(self.device)
        generator = torch.Generator().manual_seed(int(self._generator("memory").integers(2**62)))
        self.memory.rebuild(features, self.labels.to(features.device), generator, self.images.cameras)
        self.history.current["seconds_label"] = watch.lap("label")
        batches = AugmentedBatches(self.store, self.labels, self.images, self.plan, self.augmentation, self._generator)
        self.train_loader = progress_bar(batches, desc=f"epoch {self.epoch + 1}", total=self.plan.iters, leave=False)
        return batches

    def _generator(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each epoch and purpose: a resumed run draws what the whole run would have."""
        return np.random.default_rng([self.seed, self.epoch, *purpose.encode()])

    @explain_out_of_memory("the features of the training images", SMALLER_BATCHES)
    def extract_training_features(self) -> Tensor:
        """Gives the features of all training images, (N, D) float32 unit rows in the order of ``records``."""
        self.set_model_mode("eval")
        return self.embedder.of_store(self.store)

    @explain_out_of_memory("the batch-norm statistics of cameras", SMALLER_BATCHES)
    def _by_camera(self, features: Tensor) -> Tensor:
        """The features that are labelled, from those of training."""
        seen = [SeenByCameras(self.store, self.images.cameras, features)]
        return features_by_camera(self.embedder, seen, self.camera_bn, self._generator("cameras"))[0]

    def _make_labels(self, features: Tensor) -> Tensor:
        """Pseudo labels on the CPU, which also judge the model that they come from."""
        labels_before = self.labels if self.history.had_clusters else None
        aligned = features if isinstance(self.labeler, TrueLabels) else self._by_camera(features)
        labels, found, sizes = label_epoch(self.labeler, aligned, self.images, self.epoch + 1, labels_before)
        self.history.current |= sizes | camera_agreement(found, self.images.cameras)
        if not isinstance(self.labeler, TrueLabels):
            self._judge(features, found)
            self.history.current |= agreement(found, self.identities)
        return labels

    def _judge(self, features: Tensor, labels: Tensor) -> None:
        """Completes the line of the epoch behind us by label-free measures; where no test is, they name the best."""
        measure = self.history.last["self_retrieval"] = self_retrieval(features, labels, self.images.cameras.numpy())
        if (separation := track_separation(features, self.images)) is not None:
            measure = self.history.last["track_separation"] = separation
        self.history.write(self.folder, self.writer)
        if not self.test_loader and self.history.last["epoch"] > 0 and self.history.improves(measure):
            self._save(self.folder.best_checkpoint)

    def forward_backward(self, data: dict[str, Tensor]) -> dict[str, float] | None:
        """Takes one step, which a signal does not break off; gives the loss only where torchreid's loop prints it."""
        (images, labels), cameras = self.parse_data_for_train(data), data["camid"]
        of_ranks = distributed.parts(len(labels), self.plan.group_size)
        with uninterrupted():
            with self.embedder.autocast():
                features = self.grouped_model(images)
            features = distributed.gather_features(features, of_ranks)
            loss = self.memory(features, labels, cameras)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.teacher:
                self.teacher.update(self.model)
            self.memory.update(features, labels, cameras)
            self.losses.add(loss)
        if (self.batch_idx + 1) % self.print_freq:
            return None
        new = self._read_losses()
        return {"loss": sum(new) / len(new)}

    def two_stepped_transfer_learning(
        self, epoch: int, fixbase_epoch: int, open_layers: str | list[str] | None, model: nn.Module | None = None
    ) -> None:
        """Torchreid's choice of the layers that learn in this epoch."""
        super().two_stepped_transfer_learning(epoch, fixbase_epoch, open_layers, model)
        # Anew in every epoch: DistributedDataParallel counts on the weights that learn when it is made.
        self.grouped_model = distributed.data_parallel(self.in_groups)

    def _read_losses(self) -> list[float]:
        """The losses of the steps since the last call; here the CPU waits for the GPU."""
        new = self.losses.read()
        self.losses.check(self.history, self.folder)
        return new

    def save_model(self, epoch: int, rank1: float, save_dir: str, is_best: bool = False) -> None:
        """Saves the last checkpoint after a test, and the best."""
        if epoch + 1 == self.max_epoch and not isinstance(self.labeler, TrueLabels):
            # Every other model is judged by the labels of the epoch after it.
            features = self.extract_training_features()
            self._judge(features, self.labeler(self._by_camera(features), self.images).cpu())
        self.history.write(self.folder, self.writer)
        reports.draw_curves(self.history.lines, self.folder.curves)
        if self.test_loader:
            is_best = self.history.improves(self.history.last["mAP"]) or is_best
        # The best one first: a run that is killed in between does the epoch again, and finds it the best again.
        if is_best:
            self._save(self.folder.best_checkpoint)
        self._save(self.folder.last_checkpoint)

    @distributed.main_only
    def _save(self, path: Path) -> None:
        with uninterrupted():
            save_checkpoint(self.state_dict(), path)
        logger.debug(f"Saved {path}")

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`resume` needs; readable by ``torchreid.utils.resume_from_checkpoint`` too."""
        return {**self.state.state_dict(), "labels": self.labels, **self.description}

    def resume(self, path: str) -> int:
        """Goes back to the end of the epoch that a checkpoint was saved after.

        Args:
            path: a ``model-last.pth.tar`` or ``model-best.pth.tar`` of an engine like this one.

        Returns:
            The epochs it has behind it: ``start_epoch`` of :meth:`run`.

        Raises:
            InputError: no such file, no checkpoint, or one of another model or optimiser.
        """
        checkpoint = self.state.load(path)
        labels = checkpoint["labels"]
        # Images have come or gone since where the numbers differ; only an epoch without clusters would need the labels.
        self.labels = labels if labels is not None and len(labels) == len(self.records) else None
        self.resumed = True
        return int(checkpoint["epoch"])
