"""A plain folder of crops: which files are its images, and which camera took each."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import expanded

__all__ = ["OTHER_SUFFIXES", "SUFFIXES", "camera_names", "compile_expression", "find_images", "find_others"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What a file's name ends with, in capitals or not, if it is an image."""

OTHER_SUFFIXES = (
    *(".tif", ".tiff", ".gif", ".jfif", ".jpe", ".jp2", ".jxl", ".avif", ".heic", ".heif"),
    *(".ppm", ".pgm", ".tga", ".ico", ".psd", ".svg", ".dng", ".raw"),
)
"""What the names of images end with that are of no kind that is read."""

_NAMED = "the cameras' expression (data.camera_regex or --camera-regex)"


def find_images(root: str | os.PathLike[str]) -> list[Path]:
    """Lists the images in a folder, at any depth, by their suffix. Links to folders are followed.

    Hidden files and folders (whose names start with a dot) are skipped: they hold what the file manager keeps there.

    Args:
        root: the folder.

    Returns:
        The paths, root included, in sorted order.

    Raises:
        InputError: no such folder, one that cannot be read, or one without an image.
    """
    root = expanded(root)
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give the folder that holds the images")
    images = _files(root, SUFFIXES)
    if not images:
        raise InputError(f"no image in {root}: give a folder with files that end in {', '.join(SUFFIXES)}")
    return images


def find_others(root: str | os.PathLike[str]) -> list[Path]:
    """Lists the images in a folder that :func:`find_images` leaves out, because they are of no kind that is read."""
    return _files(expanded(root), OTHER_SUFFIXES)


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        Path(folder, name)
        for folder, names in _walk(root)
        for name in names
        if not name.startswith(".") and name.lower().endswith(suffixes)
    )


def _walk(root: Path) -> list[tuple[str, list[str]]]:
    """Finds the visible folders under a root, each once however many links lead there, and their files."""
    found, seen = [], set()
    try:
        for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
            identity = os.path.realpath(folder)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if identity in seen:
                folders.clear()
                continue
            seen.add(identity)
            found.append((folder, names))
    except OSError as error:
        raise InputError(f"cannot read the folder {error.filename}: {error.strerror}; change its rights") from error
    return found


def _raise(error: OSError) -> None:
    raise error


def camera_names(paths: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str], pattern: str = "") -> list[str]:
    """Names the camera of each image, from its path alone.

    Args:
        paths: images under ``root``.
        root: the folder that they were found in.
        pattern: a regular expression whose first group is the camera's name; it is searched for in the path relative
            to ``root``, with ``/`` between folders on every system. Empty takes the first folder level.

    Returns:
        A name for each path; without a pattern, ``""`` for an image that lies directly in ``root``.

    Raises:
        InputError: no regular expression, one without a group, or one that a path does not match.
    """
    root = expanded(root)
    relative = [expanded(path).relative_to(root) for path in paths]
    if not pattern:
        return [path.parts[0] if len(path.parts) > 1 else "" for path in relative]
    expression = compile_expression(pattern, _NAMED)
    if expression.groups == 0:
        raise InputError(
            f"{_NAMED} {pattern!r} has no group: put round brackets around the part that names the camera, as "
            r"in '_c(\d+)_'"
        )
    return [_camera_in(path.as_posix(), expression) for path in relative]


def compile_expression(pattern: str, name: str) -> re.Pattern[str]:
    """Compiles a regular expression of the user's.

    Args:
        pattern: the expression.
        name: what messages call it.

    Raises:
        InputError: it is none.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{name} {pattern!r} is no regular expression: {error}") from None


def _camera_in(path: str, expression: re.Pattern[str]) -> str:
    match = expression.search(path)
    if match is None or match.group(1) is None:
        raise InputError(
            f"{_NAMED} {expression.pattern!r} finds no camera in {path!r}: it must match every image's path "
            "below the root"
        )
    return match.group(1)
