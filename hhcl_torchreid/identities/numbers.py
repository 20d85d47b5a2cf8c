"""Numbers that stay: an identity found again keeps the number that it had, and a number is given once for ever."""

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..features.saved import open_arrays
from ..files import as_in_tables, csv_text, ordinary, replacing, text_in, visible, writing
from .assignment import OUTLIER

__all__ = [
    "Change",
    "Earlier",
    "find_changes",
    "keep_numbers",
    "load_earlier",
    "load_names",
    "table_of_changes",
    "write_changes",
]

UNKNOWN = -2
"""The earlier identity of an image that is new."""
COLUMNS = ("change", "identity", "other", "images")
LARGEST = 2**53
"""What the number of an identity is below."""
OPTION = "the folder of the results"

Key = TypeVar("Key")
Value = TypeVar("Value")


class Earlier(NamedTuple):
    """What an earlier assignment has found."""

    identity: dict[str, int]
    """Path of an image, as tables can write it -> its identity, or -1."""
    next_identity: int
    """The lowest number that was never given."""
    camera: Mapping[str, str]
    """Likewise -> the name of its camera, as tables can write it."""

    def knows_any(self, paths: Sequence[str]) -> bool:
        """Whether it is of the folder that images are in."""
        return bool((self.of(paths) != UNKNOWN).any())

    def of(self, paths: Sequence[str]) -> np.ndarray:
        """(N,) int64, the identities that images had; -1 for outliers, -2 for new images."""
        return np.array([self.identity.get(as_in_tables(path), UNKNOWN) for path in paths], np.int64)

    def cameras_of(self, paths: Sequence[str]) -> np.ndarray:
        """(N,) names of cameras, as tables can write them; empty for new images."""
        return np.array([self.camera.get(as_in_tables(path), "") for path in paths], object)


class Change(NamedTuple):
    """What became of an identity since the earlier assignment."""

    change: str
    """``merged`` (into ``other``, most of it), ``split`` (off ``other``), ``appeared`` or ``vanished``."""
    identity: int
    other: int
    """-1 where there is none."""
    images: int
    """Of the identity; of one that merged, those that ``other`` has now."""


def load_earlier(folder: str | Path) -> Earlier | None:
    """Reads which identities images had, from the ``identities.csv`` of an earlier assignment.

    Args:
        folder: of its results.

    Returns:
        The identities; None where there is no such table.

    Raises:
        InputError: there is one that cannot be read.
    """
    path = Path(folder, "identities.csv")
    if not os.path.lexists(path):
        return None
    try:
        with open(path, encoding="utf-8", newline="", opener=ordinary) as file:
            rows = _mapping((PurePosixPath(row["path"]).as_posix(), row) for row in csv.DictReader(file, strict=True))
        identity = {path: OUTLIER if row["identity"] == "outlier" else _number_in(row) for path, row in rows.items()}
        camera = {path: text_in(row.get("camera") or "") for path, row in rows.items()}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no table of identities that this program wrote ({_reason(error)}), so numbers cannot be "
            "kept: move it away, or choose another folder of results"
        ) from error
    next_identity = max(identity.values(), default=OUTLIER) + 1
    # The table is enough where the file is gone, or of an earlier version.
    with contextlib.suppress(InputError), open_arrays(Path(folder, "features.npz")) as arrays:
        next_identity = max(next_identity, int(arrays["next_identity"]))
    return Earlier(identity, next_identity, camera)


def load_names(folder: str | Path) -> dict[int, str]:
    """Reads what people call identities, from the ``names.csv`` of an assignment; nobody has a name without one.

    Args:
        folder: of its results.

    Raises:
        InputError: there is a table that cannot be read.
    """
    path = Path(folder, "names.csv")
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding="utf-8", newline="", opener=ordinary) as file:
            return _mapping((_number_in(row), _name_in(row)) for row in csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no table of names that this program wrote ({_reason(error)}): move it away"
        ) from error


def _mapping(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, Value]:
    """The pairs; of a key that is given twice, nobody knows which value is meant."""
    found: dict[Key, Value] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"{key} twice")
    return found


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {visible(str(error))[:80]}"


def _number_in(row: Mapping[str, str]) -> int:
    number = int(row["identity"])
    if not 0 <= number < LARGEST:
        raise ValueError(f"identity {number}")
    return number


def _name_in(row: Mapping[str, str | None]) -> str:
    if (name := row["name"]) is None:
        raise ValueError("a row without a name")
    return text_in(name)


