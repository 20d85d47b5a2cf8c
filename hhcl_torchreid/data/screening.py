"""Which image files of a folder are worth training on: whole, large enough, and no copies of one another."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import joblib

from ..files import ordinary
from ..log import progress_bar
from .images import UNREADABLE, check_size, open_image

__all__ = ["SMALLEST_SIDE", "LeftOut", "screen_images"]

SMALLEST_SIDE = 8
"""Pixels; an image with a shorter side shows nobody."""

BYTES_OF_DIGEST = 16


class LeftOut(NamedTuple):
    """An image that is not used."""

    path: Path
    kind: str
    """``"unreadable"``, ``"tiny"``, ``"duplicate"``, ``"not named"`` or ``"of another kind"``."""
    reason: str
    """The kind with its particulars, for people."""


def screen_images(paths: Sequence[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Reads and decodes every file, on all processors, and leaves out what cannot be used.

    Unreadable is what Pillow cannot decode to its end; tiny, what has a side below ``SMALLEST_SIDE`` pixels; a
    duplicate, a file with the same bytes as one that stands before it in ``paths``.

    Args:
        paths: image files.

    Returns:
        The paths that stay, in their order, and what was left out, in its.
    """
    kept, left_out = [], []
    first_with: dict[bytes, Path] = {}
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # threads: decoding and hashing let go of Python's lock
        examined = progress_bar(
            pool.map(_examine, paths), total=len(paths), desc="check images", unit="img", leave=False
        )
        for path, (kind, reason, digest) in zip(paths, examined, strict=True):
            if not kind and first_with.setdefault(digest, path) != path:
                kind, reason = "duplicate", f"duplicate of {first_with[digest]}"
            if kind:
                left_out.append(LeftOut(path, kind, reason))
            else:
                kept.append(path)
    return kept, left_out


def _examine(path: Path) -> tuple[str, str, bytes]:
    """Kind and reason for leaving a file out, empty if there is none, and the digest of its bytes."""
    try:
        with open(path, "rb", opener=ordinary) as file:
            check_size(file)
            data = file.read()
        width, height = open_image(io.BytesIO(data)).size
    except UNREADABLE:
        return "unreadable", "unreadable", b""
    if min(width, height) < SMALLEST_SIDE:
        return "tiny", f"tiny: {width} x {height} pixels", b""
    return "", "", hashlib.blake2b(data, digest_size=BYTES_OF_DIGEST).digest()
