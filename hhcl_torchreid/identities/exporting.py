"""Identities for other programs: a folder each, a table, COCO, and a labelled data set in Market-1501's layout."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..data.images import UNREADABLE
from ..errors import InputError
from ..files import csv_text, ordinary, replacing, replacing_folder, visible
from ..log import late_progress_bar
from .assignment import OUTLIER, Identities
from .crops import Crops

__all__ = ["EXPORTS", "export_identities"]

OPTION = "the folder of the results"
MARKET_LIMITS = {"cameras": 6, "identities": 1501}
"""What torchreid's class for Market-1501 takes."""
LONGEST_NAME = 60
TEST_EVERY = 4
"""Of the identities that two cameras have seen, one in so many is for the test."""


def export_identities(
    kind: str, folder: str | Path, crops: Crops, identities: Identities, names: Mapping[int, str]
) -> Path:
    """Writes what another program takes, to ``export`` in the folder of the results.

    Args:
        kind: one of ``EXPORTS``.
        folder: of the results.
        crops: the images.
        identities: of the same images; outliers are left out.
        names: of identities that have one.

    Returns:
        The folder or file.

    Raises:
        InputError: it cannot be written, or the layout cannot hold these identities.
    """
    if not identities.num_identities:
        raise InputError(f"there are no identities to export as {kind}: every image is an outlier; try another --eps")
    return EXPORTS[kind](Path(folder, "export"), crops, identities, names)


def _folders(folder: Path, crops: Crops, identities: Identities, names: Mapping[int, str]) -> Path:
    return _write_folders(folder / "folders", crops, identities, names, shutil.copyfile)


def _links(folder: Path, crops: Crops, identities: Identities, names: Mapping[int, str]) -> Path:
    return _write_folders(
        folder / "links", crops, identities, names, lambda image, place: os.symlink(image.resolve(), place)
    )


def _write_folders(
    place: Path, crops: Crops, identities: Identities, names: Mapping[int, str], put: Callable[[Path, Path], Any]
) -> Path:
    with replacing_folder(place, option=OPTION) as folder:
        for row, (path, identity) in enumerate(zip(_under_a_bar(crops), identities.identity.tolist(), strict=True)):
            if identity != OUTLIER:
                own = folder / _folder_name(identity, names)
                own.mkdir(exist_ok=True)
                # The number keeps apart what has one name in two folders.
                put(crops.root / path, own / f"{row:06d} {PurePosixPath(path).name[-LONGEST_NAME:]}")
    return place


def _under_a_bar(crops: Crops) -> Iterable[str]:
    """The paths, and how far the export is with them."""
    return late_progress_bar(crops.paths, desc="export images", unit="img")


def _folder_name(identity: int, names: Mapping[int, str]) -> str:
    """The number and what can be in a folder's name on every system of the name."""
    name = re.sub(r"[^\w .-]+", "_", names.get(identity, "")).strip(" .")[:LONGEST_NAME]
    return f"{identity:04d} {name}".strip()


def _csv(folder: Path, crops: Crops, identities: Identities, names: Mapping[int, str]) -> Path:
    rows = [
        (PurePosixPath(path), *seen[:2], "" if seen.frame < 0 else seen.frame, identity, names.get(identity, ""))
        for path, seen, identity in zip(crops.paths, crops.sightings, identities.identity.tolist(), strict=True)
        if identity != OUTLIER
    ]
    with replacing(folder / "identities.csv", option=OPTION) as file:
        file.write(csv_text(("path", "camera", "track", "frame", "identity", "name"), rows))
    return folder / "identities.csv"


def _coco(folder: Path, crops: Crops, identities: Identities, names: Mapping[int, str]) -> Path:
    """COCO's object detection: an identity is a category, and the box is the whole crop."""
    numbers = identities.numbered[0].tolist()
    category = {number: place for place, number in enumerate(numbers, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path, identity in zip(_under_a_bar(crops), identities.identity.tolist(), strict=True):
        with suppress(*UNREADABLE), open(crops.root / path, "rb", opener=ordinary) as crop, Image.open(crop) as image:
            width, height = image.size
            images.append({"id": len(images) + 1, "file_name": visible(path), "width": width, "height": height})
            if identity != OUTLIER:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": category[identity],
                        "bbox": [0, 0, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
    categories = [
        {"id": place, "name": f"{number} {names.get(number, '')}".strip(), "supercategory": "person"}
        for number, place in category.items()
    ]
    with replacing(folder / "coco.json", option=OPTION) as file:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
    return folder / "coco.json"


def _market1501(folder: Path, crops: Crops, identities: Identities, names: Mapping[int, str]) -> Path:
    """One in ``TEST_EVERY`` of the identities that two cameras have seen is for the test, the others are trained on.

    Identities are numbered anew from 1 where their numbers are too large.
    """
    numbers, places = (table.tolist() for table in identities.numbered)
    cameras = sorted({camera for camera, place in zip(crops.cameras, places, strict=True) if place != OUTLIER})
    for what, number in (("cameras", len(cameras)), ("identities", len(numbers))):
        if number > MARKET_LIMITS[what]:
            raise InputError(
                f"there are {number} {what}, and torchreid's market1501 takes at most {MARKET_LIMITS[what]}: export "
                "folders, csv or coco"
            )
    seen_by: dict[int, set[str]] = {}
    for place, camera in zip(places, crops.cameras, strict=True):
        seen_by.setdefault(place, set()).add(camera)
    at_two = [place for place in range(len(numbers)) if len(seen_by[place]) > 1]
    tested = set(at_two[::TEST_EVERY])
    if not tested or len(tested) == len(numbers):
        raise InputError(
            f"{len(at_two)} of the {len(numbers)} identities were seen by two cameras, and market1501 needs one to "
            "test with and another to train on: name the cameras with --camera-regex, or export folders, csv or coco"
        )
    place_of = folder / "market1501"
    with replacing_folder(place_of, option=OPTION) as new:
        layout = new / "Market-1501-v15.09.15"
        for part in ("bounding_box_train", "query", "bounding_box_test"):
            (layout / part).mkdir(parents=True)
        asked: set[tuple[int, str]] = set()
        for row, (path, place, camera) in enumerate(zip(_under_a_bar(crops), places, crops.cameras, strict=True)):
            if place == OUTLIER:
                continue
            part = "bounding_box_train"
            if place in tested:
                part = "bounding_box_test" if (place, camera) in asked else "query"
                asked.add((place, camera))
            number = numbers[place] + 1 if numbers[-1] < MARKET_LIMITS["identities"] else place + 1
            name = f"{number:04d}_c{cameras.index(camera) + 1}s1_{row:06d}_00.jpg"
            shutil.copyfile(crops.root / path, layout / part / name)
            if part == "query":  # so that the other cameras' queries find it
                shutil.copyfile(crops.root / path, layout / "bounding_box_test" / name)
    return place_of


EXPORTS: dict[str, Callable[[Path, Crops, Identities, Mapping[int, str]], Path]] = {
    "folders": _folders,
    "links": _links,
    "csv": _csv,
    "coco": _coco,
    "market1501": _market1501,
}
