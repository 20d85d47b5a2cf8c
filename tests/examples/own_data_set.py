"""A data set of one's own: images that a table names, known to torchreid and to HHCL by the name "tabled".

``python tests/examples/own_data_set.py DATA LOG KEY VALUE ...`` trains on the images that DATA/tabled/images.csv names:
split (train, query or gallery), path, person (any number in the training images: HHCL looks at none), camera from 0.
"""

import csv
import sys
from pathlib import Path

import torchreid

from hhcl_torchreid.config import load_config
from hhcl_torchreid.runner import run


class TabledImages(torchreid.data.ImageDataset):
    """Reads the table."""

    dataset_dir = "tabled"

    def __init__(self, root="", **kwargs):
        folder = Path(root, self.dataset_dir)
        splits = {"train": [], "query": [], "gallery": []}
        with open(folder / "images.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                splits[row["split"]].append((str(folder / row["path"]), int(row["person"]), int(row["camera"])))
        super().__init__(splits["train"], splits["query"], splits["gallery"], **kwargs)


torchreid.data.register_image_dataset("tabled", TabledImages)


def train(root, save_dir, options=()):
    """Trains on it; gives the engine."""
    names = {"data.sources": ["tabled"], "data.targets": ["tabled"]}
    return run(load_config(overrides={"data.root": root, "data.save_dir": save_dir, **names}, options=options))


if __name__ == "__main__":
    train(*sys.argv[1:3], sys.argv[3:])
