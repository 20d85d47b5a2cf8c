"""The marker in a rendered folder: what the folder was rendered with, so that two renderings are never confused."""

import json
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..files import ordinary
from .settings import FootageSettings, RenderingSettings

__all__ = ["check_same_rendering", "differences", "write_marker"]

RENDERER_VERSION = 3
"""Rises with every change that changes pictures, so that data of two renderers are never taken for one another."""

MARKER = "rendering.json"


def write_marker(folder: Path, settings: RenderingSettings | FootageSettings) -> None:
    """Writes down what a folder was rendered with.

    Args:
        folder: the rendered folder.
        settings: what it was rendered with.
    """
    marker = {"renderer": RENDERER_VERSION, "arguments": asdict(settings)}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def differences(folder: Path, settings: RenderingSettings | FootageSettings) -> str:
    """Lists what a folder was rendered with in place of other settings.

    Args:
        folder: the rendered folder.
        settings: what it is compared with.

    Returns:
        As in ``"seed = 1 instead of 0, height = 64 instead of 128"``; empty where nothing differs.

    Raises:
        InputError: a folder that was not rendered, or by another version of the renderer.
    """
    theirs = _read_arguments(folder)
    # What JSON makes of ours: a pair comes back as a list.
    ours = json.loads(json.dumps(asdict(settings)))
    return ", ".join(
        f"{name} = {theirs.get(name)} instead of {value}" for name, value in ours.items() if theirs.get(name) != value
    )


def check_same_rendering(folder: Path, settings: RenderingSettings | FootageSettings) -> None:
    """Checks that a folder was rendered with these settings.

    Args:
        folder: the rendered folder.
        settings: what it should have been rendered with.

    Raises:
        InputError: other settings, another version of the renderer, or a folder that was not rendered.
    """
    if different := differences(folder, settings):
        raise InputError(f"{folder} was rendered with {different}: choose another root, or delete it")


def _read_arguments(folder: Path) -> dict:
    try:
        with open(folder / MARKER, opener=ordinary) as file:
            marker = json.loads(file.read())
        version, arguments = marker["renderer"], dict(marker["arguments"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder} was not made by this renderer (it has no readable {MARKER}): choose another root, or delete it"
        ) from error
    if version != RENDERER_VERSION:
        raise InputError(
            f"{folder} was rendered by version {version} of the renderer, this is version {RENDERER_VERSION}: "
            "delete it to have it rendered again, or choose another root"
        )
    return arguments
