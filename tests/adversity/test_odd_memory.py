"""A memory is rebuilt from finite unit rows, into unit rows, or not at all."""

import pytest
import torch
from torch.nn.functional import normalize

from hhcl_torchreid import HybridMemory
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory import MEMORY_MODES


def spoil(features, row, value):
    features = features.clone()
    features[row] = value
    return features


@pytest.mark.parametrize("mode", MEMORY_MODES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 3.0])
def test_features_that_are_no_unit_rows(mode, value):
    memory = HybridMemory(3, 8, mode=mode)
    features, labels = normalize(torch.randn(12, 8)), torch.arange(12) % 4 - 1
    memory.rebuild(features, labels)
    before = memory.features.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(len(before)))
    with pytest.raises(InputError, match="Row 5"):
        memory.rebuild(spoil(features, 5, value), labels)
    assert torch.equal(memory.features, before)


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_clusters_without_a_mean(mode):
    memory = HybridMemory(3, 8, mode=mode)
    features = normalize(torch.randn(6, 8))
    features[1] = -features[0]
    with pytest.raises(InputError, match="cluster 0 of 3 has no mean direction"):
        memory.rebuild(features, torch.tensor([0, 0, 1, 1, 2, 2]))
    with pytest.raises(InputError, match="cluster 1 of 3"):
        memory.rebuild(features[2:], torch.tensor([0, 0, 2, 2]))
    assert not memory.features.any()
