"""What is measured epoch by epoch: the lines of ``metrics.csv``, and which epoch was best."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from .. import distributed
from ..files import replacing, writing
from .folder import RunFolder

__all__ = ["METRIC_COLUMNS", "History", "make_writer"]

METRIC_COLUMNS = (
    "epoch",
    "loss",
    "lr",
    "clusters",
    "outliers",
    "largest_cluster",
    "one_camera",
    "ari",
    "nmi",
    "self_retrieval",
    "track_separation",
    "mAP",
    "rank1",
    "seconds_extract",
    "seconds_label",
    "seconds_train",
    "seconds_data",
    "seconds_evaluate",
)
NEED_MORE_THAN_IMAGES = ("one_camera", "ari", "nmi", "track_separation", "mAP", "rank1", "seconds_evaluate")
IN_TENSORBOARD = (
    *("clusters", "outliers", "largest_cluster", "one_camera", "ari", "nmi"),
    *("self_retrieval", "track_separation"),
)


class History:
    """One line per epoch; epoch 0 is the untrained model.

    An epoch's line stands when the epoch has been trained, and is completed by the test after it and by the labels of
    the next epoch, which judge the same weights.

    Attributes:
        lines (list of dict): from ``METRIC_COLUMNS`` to numbers, of the epochs that are over.
        current (dict): likewise, of the epoch that is being trained.
        best (float): the highest mAP, or where nothing is tested the highest ``track_separation``, without tracks
            ``self_retrieval``.
        results_before (dict): the test before training: data set -> measure -> fraction.
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.current: dict[str, Any] = {}
        self.best = -math.inf
        self.results_before: dict[str, dict[str, float]] = {}

    @property
    def last(self) -> dict[str, Any]:
        """The line of the epoch behind us."""
        return self.lines[-1]

    @property
    def had_clusters(self) -> bool:
        """Whether the epoch behind us found clusters to train on."""
        return bool(self.lines) and self.last.get("clusters", 0) >= 2

    def begin(self, epoch: int, **measured: Any) -> None:
        """Starts the line of an epoch."""
        self.current = {"epoch": epoch, **measured}

    def end(self) -> None:
        """Puts the line of the epoch below the others."""
        self.lines.append(self.current)

    def improves(self, measure: float) -> bool:
        """Whether a measure of the epoch behind us is the best so far, which it then becomes."""
        is_better = measure > self.best
        self.best = max(self.best, measure)
        return is_better

    def mean_results(self, results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """MAP and rank-1, the mean over the data sets of a test."""
        if not results:
            return {}
        return {
            column: sum(result[measure] for result in results.values()) / len(results)
            for column, measure in (("mAP", "mAP"), ("rank1", "Rank-1"))
        }

    @distributed.main_only
    def write(self, folder: RunFolder, writer: Any = None) -> None:
        """Writes ``metrics.csv``, and what the last line has of the labels to TensorBoard.

        Args:
            folder: of the run.
            writer: TensorBoard's, if there is one.

        Raises:
            InputError: it cannot be written.
        """
        with writing(folder.metrics):
            folder.path.stat()  # one that has vanished is not to be made anew, without the run's other files
        with replacing(folder.metrics) as file:
            file.write(_table(self.lines))
        if writer is not None:
            for column in IN_TENSORBOARD:
                if column in self.last:
                    writer.add_scalar(f"Labels/{column}", self.last[column], self.last["epoch"])


def make_writer(folder: RunFolder) -> Any:
    """TensorBoard's writer; one that writes nothing where another process does."""
    return SummaryWriter(log_dir=str(folder)) if distributed.is_main() else _NoWriter()


class _NoWriter:
    def add_scalar(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


def _table(lines: Sequence[Mapping[str, Any]]) -> str:
    """CSV in which what was not measured stays empty, without columns whose labels or cameras there never were."""
    text = io.StringIO()
    columns = [
        name for name in METRIC_COLUMNS if name not in NEED_MORE_THAN_IMAGES or any(name in line for line in lines)
    ]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
