"""METHOD word by word: one sample, one cluster, one camera at a time."""

from collections import Counter
from math import exp, log2

import torch
import torch.nn.functional as F

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
ROWS_PER_CLUSTER = {"centroid": 1, "hard": 1, "hybrid": 2, "hybrid_instances": 1 + 4, "harmonic": 1}


def unit_rows(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_update(memory, features, labels, cameras):
    rows, num_clusters, momentum = memory.features.clone(), memory.num_clusters, memory.momentum

    def update(row, value):
        rows[row] = F.normalize(momentum * rows[row] + (1 - momentum) * value, dim=0)

    if memory.mode == "centroid":
        for feature, label in zip(features, labels.tolist(), strict=True):
            update(label, feature)
        return rows
    for cluster in set(labels.tolist()):
        samples = features[labels == cluster]
        mean = samples.mean(0)
        if memory.mode in ("hard", "hybrid"):
            update(cluster, samples[int(torch.stack([sample @ rows[cluster] for sample in samples]).argmin())])
        if memory.mode == "hybrid":
            update(cluster + num_clusters, mean)
        if memory.mode == "hybrid_instances":
            update(cluster, mean)
            for slot, sample in enumerate(samples[: memory.num_instances]):
                rows[(slot + 1) * num_clusters + cluster] = sample
        if memory.mode == "harmonic":
            update(cluster, harmonic_sample(rows[cluster], samples, cameras[labels == cluster].tolist()))
    return rows


def harmonic_sample(row, samples, cameras):
    hardness = []
    for sample, camera in zip(samples, cameras, strict=True):
        here = [other for other, its_camera in zip(samples, cameras, strict=True) if its_camera == camera]
        similarity = sample @ F.normalize(torch.stack(here).mean(0), dim=0) + 1
        distance = 1 - sample @ row
        hardness.append(similarity * distance / (similarity + distance))
    return samples[int(torch.stack(hardness).argmax())]


def slow_loss(memory, features, labels):
    """Without smoothing and cameras."""
    count, losses = memory.num_clusters, []
    for feature, label in zip(features, labels.tolist(), strict=True):
        blocks = (memory.features @ feature / memory.temperature).view(-1, count)

        def minus_log_probability(logits, label=label):
            return torch.logsumexp(logits, 0) - logits[label]

        if memory.mode == "hybrid":
            losses.append(0.5 * minus_log_probability(blocks[0]) + 0.25 * minus_log_probability(blocks[1]))
        elif memory.mode == "hybrid_instances":
            hardest = torch.stack([blocks[1:, c].min() if c == label else blocks[1:, c].max() for c in range(count)])
            losses.append(0.5 * minus_log_probability(blocks[0]) + 0.5 * minus_log_probability(hardest))
        else:
            losses.append(minus_log_probability(blocks[0]))
    return torch.stack(losses).mean()


def slow_entropy_weights(labels, cameras):
    labels, cameras, spread = labels.tolist(), cameras.tolist(), {}
    for cluster in set(labels):
        seen_by = Counter(camera for label, camera in zip(labels, cameras, strict=True) if label == cluster)
        shares = [count / seen_by.total() for count in seen_by.values()]
        spread[cluster] = exp(-sum(share * log2(share) for share in shares))
    mean = sum(spread.values()) / len(spread)
    return torch.tensor([spread[label] / mean for label in labels])


def slow_proxy_loss(proxies, features, labels, cameras, temperature, num_negatives):
    losses = []
    for feature, label, camera in zip(features, labels.tolist(), cameras.tolist(), strict=True):
        positives, negatives = [], []
        for proxy, of_cluster, at_camera in zip(*proxies, strict=True):
            logit = feature @ proxy / temperature
            if of_cluster != label:
                negatives.append(logit)
            elif at_camera != camera:
                positives.append(logit)
        if not positives:
            losses.append(torch.zeros((), device=features.device))
            continue
        hardest = sorted(negatives, key=lambda logit: logit.item(), reverse=True)[:num_negatives]
        total = torch.logsumexp(torch.stack(positives + hardest), 0)
        losses.append(sum(total - positive for positive in positives) / len(positives))
    return torch.stack(losses).mean()
