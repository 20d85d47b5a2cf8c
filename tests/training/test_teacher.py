"""The teacher: it is the average that it should be, and takes the network's place wherever a run looks at features."""

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from hhcl_torchreid import FeatureExtractor, PseudoLabeler, build_model
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features import Embedder, estimate_statistics
from hhcl_torchreid.models import load_weights

SETTINGS = {"teacher": 0.9, "precise_bn": 2, "bn_groups": 2}


class KeepsFeatures(PseudoLabeler):
    """A labeler that remembers what it was given."""

    def __init__(self):
        super().__init__(eps=0.6, k1=8, k2=3, min_samples=2)
        self.given = []

    def __call__(self, features, images=None):
        self.given.append(features)
        return super().__call__(features, images)


def assert_same(state, other):
    assert list(state) == list(other)
    assert all(torch.equal(state[name], other[name]) for name in state)


def arithmetic(engine):
    return engine.embedder.mean, engine.embedder.std, engine.embedder.precision


def metrics(folder):
    with open(Path(folder, "metrics.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, make_engine):
    folder = tmp_path_factory.mktemp("run")
    engine = make_engine(labeler=KeepsFeatures(), **SETTINGS)
    engine.run(save_dir=str(folder), max_epoch=2)
    return engine, folder


def test_it_is_the_average_of_the_weights_after_every_step_and_copies_buffers(make_engine, untested, tmp_path):
    engine = make_engine(untested, teacher=0.9)
    step, weights = engine.forward_backward, []

    def recorded_step(data):
        step(data)
        weights.append({name: weight.detach().clone() for name, weight in engine.model.named_parameters()})

    engine.forward_backward = recorded_step
    engine.run(save_dir=str(tmp_path), max_epoch=2, print_freq=100)
    expected, *others = weights
    for after_step in others:
        expected = {name: 0.9 * expected[name] + 0.1 * after_step[name] for name in expected}
    assert len(weights) == 6
    teacher = dict(engine.teacher.network.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(teacher[name], value)
    assert not torch.allclose(teacher["backbone.conv1.0.weight"], weights[-1]["backbone.conv1.0.weight"])
    assert_same(dict(engine.teacher.network.named_buffers()), dict(engine.model.named_buffers()))


def test_it_is_what_labels_and_what_a_checkpoint_is_of(finished_run):
    engine, folder = finished_run
    path = folder / "model" / "model-last.pth.tar"
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint["state_dict"], engine.teacher.network.state_dict())
    assert_same(checkpoint["student"]["state_dict"], engine.model.state_dict())
    # The checkpoint of an engine without a configuration says nothing of pixels and arithmetic.
    settings = {"image_size": (64, 32), "amp": "auto", "device": "cpu", "verbose": False}
    extractor = FeatureExtractor("shufflenet_v2_x0_5", str(path), **settings)
    paths = [path for path, *_ in engine.records]
    assert torch.equal(extractor(paths), engine.labeler.given[-1])
    student = Embedder(engine.model.eval(), *arithmetic(engine))
    assert not torch.allclose(student.of_store(engine.store), engine.labeler.given[-1], atol=1e-3)


def test_it_is_what_is_tested(finished_run, make_engine):
    engine, folder = finished_run
    plain = make_engine()
    load_weights(plain.model, str(folder / "model" / "model-last.pth.tar"))
    plain.test()
    assert plain.results == engine.results


def test_precise_statistics_are_those_of_its_own_weights(finished_run):
    engine, _ = finished_run
    again = copy.deepcopy(engine.teacher.network)
    embedder = Embedder(again, *arithmetic(engine))
    generator = np.random.default_rng([1, 1, *b"statistics"])  # of seed 1 and the second epoch
    estimate_statistics(embedder, engine.store, 32, 2, generator)
    assert_same(again.state_dict(), engine.teacher.network.state_dict())
    of_student = engine.model.backbone.conv1[1].running_mean
    assert not torch.allclose(of_student, again.backbone.conv1[1].running_mean, atol=1e-4)


def test_a_resumed_run_ends_as_the_whole_run(finished_run, make_engine, tmp_path):
    whole, folder = finished_run
    first = make_engine(**SETTINGS)
    first.run(save_dir=str(tmp_path), max_epoch=1)
    second = make_engine(**SETTINGS)
    start = second.resume(tmp_path / "model" / "model-last.pth.tar")
    assert start == 1 and second.teacher.steps == 3
    second.run(save_dir=str(tmp_path), max_epoch=2, start_epoch=start)
    assert_same(second.teacher.network.state_dict(), whole.teacher.network.state_dict())
    assert_same(second.model.state_dict(), whole.model.state_dict())
    resumed, uninterrupted = metrics(tmp_path), metrics(folder)
    assert resumed[2] == uninterrupted[2]


@pytest.mark.parametrize("had", [True, False])
def test_a_run_is_not_gone_on_with_where_there_was_a_teacher_and_is_none_or_the_reverse(
    make_engine, untested, tmp_path, had
):
    make_engine(untested, iters=1, teacher=0.9 * had).run(save_dir=str(tmp_path), max_epoch=1)
    word = "with" if had else "without"
    with pytest.raises(InputError, match=rf"was trained {word} a teacher: set hhcl.teacher .*model.load_weights$"):
        make_engine(untested, teacher=0.9 * (not had)).resume(tmp_path / "model" / "model-last.pth.tar")


def test_the_network_that_learns_is_the_same_in_memory_format_as_without(make_engine):
    engine = make_engine(teacher=0.9)
    for network in (engine.model, engine.teacher.network):
        weight = network.backbone.conv1[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_named(make_engine, decay):
    with pytest.raises(InputError, match=r"hhcl.teacher is .*below 1"):
        make_engine(teacher=decay)


def test_its_weights_go_into_a_plain_model(finished_run):
    engine, folder = finished_run
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    load_weights(model, str(folder / "model" / "model-last.pth.tar"))
    assert_same(model.state_dict(), engine.teacher.network.state_dict())
