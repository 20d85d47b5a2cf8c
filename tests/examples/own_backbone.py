"""A network of one's own, from outside the package: it trains, resumes, extracts, searches and exports.

Example:
    python tests/examples/own_backbone.py log/own_backbone
"""

import itertools
import sys
from pathlib import Path

import torch
from torch import nn

from hhcl_torchreid import FeatureExtractor, register_backbone
from hhcl_torchreid.config import load_config
from hhcl_torchreid.export import export_onnx
from hhcl_torchreid.rendering import render_market1501
from hhcl_torchreid.runner import run
from hhcl_torchreid.search import search


class Strips(nn.Module):
    """Three convolutions, whose map is averaged in two horizontal strips."""

    def __init__(self):
        super().__init__()
        widths = (3, 16, 32, 64)
        self.stages = nn.Sequential(*(self.stage(*pair) for pair in itertools.pairwise(widths)))
        self.strips = nn.AdaptiveAvgPool2d((2, 1))

    def stage(self, before, after):
        """Halves the map."""
        return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, images):
        """(B, 3, H, W) -> (B, 128)."""
        return self.strips(self.stages(images)).flatten(1)


def build(pretrained):
    """What register_backbone asks for; with weights of one's own, ``pretrained`` says whether to load them."""
    return Strips()


def set_pooling(network, pooling):
    """Lets model.pooling choose: a global pooling takes the strips' place."""
    network.strips = pooling


def main(folder, data_root=None):
    """Gives the engine, the features of the queries, their rankings, and the error of the ONNX file."""
    register_backbone(
        "strips", build, set_pooling=set_pooling, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.25, 0.25, 0.25)
    )
    if data_root is None:
        data_root = folder / "data"
        render_market1501(data_root / "market1501", num_train_ids=12, num_test_ids=6, height=64, width=32)
    settings = {
        **{"model.name": "strips", "model.pretrained": False, "data.height": 64, "data.width": 32, "data.workers": 0},
        **{"data.root": str(data_root), "data.save_dir": str(folder / "run"), "model.resume": "auto"},
        **{"sampler.num_instances": 4, "train.batch_size": 32, "engine.iters": 2, "cluster.eps": 0.6},
        **{"cluster.k1": 8, "cluster.k2": 3, "cluster.min_samples": 2, "use_gpu": torch.cuda.is_available()},
    }
    for epochs in (1, 2):  # the second run resumes from the first
        engine = run(load_config(overrides={**settings, "train.max_epoch": epochs}))
    extractor = FeatureExtractor(model_path=folder / "run" / "model" / "model-last.pth.tar")
    images = Path(data_root, "market1501", "Market-1501-v15.09.15")
    queries = sorted((images / "query").glob("*.jpg"))[:3]
    rankings = search(extractor, queries, images / "bounding_box_test", topk=5, out=folder / "search")
    return engine, extractor(queries), rankings, export_onnx(extractor, folder / "strips.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
