"""A term and a mode of one's own, from outside the package: the example that shows how."""

import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from slow_memory import unit_rows

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.memory import MEMORY_MODES, HybridMemory

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_memory_term.py"


@pytest.fixture
def example_output(capsys):
    known = set(MEMORY_MODES)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    yield capsys.readouterr().out
    for mode in MEMORY_MODES.keys() - known:
        del MEMORY_MODES[mode]


def test_the_example_learns_in_both_of_its_modes(example_output):
    for line in example_output.splitlines():
        losses = [float(loss) for loss in line.split()[1:]]
        assert len(losses) == 8 and losses[-1] < 0.5 * losses[0]
    assert len(example_output.splitlines()) == 2


def test_its_loss_asks_for_the_margin_and_its_rows_follow_the_median(example_output):
    memory = HybridMemory(3, 8, mode="margin_medians", momentum=0.25, centroid_weight=0.5)
    memory.features, features, labels = unit_rows(3, 8), unit_rows(6, 8, seed=1), torch.tensor([0, 2, 0, 2, 0, 0])
    similarities = features @ memory.features.T
    similarities[torch.arange(6), labels] -= 0.1
    torch.testing.assert_close(memory(features, labels), 0.5 * F.cross_entropy(similarities / 0.05, labels))
    expected = memory.features.clone()
    for cluster in (0, 2):
        median = features[labels == cluster].median(dim=0).values
        expected[cluster] = F.normalize(0.25 * expected[cluster] + 0.75 * median, dim=0)
    memory.update(features, labels)
    torch.testing.assert_close(memory.features, expected)
    with pytest.raises(InputError, match="hard_weight"):
        HybridMemory(3, 8, mode="margin_medians", hard_weight=0.5)
