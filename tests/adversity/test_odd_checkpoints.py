"""A checkpoint that lacks something, or holds something odd, is refused in a sentence or goes on as it should."""

import copy
import itertools

import pytest
import torch
from torch import nn

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.training import History
from hhcl_torchreid.training.state import TrainingState

ODD = [
    *(None, True, -1, 10**400, 0.5, float("nan"), "word", "", b"bytes", [], [1], {}, {"a": 1}, (1, 2)),
    *(torch.zeros(3), torch.zeros(2, 2), torch.tensor([1], dtype=torch.int64), [{"epoch": "x"}], {1: {2: 3}}),
]


def make_state(lr=0.1, weight_decay=0.01, betas=(0.9, 0.999), step_size=2, schedule=True, epochs=2):
    """A run of a tiny network after some epochs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr, betas, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size) if schedule else None
    labeler, history = PseudoLabeler(eps=(0.5, 0.6, 0.7)), History()
    state = TrainingState(model, None, optimizer, scheduler, torch.amp.GradScaler("cpu"), labeler, history)
    for epoch in range(epochs):
        history.begin(epoch)
        history.end()
        go_on(state)
    return state


def go_on(state):
    """What a run does next with all that was put back."""
    state.optimizer.zero_grad()
    loss = state.model(torch.randn(4, 3)).square().mean()
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.scheduler is not None:
        state.scheduler.step()
    state.history.improves(0.5)
    state.history.mean_results(state.history.results_before)
    assert state.history.last["epoch"] >= 0


@pytest.fixture(scope="module")
def whole():
    return {**make_state().state_dict(), "labels": torch.tensor([0, 1, -1])}


def places(tree, path=()):
    """The paths to all values of nested mappings and lists, the tree itself excluded."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def refused_or_goes_on(checkpoint, file):
    torch.save(checkpoint, file)
    state = make_state(epochs=0)
    try:
        state.load(file)
    except InputError as error:
        assert str(file) in str(error) and not str(error).endswith(".")
        return False
    go_on(state)
    state.state_dict()
    return True


def test_a_whole_checkpoint_goes_on(whole, tmp_path):
    assert refused_or_goes_on(whole, tmp_path / "last.pth")


@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "epoch",
        "rank1",
        "optimizer",
        "scheduler",
        "scaler",
        "kinds",
        "best",
        "results_before",
        "rows",
        "labeler",
        "random",
        "labels",
    ],
)
def test_missing_and_odd_values_of_a_key(whole, tmp_path, key):
    without = {name: value for name, value in whole.items() if name != key}
    assert refused_or_goes_on(without, tmp_path / "last.pth") == (key in ("rank1", "scaler", "kinds", "labeler"))
    for value in ODD:
        refused_or_goes_on({**whole, key: value}, tmp_path / "last.pth")


@pytest.mark.parametrize(("key", "value"), [("capturable", True), ("lr", 10**400), ("lr", -(10**400))])
def test_settings_of_an_optimizer_that_it_cannot_step_with(whole, tmp_path, key, value):
    checkpoint = copy.deepcopy(whole)
    checkpoint["optimizer"]["param_groups"][0][key] = value
    assert not refused_or_goes_on(checkpoint, tmp_path / "last.pth")


def test_odd_values_anywhere_inside(whole, tmp_path):
    values = itertools.cycle((None, "word", torch.zeros(3), {}, ...))
    for place in places(whole):
        for value in itertools.islice(values, 2):
            checkpoint = copy.deepcopy(whole)
            parent = checkpoint
            for key in place[:-1]:
                parent = parent[key]
            if value is ...:
                del parent[place[-1]]
            else:
                parent[place[-1]] = value
            refused_or_goes_on(checkpoint, tmp_path / "last.pth")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.01}, "lr 0.1, not 0.01"),
        ({"lr": 0.01, "schedule": False}, "lr 0.1, not 0.01"),
        ({"weight_decay": 0.5}, "weight_decay 0.01, not 0.5"),
        ({"betas": (0.5, 0.9)}, r"betas \[0.9, 0.999\], not \[0.5, 0.9\]"),
        ({"step_size": 7}, "step_size 2, not 7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_another_optimiser_or_schedule_is_not_overwritten_in_silence(tmp_path, change, named):
    began = make_state(schedule=change.get("schedule", True))
    torch.save({**began.state_dict(), "labels": None}, tmp_path / "last.pth")
    other = make_state(**change, epochs=0)
    before = copy.deepcopy(other.optimizer.state_dict())
    with pytest.raises(InputError, match=named):
        other.load(tmp_path / "last.pth")
    assert other.optimizer.state_dict() == before
