"""Nothing is written whose features differ from the extractor's, and nothing by halves."""

import copy
import json
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data.transforms import normalize_images
from ..errors import InputError
from ..features.embedder import Embedder
from ..features.extractor import FeatureExtractor
from ..files import replacing
from .network import normalization

__all__ = ["SIDE_FILE_ENDING", "TOLERANCE", "largest_difference", "side_file", "write"]

TOLERANCE = 1e-4  # of each value of the unit feature vectors
CHECKED_BATCH_SIZES = (1, 2, 5)
SIDE_FILE_ENDING = ".metadata.json"


def largest_difference(
    run: Callable[[Tensor], Tensor], extractor: FeatureExtractor, kind: str, path: str | os.PathLike[str]
) -> float:
    """Compares features on noise, in batches of several sizes; both on the CPU, as a GPU rounds to TF32.

    Args:
        run: the exported network, (B, 3, H, W) -> (B, D).
        extractor: what it is to equal.
        kind: what it takes, one of ``INPUTS``.
        path: where it would go.

    Returns:
        The largest difference of a value, at most ``TOLERANCE``.

    Raises:
        InputError: it is more, or features have no length.
    """
    embedder = Embedder(copy.deepcopy(extractor.model).cpu(), extractor.pixel_mean, extractor.pixel_std)
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch_size in CHECKED_BATCH_SIZES:
        pixels = torch.randint(0, 256, (batch_size, 3, *extractor.image_size), generator=generator, dtype=torch.uint8)
        given = pixels if kind == "uint8" else normalize_images(pixels, *normalization(extractor, kind))
        with torch.no_grad():
            features = run(given)
        if not torch.allclose(features.norm(dim=1), torch.ones(batch_size), atol=1e-3):  # nor where they are no numbers
            raise InputError(
                f"{extractor.model.name} gives features that have no length 1 (zeros, infinity or NaN), so {path} is "
                "not written: give weights that were trained without diverging"
            )
        differences.append((features - embedder.embed(pixels)).abs().max())
    difference = float(torch.stack(differences).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported {extractor.model.name} gives other features than PyTorch (they differ by {difference:.2g}, "
            f"{TOLERANCE:g} is allowed), so {path} is not written: try another version of torch or of the format's "
            "packages"
        )
    return difference


def write(path: str | os.PathLike[str], content: bytes, facts: dict[str, Any]) -> None:
    """Writes a file and the side file that BoxMOT reads, ``FILE.metadata.json``.

    Raises:
        InputError: the operating system refused.
    """
    with (
        replacing(path, "wb", option="--out") as file,
        replacing(f"{os.fspath(path)}{SIDE_FILE_ENDING}", option="--out") as beside,
    ):
        file.write(content)
        beside.write(side_file(facts))


def side_file(facts: dict[str, Any]) -> str:
    """The facts as JSON, with those that BoxMOT asks for: the size of the images, and how crops become images.

    BoxMOT normalises whatever it gives to a file. One that takes pixels says so where BoxMOT refuses what it does not
    know; else it would run, and give other features.
    """
    size = [facts["height"], facts["width"]]
    asked = {
        "schema_version": 1,
        "preprocess": "resize",
        "img_size": size,
        "model_kwargs_schema_version": 1,
        "model_kwargs": {"img_size": size} if facts["takes"] == "float" else {"takes_pixels": True},
    }
    return json.dumps(facts | asked, indent=2) + "\n"
