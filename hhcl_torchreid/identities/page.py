"""A page to look at: static files, thumbnails, and the data as a script, so that it opens from the disk, offline."""

import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import joblib
from torch import Tensor

from ..data.images import UNREADABLE, open_image
from ..data.tracks import Sighting
from ..errors import InputError
from ..files import ordinary, replacing, replacing_folder
from ..log import progress_bar
from .assignment import Identities
from .questions import Question

__all__ = ["page_script", "read_page", "write_page"]

STATIC_FILES = Path(__file__).parent / "static"
THUMBNAIL_SIZE = (128, 128)  # largest width and height, pixels
THUMBNAILS_PER_FOLDER = 1000  # elements.js counts on it
JPEG_QUALITY = 80
OPTION = "the folder of the results"
DATA = "page/data.js"
ASSIGNED = "window.identityData = "
SCRIPT = re.compile(r'<script src="page/(?!data)(\w+\.js)" defer></script>\n')


def write_page(
    folder: str | Path,
    root: str | Path,
    paths: Sequence[str],
    sightings: Sequence[Sighting],
    identities: Identities,
    settings: Mapping[str, Any],
    answers: Sequence[Sequence[str]] = (),
    questions: Sequence[Question] = (),
) -> int:
    """Writes ``index.html`` and, in ``page/``, what it needs; the images themselves are only read.

    A thumbnail is a JPEG file of its own, about 2 KB for a person crop, so that the page loads what is on the screen
    and nothing else.

    Args:
        folder: where the page goes.
        root: the folder of the images.
        paths: of the images relative to ``root``, with ``/`` between folders.
        sightings: camera, track and frame of each image.
        identities: of the same images.
        settings: name -> value, shown at the top of the page.
        answers: that the identities respect already: rows of ``corrections.csv`` that none replaces, each of ``answer,
            path, other, name``; the page shows their names, and no new answer contradicts them.
        questions: about the images, in the order in which the page asks them; after those, it asks image by image.

    Returns:
        The number of images that could not be read; the page shows their place empty.

    Raises:
        InputError: the folder cannot be written.
    """
    folder, files = Path(folder), Path(folder, "page")
    with replacing_folder(files / "thumbnails", option=OPTION) as thumbnails:
        aspects = _write_thumbnails(thumbnails, [Path(root, path) for path in paths])
    names, cameras = _numbered([seen.camera for seen in sightings])
    # A track counts within its camera, and an image without one is not of the same as the others without.
    tracks, track = _numbered([(seen.camera, seen.track) for seen in sightings])
    numbers = identities.identity.tolist()
    known = _by_number(answers, paths)
    data = {
        "id": _fingerprint(list(paths), numbers, known),
        "answers": known,
        "folder": Path(root).resolve().name,
        "images": _address(Path(root), folder),
        "aspect": median(aspects) if aspects else 0.5,
        "settings": dict(settings),
        "cameras": names,
        "path": list(paths),
        "camera": cameras,
        "tracks": [name for _, name in tracks],
        "track": [number if tracks[number][1] else -1 for number in track],
        "frame": [seen.frame for seen in sightings],
        "identity": numbers,
        "similarity": _rounded(identities.similarity),
        "runnerUp": identities.runner_up.tolist(),
        "runnerUpSimilarity": _rounded(identities.runner_up_similarity),
        "questions": [(given.images, given.own, given.other, round(given.similarity, 4)) for given in questions],
    }
    opened, script = _one_script((STATIC_FILES / "index.html").read_text(encoding="utf-8"))
    style = (STATIC_FILES / "page.css").read_text(encoding="utf-8")
    for name, text in (("page.css", style), ("page.js", script), ("data.js", page_script(data))):
        with replacing(files / name, option=OPTION) as file:
            file.write(text)
    with replacing(folder / "index.html", option=OPTION) as file:
        file.write(opened)
    return len(paths) - len(aspects)


