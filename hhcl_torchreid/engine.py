"""The HHCL engine: label -> rebuild the memory -> train -> test, inside torchreid's own run."""

import math
import os.path as osp
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torchreid
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor
from tqdm import tqdm

from . import distributed
from .checkpoint import load_checkpoint, random_states, restore_random_states, save_checkpoint
from .clustering import re_ranking
from .data.images import DecodedImages
from .data.loader import AugmentedBatches, TestBatches
from .data.sampler import CrossCameraBatchSampler, check_batch_size
from .data.store import ImageStore
from .data.transforms import BatchAugmentation, normalize_images
from .errors import InputError, explain_out_of_memory
from .evaluation.ranking import evaluate_rank
from .evaluation.self_retrieval import self_retrieval
from .files import libraries_writing, writing
from .interruption import uninterrupted
from .labels.clusters import PseudoLabeler
from .memory.hybrid import HybridMemory
from .models.acceleration import choose_precision
from .models.batch_norm import InGroups, estimate_statistics
from .training import reports

__all__ = ["ImageHHCLEngine"]

LAST_CHECKPOINT = "model-last.pth.tar"
BEST_CHECKPOINT = "model-best.pth.tar"
SMALLER_BATCHES = "lower train.batch_size, or free memory on the device; model.resume auto goes on after the last epoch"


