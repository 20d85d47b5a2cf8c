"""Tables as CSV text that every program can read, whatever the names of files and folders are."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

__all__ = ["csv_text", "visible"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, which may open addresses and start programs."""


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Lays out a table as CSV.

    Text that a spreadsheet would run as a formula is kept from that: a path begins with ``./`` then, other text with an
    apostrophe. Bytes of a name that are not Unicode are written with backslash escapes.

    Args:
        columns: their names.
        rows: of cells; paths are of a type of :mod:`pathlib`.

    Returns:
        The text, with a line break at its end.

    Example:
        >>> csv_text(["path", "camera"], [(PurePath("=1+1.jpg"), "@hall"), (PurePath("a, b.jpg"), "-1")])
        'path,camera\n./=1+1.jpg,\'@hall\n"a, b.jpg",-1\n'
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # Python before 3.13 leaves a lone carriage return without quotes, and readers end the line at it.
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        cells = [_cell(value) for value in row]
        writer = quoted if any("\r" in str(cell) for cell in cells) else plain
        writer.writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(value: Any) -> Any:
    if not isinstance(value, (str, PurePath)) or not (text := str(value)).startswith(FORMULA):
        return value
    if isinstance(value, PurePath):
        return f"./{text}"
    return text if _is_number(text) else f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def visible(path: str | os.PathLike[str]) -> str:
    """A path in one line that can do nothing to a terminal: what is not printable is written with backslash escapes."""
    text = os.fspath(path)
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