def keep_numbers(labels: Tensor, before: np.ndarray, next_identity: int) -> tuple[Tensor, int]:
    """Gives each cluster the number of the earlier identity with which it has most images in common, each used once.

    The largest overlap of all decides first. Clusters that are left get numbers that were never given.

    Args:
        labels: ``(N,)`` int64 clusters, -1 for outliers.
        before: ``(N,)`` int64, the identities that the images had; negative where they had none.
        next_identity: the lowest number that was never given.

    Returns:
        ``(N,)`` int64 numbers, and the next number to be given.

    Example:
        >>> keep_numbers(torch.tensor([0, 0, 1, 1, 1, -1]), np.array([7, 7, 7, -1, -2, 3]), 9)
        (tensor([ 7,  7,  9,  9,  9, -1]), 10)
    """
    clusters = labels.cpu().numpy()
    both = Counter(zip(clusters.tolist(), before.tolist(), strict=True))
    overlaps = {pair: images for pair, images in both.items() if min(pair) > OUTLIER}
    number: dict[int, int] = {}
    taken = set()
    for cluster, old in sorted(overlaps, key=lambda pair: (-overlaps[pair], pair[1], pair[0])):
        if cluster not in number and old not in taken:
            number[cluster] = old
            taken.add(old)
    for cluster in np.unique(clusters[clusters != OUTLIER]).tolist():
        if cluster not in number:
            number[cluster] = next_identity
            next_identity += 1
    numbers = np.array([number.get(cluster, OUTLIER) for cluster in clusters.tolist()], np.int64)
    return torch.from_numpy(numbers), next_identity


def find_changes(numbers: np.ndarray, before: np.ndarray, sizes_before: Mapping[int, int]) -> list[Change]:
    """Tells what has become of identities: those that gave most of their images to another, and those of many from one.

    Args:
        numbers: ``(N,)`` int64 identities, -1 for outliers.
        before: ``(N,)`` int64, the identities that the images had; negative where they had none.
        sizes_before: images of each earlier identity, also of those that are gone.

    Returns:
        The changes, first of earlier identities, then of new ones.
    """
    sizes = Counter(numbers.tolist())
    both = Counter(zip(numbers.tolist(), before.tolist(), strict=True))
    went: dict[int, tuple[int, int]] = {}
    came: dict[int, tuple[int, int]] = {}
    for (new, old), images in sorted(both.items()):
        if min(new, old) > OUTLIER:
            went[old] = max(went.get(old, (0, OUTLIER)), (images, new))
            came[new] = max(came.get(new, (0, OUTLIER)), (images, old))
    found = []
    for old in sorted(sizes_before.keys() - sizes.keys() - {OUTLIER, UNKNOWN}):
        images, new = went.get(old, (0, OUTLIER))
        is_merged = images > 0
        found.append(
            Change("merged" if is_merged else "vanished", old, new, images if is_merged else sizes_before[old])
        )
    for new in sorted(sizes.keys() - sizes_before.keys() - {OUTLIER}):
        images, old = came.get(new, (0, OUTLIER))
        is_split = 2 * images >= sizes[new]
        found.append(Change("split" if is_split else "appeared", new, old if is_split else OUTLIER, sizes[new]))
    return found


def table_of_changes(changes: Sequence[Change], most: int = 10) -> str:
    """Lays out what has changed, a kind a line.

    Args:
        changes: at least one.
        most: how many of a kind are named.
    """
    lines = []
    for kind, word in (("merged", "into"), ("split", "off"), ("appeared", ""), ("vanished", "")):
        some = [change for change in changes if change.change == kind]
        named = [f"{change.identity} {word} {change.other}" if word else f"{change.identity}" for change in some[:most]]
        more = [f"... ({len(some)} in all)"] if len(some) > most else []
        lines += [f"{kind:>8}: {', '.join(named + more)}"] if some else []
    return "\n".join(lines)


def write_changes(path: str | Path, changes: Sequence[Change], is_first: bool) -> None:
    """Writes a line per identity that has changed: ``change, identity, other, images``; a first assignment no file.

    Args:
        path: the CSV file.
        changes: none is a table without lines.
        is_first: there was no earlier assignment.

    Raises:
        InputError: it cannot be written.
    """
    if is_first:
        with writing(path, option=OPTION):
            Path(path).unlink(missing_ok=True)
        return
    rows = [(*change[:2], "" if change.other == OUTLIER else change.other, change.images) for change in changes]
    with replacing(path, option=OPTION) as file:
        file.write(csv_text(COLUMNS, rows))