class ImageHHCLEngine(torchreid.engine.Engine):
    r"""Learns person re-identification from unlabelled images by hard-sample guided hybrid contrast.

    At the start of each epoch the engine extracts the features of all training images, clusters them into pseudo
    labels and rebuilds the memory; then it trains as torchreid's engines do. The true identities of the training images
    are never used, but for the columns ``ari`` and ``nmi`` of ``metrics.csv`` (and with ``labels="identities"``).

    Images are decoded once, resized with bicubic interpolation, and stay as bytes on the GPU or in RAM where they fit:
    training, extraction and tests read from there, so the engine needs nothing but the file lists of the data manager's
    loaders. A step never waits for the GPU: losses are looked at when they are printed, and at the end of an epoch.

    Processes that ``torchrun`` has started (:func:`~hhcl_torchreid.distributed.processes`) share the work: each takes a
    part of the extraction, the neighbour search and every batch. Labels, batches, augmentation, loss, memory and
    running statistics are those of one process: ``batch_size_train`` and ``bn_groups`` count the images of all
    processes together. The main process alone evaluates, prints and writes files.

    Reference:
        Hu, Zhu, He. Hard-sample Guided Hybrid Contrast Learning for Unsupervised Person Re-Identification. IC-NIDC
        2021. arXiv 2109.12333.

    Args:
        datamanager (DataManager): an instance of ``torchreid.data.ImageDataManager``; its ``batch_size_train`` is the
            batch, P * K.
        model (nn.Module): from ``hhcl_torchreid.build_model``.
        optimizer (Optimizer): an Optimizer.
        scheduler (LRScheduler, optional): stepped after every epoch. If None, the learning rate stays.
        use_gpu (bool, optional): use gpu. Default is True.
        labeler (PseudoLabeler, optional): turns features into pseudo labels. Default is ``PseudoLabeler(eps=0.45)``.
        mode (str, optional): memory mode, see ``HybridMemory``. Default is "hybrid".
        temperature (float, optional): divides the similarities. Default is 0.05.
        momentum (float, optional): what a memory row keeps of itself in an update. Default is 0.1.
        hard_weight (float, optional): weight of the hard term of the loss. Default is the mode's own.
        centroid_weight (float, optional): weight of the centroid term. Default is the mode's own.
        label_smoothing (float, optional): the authors' label smoothing. Default is 0.
        num_instances (int, optional): images per identity in a batch, K. Default is 16.
        iters (int, optional): optimiser steps per epoch. Default is 200.
        transforms (sequence of str, optional): augmentation, see ``BatchAugmentation``. Default is flip, pad and crop,
            erase.
        bn_groups (int, optional): parts of the batch that have batch-norm statistics of their own. Four give one GPU
            the result of the authors' four. In a run of several processes a multiple of their number. Default is 1.
        precise_bn (int, optional): batches of training images over which the running statistics of batch norm are
            estimated anew before the first epoch and after every one. Default is 0: running averages, as published.
        cache (str, optional): where decoded images stay: "gpu", "ram", "off", or "auto", which measures what is free,
            see ``hhcl_torchreid.data.store``. Default is "auto".
        amp (str, optional): arithmetic of the network: "off" (full float32, which also turns TF32 convolutions off in
            this process), "bf16", "fp16", or "auto", which takes what the processor has units for. Loss, memory and
            distances are float32 always. Default is "auto".
        labels (str, optional): "clusters", or "identities" to train with the true labels. Default is "clusters".
        seed (int, optional): seed of the batches, the augmentation and the memory. Default is 1.
        description (dict, optional): plain values to keep in every checkpoint, such as the configuration.

    Attributes:
        results (dict): the last test: data set -> ``mAP``, ``Rank-1``, ... as fractions.
        results_before (dict): likewise, of the test before training.
        rows (list of dict): the lines of ``metrics.csv``.
        labels (Tensor): (N,) int64 on the CPU, the pseudo labels of ``records``; -1 for outliers.
        records (list of tuple): torchreid's (path, pid, camid, dsetid) of the training images, sorted by path.

    Raises:
        InputError: settings that do not go together, a data manager that is not for images, or a model that is wrapped
            or not from ``build_model``.

    Examples::

        import torchreid
        from hhcl_torchreid import ImageHHCLEngine, build_model
        datamanager = torchreid.data.ImageDataManager(
            root='path/to/reid-data', sources='market1501', batch_size_train=256
        )
        model = build_model('resnet50').cuda()
        optimizer = torchreid.optim.build_optimizer(model, optim='adam', lr=0.00035)
        scheduler = torchreid.optim.build_lr_scheduler(optimizer, stepsize=20)
        engine = ImageHHCLEngine(datamanager, model, optimizer, scheduler=scheduler, bn_groups=4)
        engine.run(save_dir='log/hhcl-market1501', max_epoch=60, eval_freq=10)
    """

    model: Any
    train_loader: Any

    def __init__(
        self,
        datamanager: Any,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        use_gpu: bool = True,
        labeler: PseudoLabeler | None = None,
        mode: str = "hybrid",
        temperature: float = 0.05,
        momentum: float = 0.1,
        hard_weight: float | None = None,
        centroid_weight: float | None = None,
        label_smoothing: float = 0.0,
        num_instances: int = 16,
        iters: int = 200,
        transforms: Sequence[str] = ("random_flip", "random_pad_crop", "random_erase"),
        bn_groups: int = 1,
        precise_bn: int = 0,
        cache: str = "auto",
        amp: str = "auto",
        labels: str = "clusters",
        seed: int = 1,
        description: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(datamanager, use_gpu)
        if datamanager.data_type != "image":
            raise InputError(f"HHCL learns from images, not from data of type {datamanager.data_type!r}")
        if labels not in ("clusters", "identities"):
            raise InputError(f"engine.labels must be 'clusters' or 'identities', not {labels!r}")
        self.batch_size = self.train_loader.batch_size
        check_batch_size(self.batch_size, num_instances)
        if bn_groups < 1 or self.batch_size % bn_groups:
            raise InputError(f"train.bn_groups ({bn_groups}) must divide train.batch_size ({self.batch_size})")
        if bn_groups == self.batch_size:
            raise InputError(
                f"train.bn_groups ({bn_groups}) leaves groups of one image, which have no statistics: set it to "
                f"{self.batch_size // 2} or less"
            )
        if bn_groups % distributed.world_size():
            raise InputError(
                f"train.bn_groups ({bn_groups}) must be a multiple of the number of processes "
                f"({distributed.world_size()}), as each has batch-norm statistics of its own: set train.bn_groups "
                f"{distributed.world_size()}"
            )

        _check_model(model)
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.register_model("model", model, optimizer, scheduler)
        self.device = next(model.parameters()).device
        self.precision = choose_precision(amp, self.device)
        if self.precision == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # its convolutions would keep 10 bits of the mantissa's 23
        print(f"=> The network computes in {str(self.precision).removeprefix('torch.')} (train.amp {amp})")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)

        self.labeler = labeler or PseudoLabeler(eps=0.45)
        self.memory_settings: dict[str, Any] = {
            "mode": mode,
            "temperature": temperature,
            "momentum": momentum,
            "num_instances": num_instances,
            "hard_weight": hard_weight,
            "centroid_weight": centroid_weight,
            "label_smoothing": label_smoothing,
        }
        # Built here once so that wrong settings stop the run before its first epoch, not after the first extraction.
        self.memory = HybridMemory(1, 1, **self.memory_settings)
        self.num_instances = num_instances
        if iters < 1:
            raise InputError(f"engine.iters is {iters}: an epoch takes at least one step")
        self.iters = iters
        self.group_size = self.batch_size // bn_groups
        if precise_bn < 0:
            raise InputError(f"train.precise_bn is {precise_bn}: give a number of batches, or 0 for running averages")
        self.precise_bn = precise_bn
        self.use_identities = labels == "identities"
        self.seed = seed
        self.description = description or {}

        normalize = datamanager.transform_te.transforms[-1]
        self.mean, self.std = normalize.mean, normalize.std
        self.augmentation = BatchAugmentation(transforms, datamanager.height, datamanager.width, self.mean, self.std)
        # Sorted, because torchreid lists files in the order of the file system, which differs between machines.
        self.records = sorted(self.train_loader.dataset.data)
        self.cameras = np.array([camera for _, _, camera, _ in self.records])
        self.identities = np.array([identity for _, identity, _, _ in self.records])
        unlabelled = int((self.identities < 0).sum())
        if self.use_identities and unlabelled:
            raise InputError(f"{unlabelled} training images have no true label: set engine.labels to 'clusters'")
        self.store = self._make_store(self.records, cache, "training images")
        self.test_loader = {
            name: {
                split: self._make_test_batches(loader, cache, f"{split} images of {name}")
                for split, loader in loaders.items()
            }
            for name, loaders in datamanager.test_loader.items()
            if len(loaders["query"].dataset)
        }
        self.labels: Tensor | None = None
        self.rows: list[dict[str, Any]] = []
        self.best = -math.inf
        self.results: dict[str, dict[str, float]] = {}
        self.results_before: dict[str, dict[str, float]] = {}
        self.resumed = False
        self.epochs_done = 0
        self.save_dir = ""
        self.max_epoch = 0
        self.visrank_at_end = False

    def _make_store(self, records: Sequence[tuple[str, int, int, int]], cache: str, name: str) -> ImageStore:
        images = DecodedImages(records, self.datamanager.height, self.datamanager.width)
        return ImageStore(images, cache, self.datamanager.train_loader.num_workers, self.device, name)

    def _make_test_batches(self, loader: Any, cache: str, name: str) -> TestBatches:
        return TestBatches(self._make_store(loader.dataset.data, cache, name), loader.batch_size)

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
        dist_metric: str = "euclidean",
        normalize_feature: bool = False,
        visrank: bool = False,
        visrank_topk: int = 10,
        use_metric_cuhk03: bool = False,
        ranks: Sequence[int] = (1, 5, 10, 20),
        rerank: bool = False,
    ) -> None:
        r"""Torchreid's pipeline, which first tests the model as it is, so that there is a before and an after.

        The arguments are those of ``torchreid.engine.Engine.run``. Two mean a little more here: ``visrank`` can also be
        set for training, and then draws the rankings of the final test; ``eval_freq`` also says when the best
        checkpoint may change. ``save_dir`` receives ``metrics.csv``, ``curves.png``, ``clusters.png``, ``labels.csv``,
        TensorBoard's events, and ``model/model-last.pth.tar`` and ``model/model-best.pth.tar``.

        Raises:
            InputError: unreadable images, a folder that cannot be written, features without clusters, a loss that is
                not a number, too little memory. What was trained until then is in ``model/model-last.pth.tar``.
        """
        test_settings: dict[str, Any] = {
            "dist_metric": dist_metric,
            "normalize_feature": normalize_feature,
            "use_metric_cuhk03": use_metric_cuhk03,
            "ranks": ranks,
        }
        self.save_dir = save_dir
        distributed.from_main(self._check_folder)
        if test_only and not self.test_loader:
            raise InputError("there is nothing to test on: give data.targets a data set with query and gallery images")
        if not distributed.is_main():
            self.writer = _NoWriter()
        if test_only or (self.resumed and start_epoch >= max_epoch):
            self.test(visrank=visrank, visrank_topk=visrank_topk, save_dir=save_dir, rerank=rerank, **test_settings)
            return
        self.max_epoch, self.start_eval, self.eval_freq, self.visrank_at_end = max_epoch, start_eval, eval_freq, visrank
        self.start_epoch = self.epoch = self.epochs_done = start_epoch
        if not self.resumed:
            self._test_before(start_epoch, save_dir, test_settings)
            if start_epoch < max_epoch:
                # Finds out early whether there is room, and leaves something to resume from the first step on.
                self._save(LAST_CHECKPOINT)
        with libraries_writing(save_dir):
            super().run(
                save_dir=save_dir,
                max_epoch=max_epoch,
                start_epoch=start_epoch,
                print_freq=print_freq,
                fixbase_epoch=fixbase_epoch,
                open_layers=open_layers,
                start_eval=start_eval,
                eval_freq=eval_freq,
                visrank_topk=visrank_topk,
                **test_settings,
            )
        if distributed.is_main():
            self._write_pictures()

    def _check_folder(self) -> None:
        with writing(self.save_dir):
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.save_dir).close()

    def _test_before(self, start_epoch: int, save_dir: str, test_settings: dict[str, Any]) -> None:
        """Writes the first line of ``metrics.csv``: the model as it is."""
        row: dict[str, Any] = {"epoch": start_epoch}
        if self.test_loader:
            print("=> Test before training")
            with self._timed("seconds_evaluate", row):
                self.test(save_dir=save_dir, **test_settings)
        self._record({**row, **self._mean_results()})
        self.results_before = dict(self.results)

    def train(self, print_freq: int = 10, fixbase_epoch: int = 0, open_layers: str | list[str] | None = None) -> None:
        """One epoch: pseudo labels and a new memory, then torchreid's training loop over ``iters`` batches."""
        self._epoch_lr, self._print_freq = self.get_current_lr(), print_freq
        row: dict[str, Any] = {"epoch": self.epoch + 1, "lr": self._epoch_lr}
        if self.epoch == self.start_epoch and not self.resumed:
            self._estimate_statistics()
        batches = self._start_epoch(row)
        self._losses: list[float] = []
        self._unread_losses: list[Tensor] = []
        with self._timed("seconds_train", row), explain_out_of_memory("training", SMALLER_BATCHES):
            super().train(print_freq=print_freq, fixbase_epoch=fixbase_epoch, open_layers=open_layers)
            self._read_losses()
        distributed.broadcast_buffers(self.model)
        row["seconds_data"] = batches.seconds
        # A step can spoil the weights after its loss was fine; the last one's would go into the checkpoint unseen.
        if not torch.stack([torch.isfinite(weight).all() for weight in self.model.parameters()]).all():
            self._stop("weights that are no numbers", self.batch_idx + 1)
        self._estimate_statistics()
        row["loss"] = sum(self._losses) / len(self._losses)
        self.epochs_done = self.epoch + 1
        self._record(row)
        if not self._is_tested():
            self._save(LAST_CHECKPOINT)

    @explain_out_of_memory("the batch-norm statistics", SMALLER_BATCHES)
    def _estimate_statistics(self) -> None:
        """Gives the features of the next extraction and test batch-norm statistics of the weights as they are."""
        if self.precise_bn == 0:
            return
        order = torch.from_numpy(self._generator("statistics").permutation(len(self.store)))
        of_one_size = len(order) // self.batch_size or 1
        chosen = order.split(self.batch_size)[: min(self.precise_bn, of_one_size)]
        with self._autocast():
            batches = (normalize_images(images, self.mean, self.std) for images in self.store.batches(chosen))
            estimate_statistics(self.model, tqdm(batches, "batch-norm statistics", len(chosen), False, disable=None))

    def _start_epoch(self, row: dict[str, Any]) -> AugmentedBatches:
        """Extracts features, makes pseudo labels, rebuilds the memory and the batches."""
        if not distributed.is_main():
            # Only the main process's random states are saved, and dropout should differ between processes.
            torchreid.utils.set_random_seed(int(self._generator(f"rank {distributed.rank()}").integers(2**31)))
        with self._timed("seconds_extract", row):
            features = self.extract_training_features()
        with self._timed("seconds_label", row):
            self.labels = self._make_labels(features, row)
            num_clusters = int(self.labels.max()) + 1
            self.memory = HybridMemory(num_clusters, features.shape[1], **self.memory_settings).to(self.device)
            generator = torch.Generator().manual_seed(int(self._generator("memory").integers(2**62)))
            self.memory.rebuild(features, self.labels.to(features.device), generator)
        batches = AugmentedBatches(
            self.store,
            self.labels,
            CrossCameraBatchSampler(
                self.labels.numpy(),
                self.cameras,
                self.batch_size,
                self.num_instances,
                self.iters,
                self._generator("sampler"),
            ),
            self.augmentation,
            self._generator("augmentation"),
            self.group_size,
        )
        self.train_loader = tqdm(
            batches, desc=f"epoch {self.epoch + 1}", unit="it", total=len(batches), disable=None, leave=False
        )
        return batches

    def _generator(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each epoch and purpose: a resumed run draws what the whole run would have."""
        return np.random.default_rng([self.seed, self.epoch, *purpose.encode()])

    @torch.no_grad()
    @explain_out_of_memory("the features of the training images", SMALLER_BATCHES)
    def extract_training_features(self) -> Tensor:
        """Features of all training images, in the order of ``records``.

        Returns:
            (N, D) float32 unit rows on the model's device.

        Raises:
            InputError: unreadable images.
        """
        self.set_model_mode("eval")
        # In whole batches, so that a feature does not depend on the number of processes.
        of_ranks = distributed.parts(len(self.store), self.batch_size)
        own = of_ranks[distributed.rank()]
        features = [torch.empty(0, self.model.feature_dim, device=self.device)]
        total = own.stop - own.start
        with tqdm(total=total, desc="extract features", unit="img", disable=None, leave=False) as progress:
            for _, images in self.store.in_order(self.batch_size, own):
                features.append(self.extract_features(images))
                progress.update(len(images))
        return distributed.gather_rows(torch.cat(features), of_ranks)

    def _make_labels(self, features: Tensor, row: dict[str, Any]) -> Tensor:
        """Pseudo labels on the CPU; those of the epoch before where this one has no two clusters."""
        if self.use_identities:
            labels = torch.from_numpy(np.unique(self.identities, return_inverse=True)[1])
        else:
            labels = self.labeler(features).cpu()
            self._rate_model(features, labels)
            self._compare_with_truth(labels, row)
        sizes = torch.bincount(labels[labels >= 0])
        row["clusters"] = len(sizes)
        row["outliers"] = int((labels < 0).sum())
        row["largest_cluster"] = int(sizes.max()) if len(sizes) else 0
        print(
            f"=> Epoch {self.epoch + 1}: {row['clusters']} clusters, {row['outliers']} outliers of {len(labels)} "
            f"images, largest cluster {row['largest_cluster']}"
        )
        if len(sizes) >= 2:
            return labels
        return self._labels_of_last_epoch(len(sizes))

    def _compare_with_truth(self, labels: Tensor, row: dict[str, Any]) -> None:
        """Agreement with the true identities, of the images that have one."""
        # As the labels would be if every outlier were a cluster of its own.
        singles = np.where(labels < 0, np.arange(len(labels)) + len(labels), labels)
        known = self.identities >= 0
        if known.any():
            row["ari"] = float(adjusted_rand_score(self.identities[known], singles[known]))
            row["nmi"] = float(normalized_mutual_info_score(self.identities[known], singles[known]))

    def _rate_model(self, features: Tensor, labels: Tensor) -> None:
        """Completes the line of the epoch behind us by the label-free measure; where no test is, it names the best."""
        row = self.rows[-1]
        row["self_retrieval"] = measure = self_retrieval(features, labels, self.cameras)
        if self.writer is not None:
            self.writer.add_scalar("Labels/self_retrieval", measure, row["epoch"])
        if not self.test_loader and row["epoch"] > 0 and measure > self.best:
            self.best = measure
            self._save(BEST_CHECKPOINT)

    def _labels_of_last_epoch(self, num_clusters: int) -> Tensor:
        found, advice = ("no cluster", "raise") if num_clusters == 0 else ("a single cluster", "lower")
        last = self.rows[-1].get("clusters", 0) if self.rows else 0
        advice = f"{advice} cluster.eps (now {self.labeler.eps})"
        if self.labels is None or last < 2:
            raise InputError(f"epoch {self.epoch + 1} found {found} in {len(self.records)} images: {advice}")
        print(f"=> Epoch {self.epoch + 1} found {found} and goes on with the labels of the epoch before: {advice}")
        return self.labels

    def forward_backward(self, data: dict[str, Tensor]) -> dict[str, float] | None:
        """One optimiser step and one update of the memory, which a signal does not break off.

        Returns:
            The mean loss since the last time, where torchreid's loop prints it; else nothing, and the GPU works on.
        """
        images, labels = self.parse_data_for_train(data)
        of_ranks = distributed.parts(len(labels), self.group_size)
        with uninterrupted():
            with self._autocast():
                features = self._grouped_model(images)
            features = distributed.gather_features(features, of_ranks)
            loss = self.memory(features, labels)

            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.memory.update(features, labels)
            self._unread_losses.append(loss.detach())
        if (self.batch_idx + 1) % self._print_freq:
            return None
        losses = self._read_losses()
        return {"loss": sum(losses) / len(losses)}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def two_stepped_transfer_learning(
        self, epoch: int, fixbase_epoch: int, open_layers: str | list[str] | None, model: torch.nn.Module | None = None
    ) -> None:
        """Torchreid's choice of the layers that learn in this epoch."""
        super().two_stepped_transfer_learning(epoch, fixbase_epoch, open_layers, model)
        # Anew in every epoch: DistributedDataParallel counts on the weights that learn when it is made.
        self._grouped_model = distributed.data_parallel(InGroups(self.model, self.group_size))

    def _read_losses(self) -> list[float]:
        """The losses of the steps since the last call; here the CPU waits for the GPU.

        Raises:
            InputError: one of them is not a number.
        """
        losses = torch.stack(self._unread_losses).tolist() if self._unread_losses else []
        for iteration, loss in enumerate(losses, len(self._losses) + 1):
            if not math.isfinite(loss):
                self._stop(f"a loss of {loss}", iteration)
        self._losses += losses
        self._unread_losses.clear()
        return losses

    def _stop(self, found: str, iteration: int) -> NoReturn:
        raise InputError(
            f"training gave {found} at epoch {self.epoch + 1}, iteration {iteration}, learning rate "
            f"{self._epoch_lr:g}: lower train.lr; the last good checkpoint, of {self.epochs_done} epochs, is "
            f"{Path(self.save_dir, 'model', LAST_CHECKPOINT)}"
        )

    def extract_features(self, input: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 pixels, or float32 normalised ones -> (B, D) float32 features.

        In the precision of training: the memory starts from what the network gives there.
        """
        if input.dtype == torch.uint8:
            input = normalize_images(input, self.mean, self.std)
        with self._autocast():
            return self.model(input).float()

    def _is_tested(self) -> bool:
        """Whether torchreid's run tests the model after this epoch."""
        done = self.epoch + 1
        regular = done >= self.start_eval and self.eval_freq > 0 and done % self.eval_freq == 0
        return regular or done == self.max_epoch

    def test(self, visrank: bool = False, save_dir: str = "", **settings: Any) -> float:
        """Torchreid's test of all targets; see ``torchreid.engine.Engine.test``. 0 where there is none."""
        if not self.test_loader:
            print("No labelled query and gallery images to test on")
            return 0.0
        self._test_started = time.monotonic()
        training_has_ended = self.epoch + 1 == self.max_epoch and bool(self.rows)
        visrank = visrank or (training_has_ended and self.visrank_at_end)
        test = super().test
        rank1, self.results = distributed.from_main(
            lambda: (test(visrank=visrank, save_dir=save_dir, **settings), self.results)
        )
        return rank1

    @torch.no_grad()
    def _evaluate(
        self,
        dataset_name: str = "",
        query_loader: Any = None,
        gallery_loader: Any = None,
        dist_metric: str = "euclidean",
        normalize_feature: bool = False,
        visrank: bool = False,
        visrank_topk: int = 10,
        save_dir: str = "",
        use_metric_cuhk03: bool = False,
        ranks: Sequence[int] = (1, 5, 10, 20),
        rerank: bool = False,
    ) -> tuple[float, float]:
        """Torchreid's evaluation, which keeps the whole CMC curve and shows its progress."""
        query, query_identities, query_cameras = self._extract_test_set(query_loader, "query")
        gallery, gallery_identities, gallery_cameras = self._extract_test_set(gallery_loader, "gallery")
        if normalize_feature:
            query, gallery = (torch.nn.functional.normalize(features) for features in (query, gallery))
        if rerank:
            print("Applying person re-ranking ...")
            distances = re_ranking(query, gallery).numpy()
        else:
            distances = torchreid.metrics.compute_distance_matrix(query, gallery, dist_metric).numpy()
        cmc, mean_ap = evaluate_rank(
            distances,
            query_identities,
            gallery_identities,
            query_cameras,
            gallery_cameras,
            use_metric_cuhk03=use_metric_cuhk03,
        )
        shown = [rank for rank in sorted({1, *ranks}) if rank <= len(cmc)]
        self.results[dataset_name] = {"mAP": float(mean_ap), **{f"Rank-{r}": float(cmc[r - 1]) for r in shown}}
        print("** Results **")
        for measure, value in self.results[dataset_name].items():
            print(f"{measure:<8}: {value:.1%}")
        if visrank:
            torchreid.utils.visualize_ranked_results(
                distances,
                self.datamanager.fetch_test_loaders(dataset_name),
                self.datamanager.data_type,
                width=self.datamanager.width,
                height=self.datamanager.height,
                save_dir=osp.join(save_dir, "visrank_" + dataset_name),
                topk=visrank_topk,
            )
        return float(cmc[0]), float(mean_ap)

    @explain_out_of_memory("the features of query and gallery", "lower test.batch_size, or free memory on the device")
    def _extract_test_set(self, loader: TestBatches, split: str) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Features, identities and cameras of a query or gallery set, on the CPU."""
        features, identities, cameras = [], [], []
        for data in tqdm(loader, desc=f"extract {split} features", unit="batch", disable=None, leave=False):
            images, batch_identities, batch_cameras = self.parse_data_for_eval(data)
            features.append(self.extract_features(images))
            identities.append(batch_identities)
            cameras.append(batch_cameras)
        return torch.cat(features).cpu(), torch.cat(identities).numpy(), torch.cat(cameras).numpy()

    def _mean_results(self) -> dict[str, float]:
        """MAP and rank-1 of the last test, the mean over the target data sets."""
        results = self.results.values()
        if not results:
            return {}
        return {
            "mAP": sum(result["mAP"] for result in results) / len(results),
            "rank1": sum(result["Rank-1"] for result in results) / len(results),
        }

    def save_model(self, epoch: int, rank1: float, save_dir: str, is_best: bool = False) -> None:
        """Completes the epoch's line of ``metrics.csv`` after a test, and saves the last and the best checkpoint."""
        row = self.rows.pop()
        if self.test_loader:
            row["seconds_evaluate"] = time.monotonic() - self._test_started
        self._record({**row, **self._mean_results()})
        if epoch + 1 == self.max_epoch and not self.use_identities:
            self._rate_final_model()
        if distributed.is_main():
            reports.draw_curves(self.rows, Path(save_dir, "curves.png"))
        if self.test_loader:
            is_best = is_best or self.rows[-1]["mAP"] > self.best
            self.best = max(self.best, self.rows[-1]["mAP"])
        self._save(LAST_CHECKPOINT)
        if is_best:
            self._save(BEST_CHECKPOINT)

    def _rate_final_model(self) -> None:
        """Every other model is rated by the labels of the epoch after it."""
        features = self.extract_training_features()
        self._rate_model(features, self.labeler(features).cpu())
        if distributed.is_main():
            reports.write_metrics(self.rows, Path(self.save_dir, "metrics.csv"))

    def _save(self, name: str) -> None:
        if not distributed.is_main():
            return
        with uninterrupted():
            save_checkpoint(self.state_dict(), Path(self.save_dir, "model", name))

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`resume` needs; readable by ``torchreid.utils.resume_from_checkpoint`` too."""
        return {
            "state_dict": self.model.state_dict(),
            "epoch": self.rows[-1]["epoch"],
            "rank1": self.rows[-1].get("rank1", 0.0),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "scaler": self.scaler.state_dict(),
            "kinds": self._kinds(),
            "best": self.best,
            "results_before": self.results_before,
            "rows": self.rows,
            "labels": self.labels,
            "independence_limit": self.labeler.independence_limit,
            "random": random_states(),
            **self.description,
        }

    def _kinds(self) -> dict[str, str]:
        """What the states of optimiser and scheduler are of: others would take some of them without a word."""
        amsgrad = any(group.get("amsgrad") for group in self.optimizer.param_groups)
        return {
            "train.optim": type(self.optimizer).__name__ + (" with amsgrad" if amsgrad else ""),
            "train.lr_scheduler": type(self.scheduler).__name__,
        }

    def resume(self, path: str | Path) -> int:
        """Goes back to the end of the epoch that a checkpoint was saved after.

        Args:
            path: a ``model-last.pth.tar`` or ``model-best.pth.tar`` of an engine like this one.

        Returns:
            The epochs it has behind it: ``start_epoch`` of :meth:`run`.

        Raises:
            InputError: no such file, no checkpoint, or one of another model or optimiser.
        """
        checkpoint = distributed.from_main(lambda: load_checkpoint(path))
        missing = {"state_dict", "epoch", "optimizer", "rows", "random"} - checkpoint.keys()
        if missing:
            raise InputError(
                f"{path} holds no run to go on with ({', '.join(sorted(missing))} missing): start from its weights "
                "with model.load_weights instead"
            )
        for key, kind in checkpoint.get("kinds", {}).items():
            if kind != self._kinds()[key]:
                raise InputError(
                    f"{path} was trained with {kind}, not {self._kinds()[key]}: set {key} to what it was trained with, "
                    "or start from its weights with model.load_weights"
                )
        try:
            self.model.load_state_dict(checkpoint["state_dict"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{path} is a checkpoint of another model or optimiser than the configured one ({first}): set the "
                "model.* and train.optim that it was trained with"
            ) from None
        if self.scheduler is not None and checkpoint["scheduler"] is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        if checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])
        for name in ("rows", "labels", "best", "results_before"):
            setattr(self, name, checkpoint[name])
        if self.labels is not None and len(self.labels) != len(self.records):
            self.labels = None  # images have come or gone since; only an epoch without clusters would need them
        self.labeler.independence_limit = checkpoint["independence_limit"]
        restore_random_states(checkpoint["random"])
        self.resumed = True
        return int(checkpoint["epoch"])

    @contextmanager
    def _timed(self, column: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        started = time.monotonic()
        yield row
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        row[column] = time.monotonic() - started

    def _record(self, row: dict[str, Any]) -> None:
        """Adds a line to ``metrics.csv``."""
        self.rows.append(row)
        if not distributed.is_main():
            return
        reports.write_metrics(self.rows, Path(self.save_dir, "metrics.csv"))
        if self.labels is not None:
            reports.write_labels(self.records, self.labels, Path(self.save_dir, "labels.csv"))
        if self.writer is not None:
            for column in ("clusters", "outliers", "largest_cluster", "ari", "nmi"):
                if column in row:
                    self.writer.add_scalar(f"Labels/{column}", row[column], self.epoch)

    def _write_pictures(self) -> None:
        if self.labels is not None:
            reports.draw_clusters(self.store, self.labels, self.cameras, Path(self.save_dir, "clusters.png"))
        for name in self.test_loader:
            folder = Path(self.save_dir, "visrank_" + name)
            if folder.is_dir():
                reports.draw_rankings(folder, Path(self.save_dir, f"rankings_{name}.png"))


def _check_model(model: torch.nn.Module) -> None:
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        raise InputError(
            f"the model is wrapped in {type(model).__name__}: give the engine the model itself; torchrun trains on "
            "several GPUs, and bn_groups gives one the batch-norm statistics of several"
        )
    if type(model).__module__.startswith("torchreid.") or not hasattr(model, "feature_dim"):
        raise InputError(
            f"this {type(model).__name__} does not give unit feature vectors of a known length: build the model with "
            "hhcl_torchreid.build_model, which takes any of torchreid's names"
        )


class _NoWriter:
    """In place of TensorBoard's writer, where another process writes."""

    def add_scalar(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass
