"""What a run leaves to look at: tables, curves, and pictures of clusters and rankings."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as image_functional
from torchvision.utils import make_grid

from ..data.screening import LeftOut
from ..data.store import ImageStore
from ..distributed import main_only
from ..files import csv_text, replacing
from ..memory import HybridMemory
from .folder import RunFolder

__all__ = [
    "comparison_table",
    "draw_clusters",
    "draw_curves",
    "draw_rankings",
    "draw_run",
    "tell_of_cameras",
    "write_labels",
    "write_left_out",
]

logger = logging.getLogger(__name__)


@main_only
def write_labels(records: Sequence[tuple[str, int, int, int]], labels: Tensor, path: str | Path) -> None:
    """Writes image, camera and pseudo label (-1: outlier) of every training image.

    Args:
        records: torchreid's (path, pid, camid, dsetid).
        labels: (N,) int64.
        path: the CSV file.

    Raises:
        InputError: it cannot be written.
    """
    rows = [(Path(image), camera, label) for (image, _, camera, _), label in zip(records, labels.tolist(), strict=True)]
    with replacing(path) as file:
        file.write(csv_text(("image", "camera", "label"), rows))


@main_only
def write_left_out(left_out: Sequence[LeftOut], path: str | Path) -> None:
    """Writes the images that are not used, and why.

    Args:
        left_out: from :func:`hhcl_torchreid.data.screening.screen_images`.
        path: the CSV file.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(csv_text(("image", "reason"), [(image.path, image.reason) for image in left_out]))


@main_only
def draw_curves(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draws what was measured over the epochs, if anything: accuracy, loss, clusters, and the quality of labels.

    Args:
        rows: lines of a :class:`~hhcl_torchreid.training.history.History`.
        path: the PNG file.

    Raises:
        InputError: it cannot be written.
    """
    from matplotlib.figure import Figure  # takes a second, for which tools that draw nothing need not wait

    panels = (
        ("accuracy on the test set", ("mAP", "rank1")),
        ("loss", ("loss",)),
        ("pseudo labels", ("clusters", "outliers", "largest_cluster")),
        ("pseudo labels against the truth", ("ari", "nmi")),
        ("without any label", ("self_retrieval", "one_camera")),
    )
    measured = [panel for panel in panels if any(row.get(column) is not None for row in rows for column in panel[1])]
    if not measured:
        return
    num_rows = -(-len(measured) // 2)
    height = 3.25 * num_rows
    figure = Figure(figsize=(11, height))
    # A layout that matplotlib fits to the labels would take longer than all else here.
    figure.subplots_adjust(0.06, 0.5 / height, 0.99, 1 - 0.35 / height, wspace=0.12, hspace=0.35)
    for position, (title, columns) in enumerate(measured, start=1):
        axes = figure.add_subplot(num_rows, 2, position)
        for column in columns:
            points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=column.replace("_", " "))
        axes.set_title(title, y=1.0)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
        if {"mAP", "ari", "self_retrieval"} & set(columns):
            axes.set_ylim(0, 1)
    with replacing(path, "wb") as file:
        figure.savefig(file, dpi=110, format="png")


def draw_clusters(
    store: ImageStore, labels: Tensor, cameras: np.ndarray, path: str | Path, rows: int = 12, columns: int = 12
) -> None:
    """Draws a sheet of clusters, one a row, from the largest down; a row goes through its cameras in turn.

    Args:
        store: the N images.
        labels: (N,) int64, -1 for outliers.
        cameras: (N,) int.
        path: the PNG file.
        rows: clusters shown.
        columns: images of each shown.

    Raises:
        InputError: it cannot be written.
    """
    shown = []
    for cluster in torch.bincount(labels[labels >= 0]).argsort(descending=True, stable=True)[:rows]:
        members = torch.nonzero(labels == cluster).flatten().tolist()
        shown.append(_alternate(members, cameras)[:columns])
    if shown:
        tiles: list[Tensor] = []
        for images in store.batches(shown):
            blank = images.new_full((columns - len(images), *images.shape[1:]), 255)
            tiles += torch.cat([images, blank]).cpu()
        sheet = make_grid(tiles, nrow=columns, padding=4, pad_value=255)
        with replacing(path, "wb") as file:
            image_functional.to_pil_image(sheet).save(file, format="png")


def _alternate(members: Sequence[int], cameras: np.ndarray) -> list[int]:
    """Orders images so that the first ones of each camera come before the second ones."""
    seen: dict[int, int] = {}
    turn = {}
    for image in members:
        turn[image] = seen[cameras[image]] = seen.get(cameras[image], 0) + 1
    return sorted(members, key=lambda image: (turn[image], cameras[image]))


def draw_rankings(folder: str | Path, path: str | Path, rows: int = 8) -> bool:
    """Puts some of torchreid's ranking pictures on one sheet.

    Args:
        folder: what ``visualize_ranked_results`` wrote, one JPEG per query.
        path: the PNG file.
        rows: pictures taken, evenly spaced over the queries.

    Returns:
        Whether there was any picture.

    Raises:
        InputError: it cannot be written.
    """
    pictures = sorted(Path(folder).glob("*.jpg"))
    if not pictures:
        return False
    chosen = [pictures[i] for i in sorted(set(np.linspace(0, len(pictures) - 1, rows).astype(int)))]
    images = [Image.open(picture).convert("RGB") for picture in chosen]
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    with replacing(path, "wb") as file:
        sheet.save(file, format="png")
    return True


@main_only
def draw_run(
    folder: RunFolder, store: ImageStore, labels: Tensor | None, cameras: np.ndarray, test_sets: Iterable[str]
) -> None:
    """Draws what a whole run leaves: clusters and rankings.

    Args:
        folder: of the run.
        store: the N training images.
        labels: (N,) int64, -1 for outliers; None where nothing was labelled.
        cameras: (N,) int.
        test_sets: names of the data sets that were tested.

    Raises:
        InputError: a picture cannot be written.
    """
    if labels is not None:
        draw_clusters(store, labels, cameras, folder.clusters)
    for name in test_sets:
        if folder.visrank(name).is_dir():
            draw_rankings(folder.visrank(name), folder.rankings(name))


def tell_of_cameras(cameras: Tensor, memory: HybridMemory, camera_bn: int) -> None:
    """Says once that what listens to cameras has nothing to do where there are no two.

    Args:
        cameras: (N,) int64 of the training images.
        memory: as the run will build it.
        camera_bn: as the engine has it.
    """
    if (memory.needs_cameras or camera_bn) and len(torch.unique(cameras)) < 2:
        logger.warning(
            "=> All training images are of one camera, or of unknown ones: hhcl.camera_*, harmonic and "
            "train.camera_bn have no effect"
        )


def comparison_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """Lays out results side by side.

    Args:
        columns: title -> {measure -> fraction}, as in ``{"before": {"mAP": 0.42}, "after": {"mAP": 0.71}}``.

    Returns:
        A plain text table in percent, one measure a line.
    """
    measures = list(dict.fromkeys(measure for results in columns.values() for measure in results))
    lines = [" " * 8 + "".join(f"{title:>10}" for title in columns)]
    for measure in measures:
        cells = (f"{results[measure]:>10.1%}" if measure in results else " " * 10 for results in columns.values())
        lines.append(f"{measure:<8}" + "".join(cells))
    return "\n".join(lines)
