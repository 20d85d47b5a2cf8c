"""A memory term of one's own: prototypes that follow the median of the batch, and a loss that asks for a margin.

Run it with ``python tests/examples/own_memory_term.py``; it needs no images and no GPU.
"""

import torch
import torch.nn.functional as F

from hhcl_torchreid.memory import MEMORY_MODES, Batch, HybridMemory, MemoryTerm

CLUSTERS, LENGTH, STEPS = 10, 32, 8


class MarginMedians(MemoryTerm):
    """One row per cluster; the true cluster must be more similar than any other by a margin (CosFace's loss)."""

    weight_argument = "centroid_weight"  # HybridMemory's argument of that name sets the term's weight
    margin = 0.1

    def logits(self, similarities, labels):
        is_true = labels[:, None] == torch.arange(self.num_clusters, device=labels.device)
        return similarities - self.margin * is_true

    def update(self, rows, batch: Batch):
        of_cluster = torch.where(batch.same_cluster[:, :, None], batch.features, torch.nan)  # (B, B, D)
        self.move(rows, batch.labels, of_cluster.nanmedian(dim=1).values)


# A mode is a list of terms and their weights: this one, and the centroids of the paper's hybrid memory.
MEMORY_MODES["margin_medians"] = [(1.0, MarginMedians)]
MEMORY_MODES["margin_hybrid"] = [(0.5, MarginMedians), MEMORY_MODES["hybrid"][1]]


def train(mode: str) -> list[float]:
    """Moves random points towards clusters that were drawn at random, by gradient descent on the loss of a memory."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(CLUSTERS * 4, LENGTH, generator=generator, requires_grad=True)
    labels = torch.arange(len(points)) % CLUSTERS
    memory = HybridMemory(CLUSTERS, LENGTH, mode=mode)
    memory.rebuild(F.normalize(points.detach()), labels)
    optimizer = torch.optim.SGD([points], lr=10)
    losses = []
    for _ in range(STEPS):
        features = F.normalize(points)
        loss = memory(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        memory.update(features, labels)
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    for name in ("margin_medians", "margin_hybrid"):
        print(name, *(f"{loss:.3f}" for loss in train(name)))
