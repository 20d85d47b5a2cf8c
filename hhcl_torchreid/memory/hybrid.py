"""The memory of a run's clusters, and the contrastive loss against it (sections 3.3 and 4.3 of the paper)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clustering.centroids import cluster_centroids
from ..clustering.neighbors import check_features
from ..errors import InputError
from .camera import CAMERA_WEIGHTS, CameraProxies, cluster_camera_means, given_cameras
from .terms import MEMORY_MODES, Batch, MemoryTerm, true_cluster

__all__ = ["MEMORY_MODES", "HybridMemory"]


class HybridMemory(nn.Module):
    r"""Contrasts a batch with one memory row (or more) per cluster, and moves those rows towards the batch.

    All rows are unit vectors. With :math:`\mathrm{update}(r, v) = \mathrm{normalise}(m\,r + (1 - m)\,v)`, the modes are

    - ``"centroid"`` (the authors' CM): C centroids, updated with each sample in batch order.
    - ``"hard"`` (CMhard): C prototypes, updated with the sample of the cluster that is least similar to its prototype.
    - ``"hybrid"`` (CMhybrid): C hard prototypes, then C centroids; the centroids are updated with the batch mean of the
      cluster. Loss: ``hard_weight * CE(hard) + centroid_weight * CE(centroid)``.
    - ``"hybrid_instances"`` (CMhybrid_v2, the paper's section 4.3): C centroids, then ``num_instances`` blocks of C
      instance rows. The instances of a cluster are replaced by its samples in the batch; the logit of the true cluster
      is its least similar instance, that of every other cluster its most similar one. Loss: ``hard_weight *
      CE(instances) + centroid_weight * CE(centroid)``.
    - ``"harmonic"`` (3C's CHD; needs cameras): C prototypes, updated with the sample of the cluster that is most like
      the cluster's others at its camera and least like its prototype, by the harmonic mean of the two.

    A mode of one's own is one more row of :data:`~hhcl_torchreid.memory.MEMORY_MODES`. Everything is computed in
    float32, under autocast too. The work is a few matrix products: nothing here waits for the GPU, but for ``update``
    in mode ``"centroid"`` when it is given labels that live there (hand it labels on the CPU).

    Reference:
        Hu, Zhu, He. Hard-sample Guided Hybrid Contrast Learning for Unsupervised Person Re-Identification. IC-NIDC
        2021. arXiv 2109.12333. Cameras: 3C (entropy, harmonic update) and PPLR (proxies).

    Args:
        num_clusters (int): number of clusters, C.
        num_features (int): length of a feature vector, D.
        mode (str): one of ``MEMORY_MODES``.
        temperature (float): divides the similarities.
        momentum (float): m, what a row keeps of itself in an update, in [0, 1].
        num_instances (int): instance rows per cluster (mode ``"hybrid_instances"`` only).
        hard_weight (float, optional): weight of the hard term. Default: 1 for ``"hard"`` and ``"harmonic"``, else 0.5.
        centroid_weight (float, optional): weight of the centroid term. Default: 1 for ``"centroid"``, 0.25 for
            ``"hybrid"`` (what the authors' published models were trained with), 0.5 for ``"hybrid_instances"``.
        label_smoothing (float): the authors' smoothing: 1 - ε on the true cluster and ε / k on each of the k = C // 50
            highest logits; with k <= 1, ε / C on all.
        camera_weight (str): ``"entropy"`` gives the samples of a cluster that many cameras see evenly in the batch more
            weight in the terms of the mode, see :func:`~hhcl_torchreid.memory.camera.entropy_weights`; or ``"none"``.
        camera_proxy (float): weight of the contrast between cameras that is added to the loss, see
            :class:`~hhcl_torchreid.memory.camera.CameraProxies`; 0 for none.
        camera_temperature (float): divides the similarities there.
        camera_negatives (int): negatives of an image there.

    Attributes:
        features (Tensor): the memory, float32, (C, D), (2C, D) or ((1 + num_instances) C, D); zeros until
            :meth:`rebuild` or an assignment fills it.

    Raises:
        InputError: an unknown mode, a number out of range, or a weight for a term that the mode does not have.

    Examples::

        memory = HybridMemory(num_clusters=500, num_features=2048)
        memory.rebuild(features, labels)            # of the whole training set; -1 marks outliers
        loss = memory(batch_features, batch_labels)
        loss.backward()
        memory.update(batch_features, batch_labels)
    """

    features: Tensor

    def __init__(
        self,
        num_clusters: int,
        num_features: int,
        mode: str = "hybrid",
        temperature: float = 0.05,
        momentum: float = 0.1,
        num_instances: int = 16,
        hard_weight: float | None = None,
        centroid_weight: float | None = None,
        label_smoothing: float = 0.0,
        camera_weight: str = "none",
        camera_proxy: float = 0.0,
        camera_temperature: float = 0.07,
        camera_negatives: int = 50,
    ) -> None:
        super().__init__()
        if num_clusters < 1 or num_features < 1 or num_instances < 1:
            raise InputError(
                f"a memory needs at least one cluster, feature and instance, not {num_clusters} clusters, "
                f"{num_features} features, {num_instances} instances"
            )
        if temperature <= 0 or not 0 <= momentum <= 1 or not 0 <= label_smoothing < 1:
            raise InputError(
                f"temperature must be above 0, momentum in [0, 1] and label_smoothing in [0, 1), not {temperature}, "
                f"{momentum} and {label_smoothing}"
            )
        if camera_proxy < 0:
            raise InputError(f"camera_proxy is {camera_proxy}: give a weight, or 0 for none")
        for name, given, known in (
            ("memory mode", mode, MEMORY_MODES),
            ("camera_weight", camera_weight, CAMERA_WEIGHTS),
        ):
            if given not in known:
                raise InputError(f"unknown {name} {given!r}: choose one of {', '.join(known)}")
        self.num_clusters = num_clusters
        self.mode = mode
        self.temperature = temperature
        self.momentum = momentum
        self.num_instances = num_instances
        self.label_smoothing = label_smoothing
        self.camera_weight = camera_weight
        self.camera_proxy = camera_proxy
        self.terms: list[MemoryTerm] = [make(num_clusters, momentum, num_instances) for _, make in MEMORY_MODES[mode]]
        self.weights = self._resolve_weights({"hard_weight": hard_weight, "centroid_weight": centroid_weight})
        self._block_sizes = [term.rows_per_cluster * num_clusters for term in self.terms]
        self.register_buffer("features", torch.zeros(sum(self._block_sizes), num_features))
        self.proxies = CameraProxies(num_features, camera_temperature, camera_negatives)

    def _resolve_weights(self, arguments: dict[str, float | None]) -> list[float]:
        given = {name: float(weight) for name, weight in arguments.items() if weight is not None}
        for name in given.keys() - {term.weight_argument for term in self.terms}:
            raise InputError(f"memory mode {self.mode!r} has no term for {name}: leave it out, or use mode 'hybrid'")
        defaults = [weight for weight, _ in MEMORY_MODES[self.mode]]
        return [given.get(term.weight_argument, own) for term, own in zip(self.terms, defaults, strict=True)]

    @property
    def needs_cameras(self) -> bool:
        """Whether a setting looks at the cameras of a batch."""
        return self.camera_weight != "none" or self.camera_proxy > 0 or any(term.needs_cameras for term in self.terms)

    def extra_repr(self) -> str:
        """Shows the settings in ``print(memory)``."""
        terms = zip(self.weights, self.terms, strict=True)
        loss = " + ".join(f"{weight:g} {type(term).__name__}" for weight, term in terms)
        return (
            f"num_clusters={self.num_clusters}, mode={self.mode!r}, loss={loss}, temperature={self.temperature}, "
            f"momentum={self.momentum}, camera_weight={self.camera_weight!r}, camera_proxy={self.camera_proxy}"
        )

    @torch.no_grad()
    def rebuild(
        self,
        features: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        cameras: Tensor | None = None,
    ) -> None:
        """Fills the memory from the features of a whole training set, at the start of an epoch.

        Args:
            features: (N, D) unit rows.
            labels: (N,) int64 in [-1, C), -1 for outliers, each cluster present.
            generator: CPU generator for the random instances of ``"hybrid_instances"``.
            cameras: (N,) int64, for the proxies; -1 where not known.

        Raises:
            InputError: features that are no finite unit rows, a cluster without a mean, or ``camera_proxy`` is set and
                there are no cameras.
        """
        features = check_features(features)
        centroids = cluster_centroids(features, labels, self.num_clusters)
        rows = [term.start(centroids, features, labels, generator) for term in self.terms]
        self._check_rows(centroids)
        self.features = torch.cat(rows).to(self.features.device)
        if self.camera_proxy > 0:
            self.proxies.set(*cluster_camera_means(features, labels, given_cameras(cameras, "camera_proxy")))

    def _check_rows(self, centroids: Tensor) -> None:
        # A cluster without an image has no mean, and one of opposite features a mean that is no direction.
        broken = torch.nonzero(~((centroids.norm(dim=1) - 1).abs() < 1e-3)).flatten().tolist()
        if broken:
            raise InputError(
                f"cluster {broken[0]} of {self.num_clusters} has no mean direction: number the clusters without gaps, "
                "and leave out those whose features cancel each other"
            )

    def set_proxies(self, proxies: Tensor, labels: Tensor, cameras: Tensor) -> None:
        """Sets the proxies that ``camera_proxy`` weighs, in place of those that :meth:`rebuild` makes.

        Args:
            proxies: (P, D) unit rows.
            labels: (P,) int64 clusters in [0, C).
            cameras: (P,) int64.

        Raises:
            InputError: there is not one label and one camera for each.
        """
        self.proxies.set(proxies, labels, cameras)

    def forward(self, features: Tensor, labels: Tensor, cameras: Tensor | None = None) -> Tensor:
        """Contrastive loss of a batch against the memory, which stays as it is.

        Args:
            features: (B, D) unit rows; gradients flow back to them.
            labels: (B,) int64 in [0, C).
            cameras: (B,) int64, -1 where not known; for ``camera_weight`` and ``camera_proxy`` only.

        Returns:
            The mean loss of the batch, a float32 scalar.

        Raises:
            InputError: a setting needs cameras and there are none, or proxies and there are none yet.
        """
        labels = labels.to(features.device, non_blocking=True)
        cameras = None if cameras is None else cameras.to(features.device, non_blocking=True)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            loss = self._loss_of_terms(features, labels, cameras)
            if self.camera_proxy > 0:
                loss = loss + self.camera_proxy * self.proxies(features, labels, given_cameras(cameras, "camera_proxy"))
            return loss

    def _loss_of_terms(self, features: Tensor, labels: Tensor, cameras: Tensor | None) -> Tensor:
        of_samples, weigh = None, CAMERA_WEIGHTS[self.camera_weight]
        if weigh is not None:
            of_samples = weigh(labels, given_cameras(cameras, f"camera_weight {self.camera_weight}"))
            features = F.normalize(features)  # as 3C does, so that no gradient points along a feature
        blocks = (features @ self.features.T).split(self._block_sizes, dim=1)
        losses = [
            weight * self._cross_entropy(term.logits(similarities, labels), labels, of_samples)
            for weight, term, similarities in zip(self.weights, self.terms, blocks, strict=True)
        ]
        return torch.stack(losses).sum()

    def _cross_entropy(self, similarities: Tensor, labels: Tensor, of_samples: Tensor | None) -> Tensor:
        logits, targets, smoothing = similarities / self.temperature, labels, self.label_smoothing
        num_smoothed = self.num_clusters // 50
        if smoothing > 0 and num_smoothed > 1:
            targets = true_cluster(labels, self.num_clusters) * (1 - smoothing)
            highest = logits.detach().topk(num_smoothed, dim=1).indices
            targets = targets.scatter_add(1, highest, torch.full_like(logits, smoothing / num_smoothed))
            smoothing = 0.0
        if of_samples is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        return (of_samples * F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)).mean()

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, cameras: Tensor | None = None) -> None:
        """Moves the rows of the clusters in a batch towards the batch; call it after the loss.

        Args:
            features: (B, D) unit rows, those that the loss saw.
            labels: (B,) int64 in [0, C). In mode ``"hybrid_instances"`` the first ``num_instances`` samples of a
                cluster are kept where a batch has more.
            cameras: (B,) int64, -1 where not known; for mode ``"harmonic"`` only.

        Raises:
            InputError: the mode needs cameras and there are none.
        """
        batch = Batch(features, labels, cameras)
        with torch.autocast(features.device.type, enabled=False):
            for term, rows in zip(self.terms, self.features.split(self._block_sizes), strict=True):
                term.update(rows, batch)