def _one_script(opened: str) -> tuple[str, str]:
    """The page with one script in place of its parts, and that script: a browser opens one file sooner than many."""
    scripts = SCRIPT.findall(opened)
    for name in scripts[:-1]:
        opened = opened.replace(f'<script src="page/{name}" defer></script>\n', "")
    return opened, "".join((STATIC_FILES / name).read_text(encoding="utf-8") for name in scripts)


def page_script(data: Mapping[str, Any]) -> str:
    """The data as a script that holds nothing else, whatever the file names are: ASCII, and no ``<`` in it.

    They are JSON in a string, which browsers read in half the time that they take for the same as a script.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"{ASSIGNED}JSON.parse({json.dumps(text)});\n"


def read_page(folder: str | Path) -> dict[str, Any]:
    """Reads the data of a page back.

    Args:
        folder: where the page is.

    Raises:
        InputError: there is none.
    """
    try:
        with open(Path(folder, DATA), encoding="ascii", opener=ordinary) as file:
            text = file.read()
        text = text.removeprefix(ASSIGNED).removesuffix(";\n")
        if text.startswith("JSON.parse("):  # a page of an earlier version has the data themselves
            text = json.loads(text.removeprefix("JSON.parse(").removesuffix(")"))
        data: dict[str, Any] = json.loads(text)
        _check_data(data)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"{folder} holds no page of identities: give the --out of an assignment") from error
    return data


def _check_data(data: Any) -> None:
    """Stops where data that were changed by hand lack what is read back."""
    paths, texts, places = data["path"], [data["images"], data["id"]], []
    for answer, image, other, name in data["answers"]:
        texts += [answer, name]
        places += [image, other]
    is_text = isinstance(paths, list) and all(isinstance(text, str) for text in (*paths, *texts))
    if not is_text or any(not isinstance(place, int) or not -1 <= place < len(paths) for place in places):
        raise TypeError


def _numbered(values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The different values in order, and the place of each value among them."""
    different = sorted(set(values))
    place = {value: index for index, value in enumerate(different)}
    return different, [place[value] for value in values]


def _by_number(answers: Sequence[Sequence[str]], paths: Sequence[str]) -> list[tuple[str, int, int, str]]:
    """The answers with places among ``paths``, -1 for no path; without those about other images."""
    place = {path: index for index, path in enumerate(paths)} | {"": -1}
    return [
        (answer, place[path], place[other], name)
        for answer, path, other, name, *_ in answers
        if path in place and other in place
    ]


def _fingerprint(*contents: list[Any]) -> str:
    """What a browser keeps the answers by: the same images in the same identities are the same result."""
    return hashlib.sha256(json.dumps(contents).encode("ascii")).hexdigest()[:32]


def _address(root: Path, folder: Path) -> str:
    """The way from the page to the images, for a link."""
    try:
        path = Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix()
        return urllib.parse.quote(os.fsencode(path))
    except ValueError:  # on another drive
        return root.resolve().as_uri()


def _rounded(values: Tensor) -> list[float | None]:
    return [None if value != value else round(value, 4) for value in values.tolist()]


def _write_thumbnails(folder: Path, images: Sequence[Path]) -> list[float]:
    """Writes ``000/0.jpg``, ``000/1.jpg``, ...; returns width / height of each image that could be read."""
    for number in range(-(-len(images) // THUMBNAILS_PER_FOLDER)):
        (folder / f"{number:03d}").mkdir()

    def write(index: int) -> float | None:
        try:
            thumbnail = open_image(images[index])
        except UNREADABLE:
            return None
        aspect = thumbnail.width / thumbnail.height
        thumbnail.thumbnail(THUMBNAIL_SIZE)
        thumbnail.save(folder / f"{index // THUMBNAILS_PER_FOLDER:03d}" / f"{index}.jpg", quality=JPEG_QUALITY)
        return aspect

    # Threads are enough: Pillow decodes, resizes and encodes without holding Python's lock.
    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        aspects = pool.map(write, range(len(images)))
        progress = progress_bar(aspects, desc="thumbnails", unit="img", total=len(images), leave=False)
        return [aspect for aspect in progress if aspect is not None]
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody wants the rest
