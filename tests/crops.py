"""Folders of small pictures and a small model for tests, with the names that a page and a table must survive."""

import os

import numpy as np
import torch
from PIL import Image

from hhcl_torchreid import build_model
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.config import load_config

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


def save_image(path, seed):
    """A picture of smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 3, 3), np.uint8)
    Image.fromarray(noise).resize((24, 48), Image.Resampling.BILINEAR).save(path)
    return path


def save_model(path, seed, **settings):
    """A checkpoint of a small network, as a run leaves it."""
    torch.manual_seed(seed)
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    cfg = load_config(overrides={"model.name": model.name, "data.height": 32, "data.width": 16, **settings})
    save_checkpoint({"state_dict": model.state_dict(), "model_name": model.name, "config": cfg.dump()}, path)
    return path
