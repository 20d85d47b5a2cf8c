"""What cameras add to the loss: a weight for each sample, and a contrast between cameras."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clustering.centroids import cluster_centroids
from ..errors import InputError

__all__ = ["CAMERA_WEIGHTS", "CameraProxies", "cluster_camera_means", "entropy_weights", "given_cameras"]


def given_cameras(cameras: Tensor | None, needed_by: str) -> Tensor:
    """Gives the cameras back, or says what needs them where there are none."""
    if cameras is None:
        raise InputError(f"{needed_by} needs the camera of every image: pass cameras, with -1 where it is not known")
    return cameras


def entropy_weights(labels: Tensor, cameras: Tensor) -> Tensor:
    """Weighs the samples of a batch by how evenly the cameras see their cluster (3C's camera entropy).

    With the share p of each camera among the batch's samples of cluster y, H = -Σ p log2 p; the weight of y is exp(H)
    divided by its mean over the clusters in the batch. Where all samples are of one camera all weights are 1.

    Args:
        labels: (B,) int64 clusters.
        cameras: (B,) int64, on the same device; -1, unknown, counts as a camera.

    Returns:
        (B,) float32.
    """
    same_cluster = labels[:, None] == labels[None, :]
    same_camera = cameras[:, None] == cameras[None, :]
    cluster_size = same_cluster.sum(dim=1)
    share = (same_cluster & same_camera).sum(dim=1) / cluster_size
    # A camera's share of the samples is the weight of its logarithm in their mean.
    entropy = -(same_cluster * share.log2()).sum(dim=1) / cluster_size
    once_per_cluster = 1 / cluster_size
    return entropy.exp() * once_per_cluster.sum() / (entropy.exp() * once_per_cluster).sum()


CAMERA_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor] | None] = {"none": None, "entropy": entropy_weights}
"""What ``camera_weight`` can be -> (B,) labels and (B,) cameras to (B,) weights."""


def cluster_camera_means(features: Tensor, labels: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Makes one proxy for every cluster and camera: the mean of its features, brought to unit length.

    Args:
        features: (N, D) unit rows.
        labels: (N,) int64, -1 for outliers, which have no part in it.
        cameras: (N,) int64.

    Returns:
        (P, D) float32 unit rows, and the (P,) int64 cluster and camera of each, sorted, on the features' device.
    """
    pairs = torch.stack([labels.to(features.device), cameras.to(features.device)])
    pairs, numbers = torch.unique(pairs, dim=1, return_inverse=True)
    outliers = int((pairs[0] < 0).sum())
    proxies = cluster_centroids(features, numbers - outliers, pairs.shape[1] - outliers)
    return proxies, pairs[0, outliers:], pairs[1, outliers:]


class CameraProxies(nn.Module):
    """Draws an image to its cluster's proxies at other cameras, and away from those of other clusters (PPLR's form).

    The proxies stay as they were set. Of an image the positives are the proxies of its cluster at other cameras, the
    negatives the most similar proxies of other clusters; its loss is the cross-entropy over both, with each positive as
    likely as the next. An image without positives counts 0.

    Args:
        num_features (int): length of a feature vector, D.
        temperature (float): divides the similarities.
        num_negatives (int): negatives of an image; all there are where they are fewer.

    Attributes:
        features (Tensor): (P, D) float32 unit rows.
        labels (Tensor): (P,) int64 clusters.
        cameras (Tensor): (P,) int64.
    """

    features: Tensor
    labels: Tensor
    cameras: Tensor

    def __init__(self, num_features: int, temperature: float, num_negatives: int) -> None:
        super().__init__()
        if temperature <= 0 or num_negatives < 1:
            raise InputError(
                "camera_temperature must be above 0 and camera_negatives at least 1, not "
                f"{temperature} and {num_negatives}"
            )
        self.temperature = temperature
        self.num_negatives = num_negatives
        # Their number is another in every epoch, and a memory's checkpoint holds what it always has.
        self.register_buffer("features", torch.zeros(0, num_features), persistent=False)
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("cameras", torch.zeros(0, dtype=torch.int64), persistent=False)

    def set(self, features: Tensor, labels: Tensor, cameras: Tensor) -> None:
        """Takes (P, D) unit rows and their (P,) int64 clusters and cameras in place of those before."""
        if not len(features) == len(labels) == len(cameras):
            raise InputError(
                f"{len(features)} proxies have {len(labels)} labels and {len(cameras)} cameras: give one of each for "
                "every proxy"
            )
        device = self.features.device
        self.features = features.detach().to(device, torch.float32)
        self.labels, self.cameras = labels.to(device), cameras.to(device)

    def forward(self, features: Tensor, labels: Tensor, cameras: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            features: (B, D) float32 unit rows.
            labels: (B,) int64 clusters, on the same device, as the cameras are.
            cameras: (B,) int64; -1, unknown, counts as a camera.

        Returns:
            A float32 scalar.

        Raises:
            InputError: there are no proxies yet.
        """
        if len(self.features) == 0:
            raise InputError("camera_proxy has no proxies yet: call rebuild with cameras, or set_proxies, first")
        # As PPLR does, so that no gradient points along a feature.
        logits = F.normalize(features) @ self.features.T / self.temperature
        same_cluster = labels[:, None] == self.labels[None, :]
        positive = same_cluster & (cameras[:, None] != self.cameras[None, :])
        negatives = (
            logits.masked_fill(same_cluster, -torch.inf).topk(min(self.num_negatives, len(self.features))).values
        )
        candidates = torch.cat([logits.masked_fill(~positive, -torch.inf), negatives], dim=1)
        count = positive.sum(dim=1)
        mean_positive = (logits * positive).sum(dim=1) / count.clamp(min=1)
        return torch.where(count > 0, candidates.logsumexp(dim=1) - mean_positive, 0).mean()
