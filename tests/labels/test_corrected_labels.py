"""Labels that respect corrections: every answer holds, whatever the labels were, and nothing else changes."""

import csv
from itertools import combinations

import numpy as np
import pytest
import torch
import train_hhcl
from made_up_footage import LENGTH, Footage
from small_runs import SMALL, pairs
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.data.corrections import Correction, write_corrections
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels import CorrectedLabeler, Images, combine_answers, correct_labels
from hhcl_torchreid.training.folder import RunFolder


def combine(given, paths=(), root="."):
    rows = [Correction(*answer)._replace(row=f"line {number}") for number, answer in enumerate(given, 2)]
    return combine_answers(rows, dict.fromkeys(paths) and {path: path for path in paths}, root)


def images_of(number):
    unknown = torch.full((number,), -1)
    return Images(tuple("abcdefghijklmnopqrstuvwxyz"[:number]), unknown + 1, unknown + 1, unknown, unknown)


def correct(labels, *given, features=None):
    images = images_of(len(labels))
    if features is None:  # each image like its neighbours, but for a gap behind each third
        angles = torch.arange(len(labels)) * 0.05 + torch.arange(len(labels)) // 3
        features = torch.stack([angles.cos(), angles.sin()], dim=1)
    return correct_labels(torch.tensor(labels), features, images, combine(given, images.paths)).tolist()


def test_nothing_changes_without_answers_and_with_those_that_hold():
    labels = [0, 0, 0, 1, 1, -1]
    assert correct(labels) == labels
    assert correct(labels, ("same", "a", "b"), ("different", "a", "d"), ("different", "f", "a")) == labels


def test_same_joins_clusters_and_takes_outliers_in():
    assert correct([0, 0, 1, 1, 2, 2, -1], ("same", "a", "c")) == [0, 0, 0, 0, 1, 1, -1]
    assert correct([0, 0, 1, 1, -1, -1], ("same", "a", "e")) == [0, 0, 1, 1, 0, -1]
    assert correct([0, 0, -1, -1], ("same", "c", "d")) == [0, 0, 1, 1]


def test_different_parts_a_cluster_between_those_that_are_alike():
    assert correct([0] * 6 + [1], ("different", "a", "f")) == [0, 0, 0, 1, 1, 1, 2]
    # Who is left alone is an outlier, unless a name says that there is somebody.
    assert correct([0, 0, 0], ("different", "a", "b"), ("different", "a", "c")) == [-1, 0, 0]
    both = (("different", "a", "b"), ("different", "a", "c"))
    assert correct([0, 0, 0], *both, ("name", "a", "", "Anna")) == [0, 1, 1]
    assert correct([-1, 0, 0], ("name", "a", "", "Anna")) == [0, 1, 1]


def test_a_moved_image_takes_no_cluster_along():
    """``same`` with the one and ``different`` from the other cluster, as moving to the runner-up says."""
    look = normalize(torch.eye(3).repeat_interleave(4, 0) + 0.1, dim=1)
    look[3] = normalize(look[3] + 0.9 * look[4], dim=0)
    moved = correct([0] * 4 + [1] * 4 + [2] * 4, ("same", "d", "e"), ("different", "d", "a"), features=look)
    assert moved == [0] * 3 + [1] * 5 + [2] * 4
    # Where joining would bring two people together, only the images of that person move.
    moved = correct([0] * 4 + [1] * 4, ("same", "a", "e"), ("different", "b", "f"), features=look[:8])
    assert moved[0] == moved[4] and moved[1] != moved[5]


def test_nobody_has_no_label():
    assert correct([0, 0, 0, 1, 1], ("nobody", "b")) == [0, -1, 0, 1, 1]
    assert correct([0, 0, 1, 1], ("nobody", "a"), ("nobody", "b")) == [-1, -1, 0, 0]


@pytest.mark.parametrize("seed", range(30))
def test_all_answers_hold_that_the_truth_gives(seed):
    rng = np.random.default_rng(seed)
    truth, labels = rng.integers(0, 4, 20), rng.integers(-1, 4, 20)
    look = normalize(
        torch.tensor(rng.normal(size=(4, 8))[truth] + rng.normal(size=(20, 8)), dtype=torch.float32), dim=1
    )
    images = images_of(20)
    chosen = rng.choice(190, 25, replace=False)
    asked = [pair for number, pair in enumerate(combinations(range(20), 2)) if number in chosen]
    given = [("same" if truth[i] == truth[j] else "different", images.paths[i], images.paths[j]) for i, j in asked]
    nobody = int(rng.integers(20))
    given.append(("nobody", images.paths[nobody]))
    labels = np.unique(labels, return_inverse=True)[1] - 1
    answers = combine(given, images.paths)
    found = correct_labels(torch.from_numpy(labels), look, images, answers)
    assert torch.equal(found, correct_labels(torch.from_numpy(labels), look, images, answers))
    assert found[nobody] == -1 and sorted(set(found.tolist()) - {-1}) == list(range(int(found.max()) + 1))
    for i, j in asked:
        if nobody in (i, j):
            continue
        if truth[i] == truth[j]:
            assert found[i] == found[j] >= 0
        else:
            assert found[i] != found[j] or found[i] == -1


def test_contradictions_are_named_by_their_rows():
    rows = (("same", "a", "b"), ("same", "x", "y"), ("different", "c", "a"), ("same", "c", "b"))
    message = r"^line 4 says that 'c' and 'a' show two people, and line 5 and line 2 that they show one: take one"
    with pytest.raises(InputError, match=message):
        combine(rows, "abcxy")
    assert combine((*rows, ("nobody", "b")), "abcxy").apart  # a later answer takes the links away


