"""What people say of the identities that a model has found: one answer a row, in ``corrections.csv``."""

import csv
import os
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import InputError
from ..files import as_in_tables, csv_text, ordinary, replacing, text_in, visible

__all__ = [
    "ANSWERS",
    "CORRECTIONS",
    "Correction",
    "corrections_in",
    "latest",
    "on_paths",
    "read_corrections",
    "still_there",
    "table_of_corrections",
    "write_corrections",
]

CORRECTIONS = "corrections.csv"
COLUMNS = ("answer", "path", "other", "name")
PAIRS = ("same", "different")
ANSWERS = (*PAIRS, "nobody", "name")
SEMICOLONS = ("answer;", '"answer";')
WAY_OUT = "give the corrections.csv that the page of identities saves"


class Correction(NamedTuple):
    """An answer about one image or two."""

    answer: str
    """``same`` and ``different`` (of ``path`` and ``other``), ``nobody`` (is on ``path``), or ``name`` (of the identity
    that holds ``path``)."""
    path: str
    """Relative to the folder of the images, with ``/`` between folders."""
    other: str = ""
    name: str = ""
    """Empty takes a name away."""
    row: str = ""
    """Where it stands, for messages."""


def read_corrections(path: str | os.PathLike[str]) -> list[Correction]:
    """Reads a table in UTF-8, with any line ends, with or without a byte order mark, with commas or semicolons.

    Args:
        path: the CSV file, with the columns ``answer``, ``path``, ``other`` and ``name``.

    Returns:
        Its rows, in their order.

    Raises:
        InputError: no such file, another encoding or other columns, or a row that is no answer.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="", opener=ordinary) as file:
            return corrections_in(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def corrections_in(lines: Iterable[str], source: str | os.PathLike[str]) -> list[Correction]:
    """Reads the lines of such a table.

    Args:
        lines: with their ends.
        source: what messages call it.

    Raises:
        InputError: other columns, or a row that is no answer.
    """
    try:
        lines = iter(lines)
        first = next(lines, "")
        rows = csv.reader(chain([first], lines), delimiter=";" if first.startswith(SEMICOLONS) else ",", strict=True)
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise InputError(
                f"{source} begins with {visible(','.join(header))[:80]!r} and not with {','.join(COLUMNS)}: {WAY_OUT}"
            )
        return [_correction(row, f"{source}, line {rows.line_num}") for row in rows if row]
    except csv.Error as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str | os.PathLike[str], error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or (error if isinstance(error, csv.Error) else type(error).__name__)
    return InputError(f"cannot read {source} as a table in UTF-8 ({reason}): {WAY_OUT}")


def _correction(cells: Sequence[str], row: str) -> Correction:
    if len(cells) != len(COLUMNS):
        raise InputError(f"{row} has {len(cells)} cells: give {', '.join(COLUMNS)}, those that do not apply empty")
    answer, path, other, name = cells
    if answer not in ANSWERS:
        raise InputError(f"{row} has the answer {visible(answer)[:40]!r}: give one of {', '.join(ANSWERS)}")
    if not path or bool(other) != (answer in PAIRS) or (name and answer != "name"):
        needs = "path and other" if answer in PAIRS else "path" + " and a name" * (answer == "name")
        raise InputError(f"{row} is no answer {answer!r}: give {needs}, and leave the other cells empty")
    path, other = (PurePosixPath(text).as_posix() if text else "" for text in (path, other))
    if path == other:
        raise InputError(f"{row} compares {visible(path)!r} with itself: name two images")
    return Correction(answer, path, other, text_in(name), row)


def write_corrections(path: str | os.PathLike[str], corrections: Sequence[Correction]) -> None:
    """Writes answers as :func:`read_corrections` reads them.

    Args:
        path: the CSV file.
        corrections: in the order in which they were given.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path, option="the folder of the results") as file:
        file.write(table_of_corrections(corrections))


def table_of_corrections(corrections: Sequence[Correction]) -> str:
    """Gives the text of a file of answers, in the order in which they were given."""
    rows = (
        (given.answer, *(PurePosixPath(text) if text else "" for text in (given.path, given.other)), given.name)
        for given in corrections
    )
    return csv_text(COLUMNS, rows)


def latest(corrections: Sequence[Correction]) -> list[Correction]:
    """Keeps of the answers those that no later one replaces, in their order.

    A pair, and a name, is as its last answer says. An image shows nobody until a later answer joins or names it, and
    one that shows nobody is joined with none by the answers before.

    Example:
        >>> given = [Correction("same", "a", "b"), Correction("different", "b", "a"), Correction("nobody", "c")]
        >>> [correction.answer for correction in latest(given)]
        ['different', 'nobody']
    """
    kept: dict[tuple[str, ...], Correction] = {}
    for given in corrections:
        images = {given.path, given.other}
        replaced = [("pair", *sorted(images))] if given.answer in PAIRS else [(given.answer, given.path)]
        if given.answer == "nobody":
            replaced += [key for key, before in kept.items() if before.answer == "same" and images & set(before[1:3])]
        elif given.answer != "different":
            replaced += [("nobody", image) for image in images]
        for key in replaced:
            kept.pop(key, None)
        kept[replaced[0]] = given
    return list(kept.values())


def still_there(
    corrections: Sequence[Correction], paths: Collection[str], root: str | os.PathLike[str]
) -> list[Correction]:
    """Keeps the answers about images that are there; arguments as for :func:`on_paths`, which refuses the others."""
    written = set(map(as_in_tables, paths))
    return [
        given
        for given in corrections
        if all(image in written or _is_file(root, image) for image in (given.path, given.other) if image)
    ]


def on_paths(
    corrections: Sequence[Correction], paths: Collection[str], root: str | os.PathLike[str]
) -> list[Correction]:
    """Gives the answers with their images named as the folder's are, which tables cannot always write.

    Args:
        corrections: the answers.
        paths: of the folder's images.
        root: the folder; images may be in it that are not among ``paths``, as those that training leaves out.

    Raises:
        InputError: an image that is not there.
    """
    written = {as_in_tables(path): path for path in paths}
    found = [
        given._replace(path=written.get(given.path, given.path), other=written.get(given.other, given.other))
        for given in corrections
    ]
    named = {image: given.row for given in reversed(found) for image in (given.path, given.other) if image}
    known = set(paths)
    missing = [image for image in named if image not in known and not _is_file(root, image)]
    if missing:
        where = named[missing[-1]]
        raise InputError(
            f"{len(missing)} of the {len(named)} images that are corrected are not in {root}, such as "
            f"{visible(missing[-1])!r} ({where}): give the corrections of this folder, or take the rows of removed "
            "images away"
        )
    return found


def _is_file(root: str | os.PathLike[str], image: str) -> bool:
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts:
        return False
    try:
        return Path(root, path).is_file()
    except (OSError, ValueError):  # too long, or with a zero in it
        return False
