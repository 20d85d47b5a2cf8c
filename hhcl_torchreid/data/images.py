"""Decoding: image files to uint8 tensors of one size, streamed or kept in memory."""

import os
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as image_functional

from ..errors import InputError
from ..files import ordinary, visible
from ..log import progress_bar

__all__ = ["UNREADABLE", "DecodedImages", "check_readable", "check_size", "load_images", "open_image", "to_rgb"]

NAMED_AT_MOST = 5

LARGEST_FILE = 1 << 30
"""Bytes of an image; Pillow refuses one of 180 million pixels, which are half of that."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
"""What :func:`open_image` raises for a file that is no image; Pillow's decoders each have a word of their own."""


def open_image(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Decodes an image file of any mode to RGB, upright.

    16-bit grey keeps its upper 8 bits; what is transparent turns black, the colour that training pads images with;
    CMYK and palettes are converted; a rotation noted in EXIF is carried out; of an animation the first frame is taken.

    Args:
        file: path of the file, or the file opened for reading bytes.

    Returns:
        A PIL image of mode RGB. The pixels of an ordinary RGB file are those of ``Image.open(file).convert("RGB")``.

    Raises:
        UNREADABLE: the file is no image, is cut off, or cannot be opened.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb", opener=ordinary) as opened:
            check_size(opened)
            return open_image(opened)
    with Image.open(file) as image:
        if image.format == "EPS":
            raise OSError("PostScript is a program, which another one would run")
        image.load()
        return to_rgb(_upright(image))


def check_size(file: BinaryIO) -> None:
    """Keeps from reading what is empty, as the system's own files that never end say they are, or larger than images.

    Raises:
        OSError: it is.
    """
    size = os.fstat(file.fileno()).st_size
    if not 0 < size <= LARGEST_FILE:
        raise OSError(f"a file of {size} bytes is no image")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image of any mode as :func:`open_image` does."""
    if image.mode.startswith("I"):  # grey of 16 bits, which PIL would cut off at 255
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "black"), colours).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # broken EXIF fails in any way its bytes suggest, and the pixels are good without it
        return image


class DecodedImages(Dataset[dict[str, Any]]):
    """The images of a torchreid data set, decoded and resized (bicubic) to uint8, with torchreid's other fields.

    An item is a dictionary like torchreid's: ``img`` (3, H, W) uint8, ``pid``, ``camid``, ``impath``, ``dsetid``; and
    ``readable``, False where the file is no image. torchreid itself would try such a file again for ever.

    Args:
        records (list of tuple): torchreid's (path, pid, camid, dsetid).
        height (int): of the decoded image, pixels.
        width (int): likewise.
    """

    def __init__(self, records: Sequence[tuple[str, int, int, int]], height: int, width: int) -> None:
        self.records = records
        self.height = height
        self.width = width

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, *numbers = self.records[index]
        pid, camid, dsetid = map(int, numbers)  # no batch can be made of NumPy's different types
        try:
            picture = open_image(path).resize((self.width, self.height), Image.Resampling.BICUBIC)
            pixels, readable = image_functional.pil_to_tensor(picture), True
        except UNREADABLE:
            pixels, readable = torch.zeros(3, self.height, self.width, dtype=torch.uint8), False
        return {
            "img": pixels,
            "pid": pid,
            "camid": camid,
            "impath": path,
            "dsetid": dsetid,
            "readable": readable,
        }


def load_images(
    images: DecodedImages, workers: int, description: str = "decode", device: torch.device | str = "cpu"
) -> Tensor:
    """Decodes all images once, in parallel, under a progress bar.

    Args:
        images: the data set.
        workers: processes that decode; 0 decodes in this one.
        description: what the progress bar says.
        device: where the pixels go.

    Returns:
        (N, 3, H, W) uint8 on the device.

    Raises:
        InputError: files that are no images; the first few are named.
    """
    loader = DataLoader(
        images,
        batch_size=64,
        num_workers=min(workers, -(-len(images) // 64)),
        # Its own, so that loading draws nothing from the generator that training depends on.
        generator=torch.Generator(),
    )
    pixels = torch.empty(len(images), 3, images.height, images.width, dtype=torch.uint8, device=device)
    unreadable: list[str] = []
    filled = 0
    with progress_bar(total=len(images), desc=description, unit="img", leave=False) as progress:
        for batch in loader:
            pixels[filled : filled + len(batch["img"])] = batch["img"]
            unreadable += [
                path for path, readable in zip(batch["impath"], batch["readable"], strict=True) if not readable
            ]
            filled += len(batch["img"])
            progress.update(len(batch["img"]))
    check_readable(unreadable)
    return pixels


def check_readable(unreadable: Sequence[str]) -> None:
    """Stops if there are files that could not be read.

    Raises:
        InputError: there are; the first few are named.
    """
    if unreadable:
        named = ", ".join(map(visible, unreadable[:NAMED_AT_MOST])) + (
            ", ..." if len(unreadable) > NAMED_AT_MOST else ""
        )
        raise InputError(f"{len(unreadable)} unreadable image(s), remove or replace them: {named}")
