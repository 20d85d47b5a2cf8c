"""A labeler that looks at cameras: it takes each camera's mean feature away before it clusters.

What all images of a camera share, its tint and its background, then no longer draws them together. ``python
tests/examples/camera_labeler.py DATA LOG KEY VALUE ...`` trains with it on a data set under DATA.
"""

import sys

import torch
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler, register_labeler
from hhcl_torchreid.config import load_config
from hhcl_torchreid.runner import run


class CameraCentredLabeler(PseudoLabeler):
    """Clusters features without what is the camera's."""

    def __call__(self, features, images=None):
        centred = features.clone()
        for camera in torch.unique(images.cameras):
            seen = (images.cameras == camera).to(features.device)
            centred[seen] -= features[seen].mean(dim=0)
        return super().__call__(normalize(centred), images)


register_labeler("camera_centred", lambda cfg: CameraCentredLabeler(**cfg.cluster))


def train(root, save_dir, options=()):
    """Trains with the labeler; gives the engine."""
    overrides = {"data.root": root, "data.save_dir": save_dir, "engine.labels": "camera_centred"}
    return run(load_config(overrides=overrides, options=options))


if __name__ == "__main__":
    train(*sys.argv[1:3], sys.argv[3:])
