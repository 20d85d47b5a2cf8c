"""What torchreid's data sets hand over: whether it can be used, and which files beside it they have not read."""

import logging
import operator
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..files import visible
from .datasets import FolderOfCrops
from .folder import OTHER_SUFFIXES, SUFFIXES

__all__ = ["check_records", "tell_of_unread_files", "unread_files"]

logger = logging.getLogger(__name__)


def check_records(datamanager: Any) -> None:
    """Checks that paths are text, and identities, cameras and data sets whole numbers.

    Args:
        datamanager: of torchreid; its training images and those of all test sets are looked at.

    Raises:
        InputError: of the first record that is not so, and of an image of two sources, whose identity they would not
            share.
    """
    for name, records in _lists_of(datamanager):
        for record in records:
            if len(record) != 4 or not isinstance(record[0], str):
                raise InputError(f"{name} holds {record!r}: a record is (path, identity, camera), the path as text")
            for kind, value in zip(("identity", "camera", "data set"), record[1:], strict=True):
                try:
                    number = operator.index(value)
                except TypeError:
                    raise InputError(
                        f"{name} gives {visible(record[0])} the {kind} {value!r} ({type(value).__name__}): number "
                        "identities and cameras in its class, 0, 1, ..."
                    ) from None
                if not -(2**63) <= number < 2**63:
                    raise InputError(
                        f"{name} gives {visible(record[0])} a number of more than 18 digits as {kind}: count "
                        "identities and cameras from 0"
                    )
    _check_in_one_source(datamanager)


def _check_in_one_source(datamanager: Any) -> None:
    source_of: dict[str, int] = {}
    for path, _, _, source in datamanager.train_loader.dataset.data:
        if source_of.setdefault(path, source) != source:
            raise InputError(
                f"{visible(path)} is of two of the data sets {', '.join(datamanager.sources)}, as two people at two "
                "cameras: leave one out of data.sources"
            )


def _lists_of(datamanager: Any) -> list[tuple[str, Sequence[Any]]]:
    lists = [(f"data set {' + '.join(datamanager.sources)}", datamanager.train_loader.dataset.data)]
    for name, loaders in datamanager.test_loader.items():
        lists += [(f"the {split} of data set {name}", loader.dataset.data) for split, loader in loaders.items()]
    return lists


def tell_of_unread_files(datamanager: Any) -> None:
    """Says of each folder that images come from how many others in it, or in folders of it, were not read, and why."""
    lists = _lists_of(datamanager)
    folders_read = {os.path.dirname(path) for _, records in lists for path, *_ in records}
    for name, records in lists:
        for folder in sorted({os.path.dirname(path) for path, *_ in records}):
            for deeper, count in _images_in_folders(folder, folders_read):
                logger.warning(
                    f"=> {name}: {count} image file(s) in {visible(deeper)} are not read, because only "
                    f"{visible(folder)} itself is looked in: move them there, or elsewhere"
                )
        for folder, (count, read, unread) in unread_files(path for path, *_ in records).items():
            endings = ", ".join(repr(ending) if " " in ending else ending for ending in unread)
            logger.warning(
                f"=> {name}: {count} image file(s) in {visible(folder)} are not read, because they end in "
                f"{endings} and only {', '.join(read)} is looked for: rename or convert them"
            )


def _images_in_folders(folder: str, folders_read: Collection[str]) -> Iterator[tuple[str, int]]:
    """Each folder in a folder that nothing was read from, and how many files in it are named like images."""
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        deeper = sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for place in deeper:
        if place not in folders_read and not any(other.startswith(f"{place}{os.sep}") for other in folders_read):
            count = sum(_ending(name).lower().strip() in SUFFIXES + OTHER_SUFFIXES for name in os.listdir(place))
            if count:
                yield place, count


def _ending(name: str) -> str:
    """What a file's name ends with, a space behind it included."""
    return os.path.splitext(name)[1]


def unread_files(paths: Iterable[str]) -> Mapping[str, tuple[int, list[str], list[str]]]:
    """Finds files that are named like images, beside others of which none ends like them.

    Args:
        paths: of the images that are read.

    Returns:
        Folder -> their number, what the names of the read ones end with, and what theirs do.
    """
    endings: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        endings.setdefault(folder, set()).add(os.path.splitext(name)[1])
    known = {str(image.path) for image in FolderOfCrops.left_out}
    found = {}
    for folder, read in endings.items():
        if os.path.isdir(folder):
            names = [name for name in os.listdir(folder) if os.path.join(folder, name) not in known]
            counts = Counter(_ending(name) for name in names if not name.startswith("."))
            unread = {
                e: n for e, n in counts.items() if e.lower().strip() in SUFFIXES + OTHER_SUFFIXES and e not in read
            }
            if unread:
                found[folder] = sum(unread.values()), sorted(read), sorted(unread)
    return found
