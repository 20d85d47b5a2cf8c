"""Several runs side by side, read from the folders that they left: rows of a table, and curves in one picture."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ..config import load_config
from ..errors import InputError
from ..files import ordinary, replacing, visible
from .folder import RunFolder

__all__ = ["FinishedRun", "draw_runs", "read_run", "table_of_runs"]

COLUMNS = ("run", "trained on", "network", "epochs", "mAP before", "mAP", "rank-1", "clusters", "ARI", "minutes")
PANELS = (
    ("mAP", "mAP on the test set"),
    ("self_retrieval", "self-retrieval, without labels"),
    ("loss", "loss"),
    ("clusters", "clusters"),
    ("ari", "ARI of the pseudo labels"),
    ("outliers", "outliers"),
)
"""Column of ``metrics.csv`` -> title of its curves."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder tells.

    Attributes:
        name: the folder, as it was given.
        data: data sets that it was trained on, where its configuration is known.
        network: the backbone, likewise.
        lines: the lines of ``metrics.csv``, column to number; what was not measured is not there.
    """

    name: str
    data: str
    network: str
    lines: Sequence[Mapping[str, float]]

    def last(self, column: str) -> float | None:
        """The last value of a column; None where it was never measured."""
        return next((line[column] for line in reversed(self.lines) if column in line), None)

    @property
    def minutes(self) -> float:
        """Time of all phases; waiting for data is part of the training."""
        phases = ("seconds_extract", "seconds_label", "seconds_train", "seconds_evaluate")
        return sum(line.get(phase, 0.0) for line in self.lines for phase in phases) / 60


def read_run(path: str | os.PathLike[str]) -> FinishedRun:
    """Reads what a run left in its folder.

    Args:
        path: ``data.save_dir`` of the run.

    Raises:
        InputError: there is no ``metrics.csv``, or it is none.
    """
    folder = RunFolder(str(path))
    if not os.path.lexists(folder.metrics):
        raise InputError(
            f"{visible(str(path))} has no {folder.metrics.name}: give the folder of a run, its data.save_dir"
        )
    try:
        with open(folder.metrics, encoding="utf-8", newline="", opener=ordinary) as file:
            rows = csv.DictReader(file)
            lines = [{column: float(text) for column, text in row.items() if text} for row in rows]
    except (ValueError, TypeError, AttributeError, csv.Error, OSError) as error:
        raise InputError(f"cannot read {folder.metrics} ({error}): give the folder of a run") from None
    if not lines or any("epoch" not in line for line in lines):
        raise InputError(f"{folder.metrics} has no epochs: give the folder of a run that has begun")
    data = network = ""
    if os.path.lexists(folder.configuration):
        cfg = load_config(str(folder.configuration))
        data, network = ", ".join(cfg.data.sources), cfg.model.name
    return FinishedRun(str(path), data, network, lines)


def table_of_runs(runs: Sequence[FinishedRun]) -> str:
    """Lays runs out as a table in Markdown, a row each; a cell is empty where nothing was measured.

    Accuracies are in percent, of the last test.
    """
    rows = [COLUMNS, ("---", "---", "---", *("---:",) * (len(COLUMNS) - 3)), *map(_cells, runs)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(run: FinishedRun) -> tuple[str, ...]:
    first, clusters = run.lines[0], run.last("clusters")
    accuracies = (first.get("mAP") if first["epoch"] == 0 else None, run.last("mAP"), run.last("rank1"))
    return (
        visible(run.name).replace("|", "\\|"),
        run.data,
        run.network,
        f"{run.lines[-1]['epoch']:.0f}",
        *("" if accuracy is None else f"{accuracy:.1%}".rstrip("%") for accuracy in accuracies),
        "" if clusters is None else f"{clusters:.0f}",
        "" if (ari := run.last("ari")) is None else f"{ari:.3f}",
        f"{run.minutes:.1f}",
    )


def draw_runs(runs: Sequence[FinishedRun], path: str | os.PathLike[str]) -> None:
    """Draws the curves of several runs in one picture, a panel for each thing that any of them measured.

    Args:
        runs: from :func:`read_run`.
        path: the file, ``.png`` or ``.svg``.

    Raises:
        InputError: another ending, or it cannot be written.
    """
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in ("png", "svg"):
        raise InputError(f"{path} is no kind of picture that can be written: give a name that ends in .png or .svg")
    panels = [(column, title) for column, title in PANELS if any(column in line for run in runs for line in run.lines)]
    figure = Figure(figsize=(11, 3.25 * -(-len(panels) // 2)), layout="constrained")
    for position, (column, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, position)
        for run in runs:
            points = [(line["epoch"], line[column]) for line in run.lines if column in line]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=visible(run.name))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path, "wb", option="--plot") as file:
        figure.savefig(file, dpi=110, format=ending)
