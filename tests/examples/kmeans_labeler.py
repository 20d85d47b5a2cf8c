"""A labeler of one's own: scikit-learn's k-means in place of DBSCAN, chosen by its name in the configuration.

``python tests/examples/kmeans_labeler.py DATA LOG KEY VALUE ...`` trains with it on a data set under DATA.
"""

import sys

import torch
from sklearn.cluster import KMeans

from hhcl_torchreid import register_labeler
from hhcl_torchreid.config import load_config
from hhcl_torchreid.runner import run


class KMeansLabeler:
    """As many clusters as asked for, and no outliers."""

    def __init__(self, num_clusters, seed):
        self.settings = {"num_clusters": num_clusters}
        self.seed = seed

    def __call__(self, features, images=None):
        found = KMeans(self.settings["num_clusters"], n_init=1, random_state=self.seed).fit(features.cpu().numpy())
        # k-means may leave a cluster empty where images are copies: numbers must have no gaps.
        return torch.unique(torch.from_numpy(found.labels_).long(), return_inverse=True)[1].to(features.device)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


register_labeler("kmeans", lambda cfg: KMeansLabeler(num_clusters=12, seed=cfg.train.seed))


def train(root, save_dir, options=()):
    """Trains with the labeler; gives the engine."""
    overrides = {"data.root": root, "data.save_dir": save_dir, "engine.labels": "kmeans"}
    return run(load_config(overrides=overrides, options=options))


if __name__ == "__main__":
    train(*sys.argv[1:3], sys.argv[3:])
