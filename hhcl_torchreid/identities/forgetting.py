"""Takes a person out of the results of an assignment, as when consent is withdrawn."""

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..data.corrections import CORRECTIONS, Correction, latest, read_corrections, write_corrections
from ..data.tracks import Sighting, find_sightings
from ..errors import InputError
from ..features.folder import BY_CAMERA, beside
from ..features.saved import load_features, load_settings, save_features
from ..files import as_in_tables, csv_text, expanded, ordinary, replacing, visible, writing
from .assignment import compare_with_centroids
from .crops import Crops
from .numbers import load_earlier, load_names
from .writing import write_tables_and_page

__all__ = ["forget_identity"]

OPTION = "the folder of the results"


def forget_identity(
    folder: str | Path, identity: str, root: str | Path, camera_regex: str = "", track_regex: str = ""
) -> str:
    """Removes an identity's rows, features and thumbnails from every file of an assignment; its number is not reused.

    What was exported goes as a whole, to be exported again.

    Args:
        folder: of the results.
        identity: its number, or its name.
        root: the folder of the images, which are only read: those that stay need thumbnails.
        camera_regex: as for the assignment.
        track_regex: likewise.

    Returns:
        What was removed, and what cannot be reached from here.

    Raises:
        InputError: no such identity, or more than one, or a folder that cannot be read or written.
    """
    folder, root = Path(folder), expanded(root)
    earlier, names = load_earlier(folder), load_names(folder)
    if earlier is None:
        raise InputError(f"{folder} holds no identities.csv: give the folder of an assignment as --out")
    if not root.is_dir():
        raise InputError(f"{root} is no folder: set --root to that of the images, for the page of those that stay")
    saved, settings = load_features(folder / "features.npz"), load_settings(folder / "features.npz")
    numbers = earlier.of(saved.paths)
    number = _number_of(identity, set(numbers.tolist()), names, folder)
    stays = np.flatnonzero(numbers != number)
    if not len(stays):
        raise InputError(f"nobody but identity {number} is in {folder}: delete the folder")
    paths = [saved.paths[row] for row in stays]
    sightings = find_sightings([root / path for path in paths], root, camera_regex, track_regex)
    seen = [sighting or Sighting("") for sighting in sightings]
    crops = Crops(root, paths, seen, saved.features[torch.from_numpy(stays)], [], saved.model)
    next_identity = max(earlier.next_identity, number + 1)
    gone = [saved.paths[row] for row in np.flatnonzero(numbers == number)]
    with writing(folder, option=OPTION):
        for exported in folder.glob("export"):
            shutil.rmtree(exported)
    answers = _forget_answers(folder / CORRECTIONS, gone)
    _forget_changes(folder / "changes.csv", number)
    save_features(folder / "features.npz", crops.features, paths, settings, saved.model, next_identity)
    found = compare_with_centroids(crops.features, torch.from_numpy(numbers[stays]))
    names.pop(number, None)
    write_tables_and_page(folder, crops, found, names, settings, latest(answers))
    return _report(number, gone, sum(not (root / path).is_file() for path in paths), folder, root)


def _number_of(identity: str, numbers: set[int], names: dict[int, str], folder: Path) -> int:
    called = [number for number, name in names.items() if name == identity]
    given = int(identity) if identity.isdecimal() and len(identity) < 18 else -1
    if len(called) > 1:
        raise InputError(f"{identity!r} is the name of identities {', '.join(map(str, called))}: give a number")
    if called and given in numbers - {*called, -1}:
        raise InputError(
            f"{identity!r} is the number of one identity and the name of another: give {called[0]} if that is meant, "
            "or take the name away first, by --corrections"
        )
    number = called[0] if called else given
    if number < 0 or number not in numbers:
        raise InputError(f"no identity {identity[:80]!r} in {folder}: give a number or a name that its tables hold")
    return number


def _forget_answers(path: Path, gone: Sequence[str]) -> list[Correction]:
    """Leaves the answers about others, and gives them."""
    if not os.path.lexists(path):
        return []
    written = set(map(as_in_tables, gone))
    stay = [given for given in read_corrections(path) if not written & {given.path, given.other}]
    write_corrections(path, stay)
    return stay


def _forget_changes(path: Path, number: int) -> None:
    if not os.path.lexists(path):
        return
    try:
        with open(path, encoding="utf-8", newline="", opener=ordinary) as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is no table of changes that this program wrote: move it away") from error
    stay = [row for row in rows if str(number) not in row[1:3]]
    with replacing(path, option=OPTION) as file:
        file.write(csv_text(header, stay))


def _report(number: int, gone: Sequence[str], num_missing: int, folder: Path, root: Path) -> str:
    missing = f"{num_missing} images of others are not in {root}: the page shows their places empty."
    lines = [
        f"Identity {number} is forgotten: {len(gone)} images are out of every file in {folder}, and what was exported "
        "is deleted.",
        *([missing] if num_missing else []),
        "Not reached, and yours to delete:",
        *(f"  {visible(root / path)}" for path in gone),
        f"  {beside(root)} and {beside(root, BY_CAMERA)} (or files in the cache folder): features, which the next "
        "assignment makes anew",
        "  answers that browsers keep of the page, copies, backups, other folders of results, and models trained on "
        "these images",
    ]
    return "\n".join(lines)
