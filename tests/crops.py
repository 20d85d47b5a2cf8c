"""Folders of small pictures for tests, with the names that a page and a table must survive."""

import os

from PIL import Image

# The path below the folder holds "</script>" and opens another script, for pages that would paste it in.
ODD_NAMES = [
    "<img src=x onerror=window.ran=1>.jpg",
    "a<",
    "two words.jpg",
    'it\'s "quoted", comma.jpg',
    "# hash ? query & 100%25.jpg",
    "日本語 עברית é.jpg",
    "line\nbreak.jpg",
    "${window.ran=1}`.jpg",
    "javascript:window.ran=1.jpg",
    "=1+1.jpg",
    "\u2028.jpg",
    os.fsdecode(b"not unicode \xff.jpg"),
]
ODD_PATHS = [
    f"{name}/script><script>window.ran=1<.jpg" if name == "a<" else f"camera {number % 2}/{name}"
    for number, name in enumerate(ODD_NAMES)
]


def draw(root, path, size=(16, 32), colour=(200, 60, 60)):
    """A picture of one colour."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, format="JPEG")