def test_an_answer_counts_for_the_whole_track():
    footage = Footage(people=4)
    tracks = footage.images.tracks.numpy()
    labels = torch.from_numpy(footage.people)
    first, last = (f"{rows[0]}.jpg" for rows in (np.flatnonzero(tracks == 0), np.flatnonzero(tracks == tracks.max())))
    answers = combine([("same", first, last), ("nobody", f"{LENGTH}.jpg")], footage.images.paths)
    found = correct_labels(labels, footage.features, footage.images, answers).numpy()
    assert set(found[tracks == 1]) == {-1} and -1 not in found[tracks != 1]
    assert len(set(found[np.isin(footage.people, (0, 3))])) == 1 and found.max() == 2
    apart = combine([("different", first, f"{4 * LENGTH}.jpg")], footage.images.paths)
    found = correct_labels(labels, footage.features, footage.images, apart).numpy()
    assert all(len(set(found[tracks == track])) == 1 for track in range(tracks.max() + 1))
    assert found[0] != found[4 * LENGTH]


def test_a_track_that_shows_two_people_is_split_between_the_images_asked_about():
    footage = Footage(people=3)
    answers = combine(
        [("different", "2.jpg", "7.jpg"), ("nobody", f"{LENGTH}.jpg"), ("same", f"{LENGTH + 9}.jpg", "7.jpg")],
        footage.images.paths,
    )
    found = correct_labels(torch.from_numpy(footage.people), footage.features, footage.images, answers).numpy()
    assert len(set(found[:5])) == len(set(found[5:LENGTH])) == 1 and found[0] != found[LENGTH - 1] >= 0
    second = found[LENGTH : 2 * LENGTH]
    assert set(second[:5]) == {-1} and set(second[5:]) == {found[7]}


def test_a_labeler_is_corrected_and_remembers_by_what():
    footage = Footage()
    answers = combine([("different", "0.jpg", f"{6 * LENGTH}.jpg")], footage.images.paths)
    labeler = CorrectedLabeler(PseudoLabeler(eps=0.6, k1=20), answers)
    found = labeler(footage.features, footage.images)
    plain = PseudoLabeler(eps=0.6, k1=20)(footage.features, footage.images)
    assert plain[0] == plain[6 * LENGTH] and found[0] != found[6 * LENGTH]
    assert torch.equal(found, correct_labels(plain, footage.features, footage.images, answers))
    assert labeler.statistics.num_clusters == 6 and labeler.settings["eps"] == (0.6,)
    labeler.load_state_dict(labeler.state_dict())
    other = CorrectedLabeler(PseudoLabeler(), combine([("nobody", "0.jpg")], footage.images.paths))
    with pytest.raises(InputError, match=r"^cluster\.corrections has other answers"):
        other.load_state_dict(labeler.state_dict())
    with pytest.raises(InputError, match="give the labeler the images too"):
        labeler(footage.features)


def read_labels(folder):
    with open(RunFolder(folder).labels, encoding="utf-8", newline="") as file:
        return {row["image"]: row["label"] for row in csv.DictReader(file)}


def test_a_run_respects_corrections_in_every_epoch_and_resumes_to_the_bit(data_root, tmp_path, capsys):
    crops, market = tmp_path / "crops", data_root / "market1501" / "Market-1501-v15.09.15" / "bounding_box_train"
    crops.mkdir()
    names = sorted(path.name for path in market.iterdir())[:48]
    for name in names:
        (crops / name).symlink_to(market / name)
    names = names[::6]
    by_hand = tmp_path / "by hand.csv"
    given = [Correction("different", one, other) for one, other in combinations(names[:5], 2)]
    write_corrections(by_hand, [*given, Correction("same", names[5], names[6]), Correction("nobody", names[7])])

    def train(folder, epochs, *options, corrections=by_hand):
        settings = {**SMALL, "data.sources": "['folder']", "data.targets": "['folder']", "data.save_dir": folder}
        settings |= {
            "train.max_epoch": epochs,
            "engine.iters": 1,
            "cluster.corrections": corrections,
            "data.camera_regex": r"_c(\d)",
        }
        return train_hhcl.main(["--root", str(crops), *pairs(settings), *options])

    assert train(tmp_path / "whole", 2) == 0 == train(tmp_path / "parts", 1)
    first = read_labels(tmp_path / "parts")
    assert train(tmp_path / "parts", 2, "model.resume", "auto") == 0
    whole = read_labels(tmp_path / "whole")
    assert whole == read_labels(tmp_path / "parts")
    states = [torch.load(tmp_path / run / "model" / "model-last.pth.tar")["state_dict"] for run in ("whole", "parts")]
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())
    for labels in (first, whole):
        label = [labels[str(crops / name)] for name in names[:8]]
        assert label[5] == label[6] != label[7]
        assert all(one != other or one in ("-1", "outlier") for one, other in combinations(label[:5], 2))
    write_corrections(by_hand, [Correction("nobody", names[0])])
    capsys.readouterr()
    assert train(tmp_path / "parts", 3, "model.resume", "auto") == 2
    assert "cluster.corrections has other answers" in capsys.readouterr().err
    write_corrections(by_hand, [Correction("nobody", "elsewhere.jpg")])
    assert train(tmp_path / "other", 1) == 2
    assert "'elsewhere.jpg'" in capsys.readouterr().err
