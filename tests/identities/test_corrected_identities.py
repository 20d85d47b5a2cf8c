"""Identities that are corrected, keep their numbers, take new images in, go to other programs, and are forgotten."""

import csv
import json
import shutil
from collections import Counter

import assign_identities
import numpy as np
import pytest
import torch
import torchreid
from crops import save_image, save_model
from made_up_footage import Footage
from PIL import Image
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities import (
    Crops,
    JoiningLabeler,
    compare_with_centroids,
    export_identities,
    load_earlier,
    load_features,
    load_known,
    load_names,
    save_features,
    write_identities,
)
from hhcl_torchreid.identities.camera_looks import camera_looks, without_looks
from hhcl_torchreid.identities.joining import Known, find_rule
from hhcl_torchreid.identities.numbers import find_changes, keep_numbers

PEOPLE, OF_EACH = 6, 8


def look_of(people, seed=0, noise=0.3, dimensions=32):
    """Features of people, given by their numbers."""
    generator = torch.Generator().manual_seed(99)
    centres = torch.randn(50, dimensions, generator=generator)[torch.as_tensor(people)]
    noisy = centres + noise * torch.randn(centres.shape, generator=torch.Generator().manual_seed(seed))
    return normalize(noisy, dim=1)


def names_of(people, start=0):
    return [f"camera{i % 3}/{person:02d}_{i:03d}.jpg" for i, person in enumerate(people, start)]


@pytest.fixture
def root(tmp_path):
    """Six people, eight images each, and features of them."""
    people = [person for person in range(PEOPLE) for _ in range(OF_EACH)]
    for path in names_of(people):
        (tmp_path / "crops" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), (90, 60, 30)).save(tmp_path / "crops" / path)
    save_features(tmp_path / "given.npz", look_of(people), names_of(people), {"k1": 10, "k2": 3}, "small 0123")
    return tmp_path / "crops"


@pytest.fixture
def call(tmp_path, root, capsys):
    """Runs the tool; gives exit code, standard output and standard error."""

    def run(*flags, **options):
        options = {"features": tmp_path / "given.npz", "root": root, "out": tmp_path / "out", **options}
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
        code = assign_identities.main([*given, *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def identities_in(folder):
    with open(folder / "identities.csv", encoding="utf-8", newline="") as file:
        return {row["path"]: row["identity"] for row in csv.DictReader(file)}


def of_person(found, person):
    return {identity for path, identity in found.items() if f"/{person:02d}_" in path}


def one_of(root, person, number=0):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob(f"{person:02d}_*.jpg"))[number]


def write_answers(path, *rows, encoding="utf-8"):
    text = "answer,path,other,name\n" + "".join(f"{','.join([*row, '', '', ''][:4])}\n" for row in rows)
    path.write_text(text, encoding=encoding)
    return path


def assert_one_sentence(result, *named):
    code, _, error = result
    assert code == 2
    assert error.startswith("error: ") and error.strip().count("\n") == 0 and "Traceback" not in error
    for name in named:
        assert str(name) in error


def test_corrections_pile_up_and_names_and_numbers_stay(call, tmp_path, root):
    assert call()[0] == 0
    plain = identities_in(tmp_path / "out")
    assert len(set(plain.values())) == PEOPLE == len({(one, *of_person(plain, one)) for one in range(PEOPLE)})
    first = write_answers(
        tmp_path / "first.csv",
        ("same", one_of(root, 1), one_of(root, 2)),
        ("name", one_of(root, 1), "", "Zoë"),
        ("nobody", one_of(root, 0)),
    )
    code, output, _ = call(corrections=first)
    joined = identities_in(tmp_path / "out")
    assert code == 0 and of_person(joined, 1) == of_person(joined, 2) == {
        min(of_person(plain, 1) | of_person(plain, 2))
    }
    assert joined[one_of(root, 0)] == "outlier" and len(of_person(joined, 0)) == 2
    assert all(of_person(joined, person) == of_person(plain, person) for person in (3, 4, 5))
    assert load_names(tmp_path / "out") == {int(joined[one_of(root, 1)]): "Zoë"}
    assert " merged: " in output and "into" in output
    second = write_answers(tmp_path / "second.csv", ("different", one_of(root, 1), one_of(root, 2)))
    code, output, _ = call(corrections=second)
    parted = identities_in(tmp_path / "out")
    assert code == 0 and of_person(parted, 1) != of_person(parted, 2)
    assert parted[one_of(root, 0)] == "outlier"  # the first answers are kept
    new = (of_person(parted, 1) | of_person(parted, 2)) - of_person(joined, 1)
    assert new == {str(PEOPLE)}  # the number of the one that was merged is not given again
    with open(tmp_path / "out" / "changes.csv", encoding="utf-8", newline="") as file:
        assert [row["change"] for row in csv.DictReader(file)] == ["split"]
    assert call("--eps=0.4")[0] == 0 and load_names(tmp_path / "out") == {int(parted[one_of(root, 1)]): "Zoë"}


def test_answers_about_images_that_are_gone_are_dropped_where_they_were_kept(call, tmp_path, root):
    answers = write_answers(tmp_path / "answers.csv", ("nobody", one_of(root, 0)), ("nobody", one_of(root, 1)))
    assert call(corrections=answers)[0] == 0
    saved = load_features(tmp_path / "given.npz")
    gone = saved.paths.index(one_of(root, 0))
    (root / one_of(root, 0)).unlink()
    keep = [row for row in range(len(saved.paths)) if row != gone]
    save_features(tmp_path / "given.npz", saved.features[keep], [saved.paths[row] for row in keep])
    assert call()[0] == 0
    assert (tmp_path / "out" / "corrections.csv").read_text().count("nobody") == 1


def test_corrections_that_are_none(call, tmp_path, root):
    a, b, c = (one_of(root, person) for person in range(3))
    path = tmp_path / "answers.csv"
    write_answers(path, ("nobody", "elsewhere/a.jpg"))
    assert_one_sentence(call(corrections=path), path, "1 of the 1", "'elsewhere/a.jpg'", root, "line 2")
    write_answers(path, ("same", a, b), ("different", a, c), ("same", b, c))
    assert_one_sentence(call(corrections=path), f"{path}, line 3", f"{path}, line 2 and {path}, line 4", "take one")
    write_answers(path, ("same", a, "ä"), encoding="latin-1")
    assert_one_sentence(call(corrections=path), path, "UTF-8")
    assert_one_sentence(call(corrections=tmp_path / "nowhere.csv"), "nowhere.csv")
    assert not (tmp_path / "out" / "identities.csv").exists()
    write_answers(path, ("same", a, b), ("same", b, a), ("same", a, b))
    assert call(corrections=path)[0] == 0
    assert (tmp_path / "out" / "corrections.csv").read_text().count("same") == 1


def test_a_table_that_is_no_earlier_result(call, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "identities.csv").write_text("path;identity\n")
    assert call()[0] == 0  # of no image
    (tmp_path / "out" / "identities.csv").write_text("path,identity\na.jpg,many\n")
    assert_one_sentence(call(), tmp_path / "out" / "identities.csv", "move it away")


def slow_numbers(labels, before, next_identity):
    """Again and again the two that have most images in common."""
    overlap = Counter((old, new) for new, old in zip(labels, before, strict=True) if old >= 0 <= new)
    number = {}
    while overlap:
        old, new = max(sorted(overlap), key=overlap.get)
        number[new] = old
        overlap = Counter({pair: n for pair, n in overlap.items() if pair[0] != old and pair[1] != new})
    for new in sorted(set(labels) - {-1} - set(number)):
        number[new], next_identity = next_identity, next_identity + 1
    return [number.get(label, -1) for label in labels]


@pytest.mark.parametrize("seed", range(10))
def test_numbers_go_by_the_largest_overlap(seed):
    rng = np.random.default_rng(seed)
    labels, before = rng.integers(-1, 6, 60), rng.integers(-2, 9, 60)
    numbers, next_identity = keep_numbers(torch.from_numpy(labels), before, 9)
    assert numbers.tolist() == slow_numbers(labels.tolist(), before.tolist(), 9)
    assert next_identity == max(9, max(numbers.tolist()) + 1)
    assert len(set(zip(labels, numbers.tolist(), strict=True))) == len(set(labels))


def test_what_has_changed_is_told():
    before = np.array([0] * 4 + [1] * 3 + [2] * 4 + [3] * 2 + [-2] * 3)
    now = np.array([0] * 4 + [0] * 3 + [2] * 2 + [5] * 2 + [-1] * 2 + [6] * 3)
    found = find_changes(now, before, Counter(before.tolist()))
    assert [tuple(change) for change in found] == [
        ("merged", 1, 0, 3),
        ("vanished", 3, -1, 2),
        ("split", 5, 2, 2),
        ("appeared", 6, -1, 3),
    ]


def labeler_of(labels):
    """Gives these labels, whatever the features."""

    class Given(PseudoLabeler):
        def __call__(self, features, images=None):
            return labels

    return Given()


def make_crops(root, people, seed=0, start=0, noise=0.3):
    paths = names_of(people, start)
    return Crops(root, paths, [Sighting(path.split("/")[0]) for path in paths], look_of(people, seed, noise), [])


def together(one, other):
    return one._replace(
        paths=one.paths + other.paths,
        sightings=one.sightings + other.sightings,
        features=torch.cat([one.features, other.features]),
    )


def test_new_images_join_old_identities_and_strangers_do_not(tmp_path):
    old = make_crops(tmp_path, [person for person in range(PEOPLE) for _ in range(OF_EACH)])
    before = write_identities(tmp_path / "out", old, PseudoLabeler(eps=0.5, k1=10, k2=3))
    assert before.num_identities == PEOPLE
    newcomers = [0, 1, 2, 3, 3] + [20] * 6 + [21]
    crops = together(make_crops(tmp_path, newcomers, seed=1, start=500, noise=0.2), old)  # in another order than before
    joining = JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), load_known(tmp_path / "out", crops, tmp_path / "new"))
    found = write_identities(tmp_path / "new", crops, joining, joining).identity.tolist()
    assert found[len(newcomers) :] == before.identity.tolist()
    number = {person: before.identity[person * OF_EACH].item() for person in range(PEOPLE)}
    assert found[:5] == [number[person] for person in newcomers[:5]]
    assert found[5:11] == [PEOPLE] * 6 and found[11] == -1
    assert load_earlier(tmp_path / "new").next_identity == PEOPLE + 1
    # Without the old images in the folder numbers go on just so, and nothing else is said to have changed.
    alone = make_crops(tmp_path, newcomers, seed=1, start=500, noise=0.2)
    joining = JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), load_known(tmp_path / "out", alone, tmp_path / "new"))
    assert write_identities(tmp_path / "alone", alone, joining, joining).identity.tolist() == found[: len(newcomers)]
    assert (tmp_path / "alone" / "changes.csv").read_text().splitlines()[1:] == [f"appeared,{PEOPLE},,6"]
    with pytest.raises(InputError, match="would take their place: set --out to another folder"):
        load_known(tmp_path / "out", alone, tmp_path / "out")


def test_a_file_that_holds_another_picture_now_is_new(tmp_path):
    old = make_crops(tmp_path, [person for person in range(PEOPLE) for _ in range(OF_EACH)])
    write_identities(tmp_path / "out", old, PseudoLabeler(eps=0.5, k1=10, k2=3))
    changed = old._replace(features=torch.cat([look_of([3], seed=5), old.features[1:]]))
    joining = JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), load_known(tmp_path / "out", changed, tmp_path))
    found = write_identities(tmp_path / "new", changed, joining, joining).identity
    assert found[0] == found[3 * OF_EACH] and found[1] == 0


def test_statistics_of_cameras_may_move_and_a_file_that_holds_another_picture_is_new(tmp_path):
    people = [person for person in range(PEOPLE) for _ in range(OF_EACH)]
    old = make_crops(tmp_path, people)._replace(model="a by camera")
    before = write_identities(tmp_path / "out", old, PseudoLabeler(eps=0.5, k1=10, k2=3)).identity
    now = old._replace(features=torch.cat([look_of([3], seed=5), old.features[1:]]))
    moved = normalize(now.features + 0.3 * normalize(torch.randn(now.features.shape[1]), dim=0))
    assert ((moved * now.features).sum(1) < 0.99).any()
    now = now._replace(features=moved)
    joined_to = load_known(tmp_path / "out", now, tmp_path / "new")
    assert joined_to.before.tolist() == [-2, *before.tolist()[1:]]
    assert all((row == moved).all(1).any() for row in joined_to.known.features[1:])  # what was seen again, as it is now
    found = write_identities(tmp_path / "new", now, JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), joined_to))
    assert found.identity[0] == found.identity[3 * OF_EACH]
    with pytest.raises(InputError, match=r"are of a by camera .* those of the images of a "):
        load_known(tmp_path / "out", now._replace(model="a"), tmp_path / "new")


def test_the_nearest_of_each_identity_and_the_rule_equal_slow_ones():
    features, generator = look_of([0, 1, 2, 3, 4] * 9, noise=0.6), np.random.default_rng(0)
    identity, units = generator.integers(-1, 4, 45) * 2, generator.integers(0, 30, 45)
    identity[identity < 0] = -1
    cameras = np.arange(45) % 3
    known = Known.of(features, identity, units, cameras, 4)
    bare, plain = [], features.numpy()
    for row, camera in zip(plain, cameras, strict=True):
        seen = len(set(identity[(cameras == camera) & (identity >= 0)]))
        own, everywhere = plain[cameras == camera].mean(0), plain.mean(0)
        bare.append(row - (seen * own + 2 * everywhere) / (seen + 2))
    features = normalize(torch.from_numpy(np.stack(bare)), dim=1)
    np.testing.assert_allclose(known.looks[3], plain.mean(0), atol=1e-6)  # a camera that no image is of
    queries = look_of([1, 7], seed=3)
    similar = (queries @ features.T).numpy()
    slow = [[row[identity == number].max() for number in (0, 2, 4, 6)] for row in similar]
    np.testing.assert_allclose(known.nearest(queries), slow, atol=1e-6)
    assert known.numbers.tolist() == [0, 2, 4, 6]
    home, away, rows = [], [], features.numpy()
    for pair in sorted({(unit, number) for unit, number in zip(units, identity, strict=True) if number >= 0}):
        own = (units == pair[0]) & (identity == pair[1])
        mean = rows[own].mean(0) / np.linalg.norm(rows[own].mean(0))
        mates = (identity == pair[1]) & ~own
        home.append((rows[mates] @ mean).max() if mates.any() else -1)
        away.append((rows[(identity >= 0) & (identity != pair[1])] @ mean).max())
    home, away = np.array(home), np.array(away)
    rule = find_rule(known)
    assert rule.near == pytest.approx(max(np.quantile(away, 0.99), np.quantile(home[home > -1], 0.1)), abs=1e-5)
    more, less = rule.near + 0.01, rule.near - 0.01
    assert rule.accepts(torch.tensor([[more, less], [less, 0.0], [more, more]])).tolist() == [True, False, False]


def test_a_new_track_joins_as_one_and_an_old_one_goes_on(tmp_path):
    footage = Footage(people=5, cameras=4, own=0.3)
    paths = [f"{number}.jpg" for number in range(len(footage.sightings))]
    crops = Crops(tmp_path, paths, footage.sightings, footage.features, [])
    tracks = footage.images.tracks.numpy()
    is_new = tracks == tracks.max()
    is_new[:3] = True  # the first images of a track that goes on
    old = np.flatnonzero(~is_new)
    some = crops._replace(
        paths=[paths[row] for row in old],
        sightings=[footage.sightings[row] for row in old],
        features=footage.features[old],
    )
    before = write_identities(tmp_path / "out", some, PseudoLabeler(eps=0.6, k1=20)).identity.numpy()
    joining = JoiningLabeler(PseudoLabeler(eps=0.6, k1=20), load_known(tmp_path / "out", crops, tmp_path))
    found = write_identities(tmp_path / "new", crops, joining, joining).identity.numpy()
    assert (found[old] == before).all() and len(set(found[tracks == 0])) == 1
    assert set(found[is_new & (tracks > 0)]) == {before[footage.people[old] == footage.people[-1]][0]}


def test_of_two_new_tracks_seen_together_one_joins_an_identity(tmp_path):
    old = make_crops(tmp_path, [person for person in range(PEOPLE) for _ in range(OF_EACH)])
    before = write_identities(tmp_path / "out", old, PseudoLabeler(eps=0.5, k1=10, k2=3)).identity
    new = make_crops(tmp_path, [2] * 8, seed=1, start=500, noise=0.2)
    sightings = [Sighting("camera0", track, frame) for track in "ab" for frame in range(4)]
    crops = together(new._replace(sightings=sightings), old)
    joining = JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), load_known(tmp_path / "out", crops, tmp_path))
    found = write_identities(tmp_path / "new", crops, joining, joining).identity
    assert len(set(found[:4].tolist())) == len(set(found[4:8].tolist())) == 1
    cameras = torch.tensor([int(name[-1]) for name in old.cameras])
    looks = camera_looks(old.features, cameras, before, 3)
    bare = without_looks(old.features, looks, cameras)[before == before[2 * OF_EACH]]
    tracks = without_looks(new.features, looks, torch.zeros(8, dtype=torch.int64)).split(4)
    means = normalize(torch.stack([track.mean(0) for track in tracks]), dim=1)
    winner = int((means @ bare.T).amax(1).argmax())
    assert found[4 * winner] == before[2 * OF_EACH] != found[4 * (1 - winner)]


def test_new_images_are_compared_without_what_their_camera_makes_alike(tmp_path):
    tint = normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(5)), dim=1)

    def tinted(crops):
        cameras = torch.tensor([int(name[-1]) for name in crops.cameras])
        return crops._replace(features=normalize(crops.features + 2 * tint[cameras], dim=1))

    old = tinted(make_crops(tmp_path, [person for person in range(PEOPLE) for _ in range(OF_EACH)], noise=0.1))
    before = torch.arange(PEOPLE).repeat_interleave(OF_EACH)
    write_identities(tmp_path / "out", old, labeler_of(before))
    newcomers = [0, 1, 2, 3, 20, 21, 22, 23]
    crops = tinted(make_crops(tmp_path, newcomers, seed=1, start=500, noise=0.05))
    joined_to = load_known(tmp_path / "out", crops, tmp_path / "new")
    looks = joined_to.known.looks
    assert len(looks) == 3
    for camera, name in enumerate(sorted(set(old.cameras))):
        own = old.features[[row for row, seen in enumerate(old.cameras) if seen == name]].mean(0)
        everywhere = old.features.mean(0)
        torch.testing.assert_close(looks[camera], (PEOPLE * own + 2 * everywhere) / (PEOPLE + 2))
    joining = JoiningLabeler(PseudoLabeler(eps=0.5, k1=10, k2=3), joined_to)
    joining(crops.features, crops.images)
    assert joining.identities.tolist() == [0, 1, 2, 3, -2, -2, -2, -2]


def test_results_that_nothing_can_join(call, tmp_path, root):
    assert call()[0] == 0
    assert_one_sentence(call(into=tmp_path / "nowhere"), tmp_path / "nowhere", "identities.csv")
    saved = load_features(tmp_path / "given.npz")
    save_features(tmp_path / "other.npz", saved.features, saved.paths, model="large 4567")
    result = call(features=tmp_path / "other.npz", into=tmp_path / "out")
    assert_one_sentence(result, tmp_path / "out", "small 0123", "large 4567", "--weights of the same model")
    save_features(tmp_path / "other.npz", normalize(saved.features[:, :5], dim=1), saved.paths)
    assert_one_sentence(call(features=tmp_path / "other.npz", into=tmp_path / "out"), "32 numbers", "(5)")
    alone = write_answers(tmp_path / "alone.csv", *(("nobody", path) for path in saved.paths[OF_EACH:]))
    assert call(corrections=alone, out=tmp_path / "alone")[0] == 0
    assert_one_sentence(call(into=tmp_path / "alone"), tmp_path / "alone", "no two identities")


def test_earlier_results_whose_files_do_not_fit_together(call, tmp_path):
    assert call()[0] == 0
    saved = load_features(tmp_path / "given.npz")
    for rows in (range(20), [0, *range(len(saved.paths))]):
        paths = [saved.paths[row] for row in rows]
        save_features(tmp_path / "out" / "features.npz", saved.features[list(rows)], paths, model=saved.model)
        assert_one_sentence(
            call(into=tmp_path / "out", out=tmp_path / "new"), tmp_path / "out", "not of the same images"
        )


def test_results_of_an_earlier_version_take_new_images(call, tmp_path, root):
    """Without cameras in the table, and without model, settings and the next number beside the features."""
    assert call()[0] == 0
    before, saved = identities_in(tmp_path / "out"), load_features(tmp_path / "given.npz")
    np.savez(tmp_path / "out" / "features.npz", features=saved.features.numpy(), paths=np.array(saved.paths))
    table = "".join(f"{path},{identity}\n" for path, identity in before.items())
    (tmp_path / "out" / "identities.csv").write_text(f"path,identity\n{table}")
    for path in saved.paths[::2]:  # half of the images are deleted since
        (root / path).unlink()
    save_features(tmp_path / "less.npz", saved.features[1::2], saved.paths[1::2], {"k1": 10, "k2": 3}, saved.model)
    code, _, error = call(features=tmp_path / "less.npz", into=tmp_path / "out", out=tmp_path / "new")
    assert code == 0, error
    assert identities_in(tmp_path / "new") == {path: before[path] for path in saved.paths[1::2]}


def test_the_tool_takes_new_images_into_a_result_and_its_answers_along(call, tmp_path, root):
    answers = write_answers(tmp_path / "answers.csv", ("name", one_of(root, 2), "", "Zoë"), ("nobody", one_of(root, 0)))
    assert call(corrections=answers)[0] == 0
    before = identities_in(tmp_path / "out")
    shutil.copy(root / one_of(root, 4), root / "camera1" / "04_900.jpg")
    saved = load_features(tmp_path / "given.npz")
    features = torch.cat([look_of([4], seed=9), saved.features])
    paths = ["camera1/04_900.jpg", *saved.paths]
    save_features(tmp_path / "more.npz", features, paths, {"k1": 10, "k2": 3}, saved.model)
    code, _, error = call(features=tmp_path / "more.npz", into=tmp_path / "out")
    assert code == 0, error
    found = identities_in(tmp_path / "out")
    assert found.pop("camera1/04_900.jpg") == before[one_of(root, 4)] and found == before
    assert load_names(tmp_path / "out") == {int(before[one_of(root, 2)]): "Zoë"}


def test_features_name_their_model(tmp_path):
    root, weights = tmp_path / "crops", save_model(tmp_path / "model.pth.tar", 0)
    for number in range(6):
        save_image(root / f"{number}.png", number)
    common = [f"--root={root}", "--device=cpu", "--min-samples=2", "--k1=3", "--k2=1", "--eps=0.9"]
    assert assign_identities.main([f"--weights={weights}", f"--out={tmp_path / 'one'}", *common]) == 0
    other = save_model(tmp_path / "other.pth.tar", 1)
    assert assign_identities.main([f"--weights={other}", f"--out={tmp_path / 'two'}", *common]) == 0
    models = [load_features(tmp_path / name / "features.npz").model for name in ("one", "two")]
    assert models[0] != models[1] and all(model.startswith("shufflenet_v2_x0_5 ") for model in models)


@pytest.fixture
def corrected(root, tmp_path):
    """Crops of which the last image is nobody, their identities and a hostile name."""
    people = [person for person in range(PEOPLE) for _ in range(OF_EACH)]
    identity = torch.tensor(people)
    identity[-1], identity[identity == 1] = -1, 40
    crops = make_crops(root, people)
    return crops, compare_with_centroids(crops.features, identity), {40: '../<b>"=1\n'}


@pytest.mark.parametrize("kind", ["folders", "links"])
def test_a_folder_for_each_identity(corrected, tmp_path, kind):
    crops, identities, names = corrected
    written = export_identities(kind, tmp_path / "out", crops, identities, names)
    assert written == export_identities(kind, tmp_path / "out", crops, identities, names)  # in place of the first
    found = {folder.name: sorted(folder.iterdir()) for folder in written.iterdir()}
    assert [name[:4] for name in sorted(found)] == ["0000", "0002", "0003", "0004", "0005", "0040"]
    assert not set("".join(found)) & set('/<>"=\n')
    assert [len(files) for _, files in sorted(found.items())] == [8, 8, 8, 8, 7, 8]
    for files in found.values():
        for file in files:
            assert file.is_symlink() == (kind == "links") and file.read_bytes()


@pytest.mark.parametrize("kind", ["folders", "links", "coco"])
def test_an_export_shows_how_far_it_is(corrected, tmp_path, kind, bars):
    shown = bars()
    export_identities(kind, tmp_path / "out", *corrected)
    assert "export images: " in shown.getvalue()


def test_tables_for_other_programs(corrected, tmp_path):
    crops, identities, names = corrected
    with open(export_identities("csv", tmp_path, crops, identities, names), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == crops.paths[:-1]
    assert [int(row["identity"]) for row in rows] == identities.identity.tolist()[:-1]
    assert {row["name"] for row in rows} == {"", names[40]}
    coco = json.loads(export_identities("coco", tmp_path, crops, identities, names).read_text())
    assert [image["file_name"] for image in coco["images"]] == crops.paths
    assert [category["name"] for category in coco["categories"]][-1] == f"40 {names[40]}".strip()
    category = {row["id"]: int(row["name"].split()[0]) for row in coco["categories"]}
    image = {row["id"]: row for row in coco["images"]}
    assert [category[row["category_id"]] for row in coco["annotations"]] == identities.identity.tolist()[:-1]
    assert len({row["id"] for row in coco["annotations"]}) == len(coco["annotations"])
    for row in coco["annotations"]:
        assert row["bbox"] == [0, 0, 8, 16] == [0, 0, *(image[row["image_id"]][side] for side in ("width", "height"))]


def test_torchreid_trains_on_what_is_exported(corrected, tmp_path):
    crops, identities, names = corrected
    export_identities("market1501", tmp_path, crops, identities, names)
    datamanager = torchreid.data.ImageDataManager(
        root=str(tmp_path / "export"), sources="market1501", height=16, width=8, batch_size_train=8, workers=0,
        use_gpu=False,
    )  # fmt: skip
    train = datamanager.train_loader.dataset.data
    assert datamanager.num_train_pids == 4 and datamanager.num_train_cams == 3
    test = datamanager.test_loader["market1501"]
    query, gallery = (test[part].dataset.data for part in ("query", "gallery"))
    assert len(train) + len(gallery) == len(crops.paths) - 1
    assert len(query) == 2 * 3 and {path for path, *_ in train}.isdisjoint(path for path, *_ in gallery)
    groups = {}
    for path, person, camera, _ in train:
        row = int(path.rpartition("s1_")[2][:6])
        groups.setdefault(person, set()).add(identities.identity[row].item())
        assert crops.cameras[row] == f"camera{camera}"
    assert sorted(number for (number,) in groups.values()) == [2, 3, 4, 40]
    assert next(iter(datamanager.train_loader))["img"].shape == (8, 3, 16, 8)


def test_what_cannot_be_exported(corrected, tmp_path):
    crops, identities, names = corrected
    one_camera = crops._replace(sightings=[Sighting("")] * len(crops.paths))
    with pytest.raises(InputError, match="0 of the 6 identities were seen by two cameras"):
        export_identities("market1501", tmp_path, one_camera, identities, names)
    many = crops._replace(sightings=[Sighting(f"{row % 7}") for row in range(len(crops.paths))])
    with pytest.raises(InputError, match="7 cameras, and torchreid's market1501 takes at most 6"):
        export_identities("market1501", tmp_path, many, identities, names)
    nobody = compare_with_centroids(crops.features, torch.full((len(crops.paths),), -1))
    with pytest.raises(InputError, match="no identities to export as coco"):
        export_identities("coco", tmp_path, crops, nobody, names)


def holds(folder, *texts):
    """Files below a folder that hold one of the texts, in their bytes or their names."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                content = "\n".join(arrays["paths"].tolist()).encode()
        if any(text.encode() in content or text in path.name for text in texts):
            found.append(path)
    return found


@pytest.mark.parametrize("other", ["--export=csv", "--eps=0.5", "--into=earlier", "--weights=model.pth"])
def test_forgetting_does_nothing_else(call, capsys, other):
    with pytest.raises(SystemExit) as ended:
        call(other, features=None, forget="1")
    assert ended.value.code == 2
    assert f"--forget does nothing else: leave {other.split('=')[0]} out" in capsys.readouterr().err


def test_a_person_is_forgotten_everywhere(call, tmp_path, root):
    a, b = one_of(root, 2), one_of(root, 3)
    answers = write_answers(
        tmp_path / "answers.csv", ("name", a, "", "Zoë"), ("different", a, b), ("name", b, "", "Bea")
    )
    assert call("--export=csv", "--export=folders", corrections=answers)[0] == 0
    out, before = tmp_path / "out", identities_in(tmp_path / "out")
    assert holds(out, "/02_", "Zoë")
    code, output, error = call(features=None, forget="Zoë")
    assert code == 0, error
    assert not holds(out, "/02_", "Zoë", "02_0")
    assert identities_in(out) == {path: identity for path, identity in before.items() if "/02_" not in path}
    assert load_names(out) == {int(before[b]): "Bea"} and not (out / "export").exists()
    assert load_features(out / "features.npz").features.shape == (40, 32)
    assert len(list((out / "page" / "thumbnails").rglob("*.jpg"))) == 40
    for path in root.rglob("02_*.jpg"):
        assert str(path) in output
    assert "crops.features.npz" in output and "crops.features-by-camera.npz" in output and "Not reached" in output
    # Its number stays unused, also of the highest.
    highest = str(max(map(int, identities_in(out).values())))
    assert call(features=None, forget=highest)[0] == 0
    assert load_earlier(out).next_identity > int(highest)
    assert_one_sentence(call(features=None, forget=highest), highest, "no identity")
    assert_one_sentence(call(features=None, forget="Eve"), "'Eve'", out)
    assert_one_sentence(call(features=None, forget="1", out=tmp_path / "nowhere"), "nowhere", "identities.csv")


def test_a_name_that_is_a_number_forgets_nobody_else(call, tmp_path, root):
    answers = write_answers(
        tmp_path / "answers.csv", ("name", one_of(root, 0), "", "3"), ("name", one_of(root, 1), "", "=1+1")
    )
    assert call(corrections=answers)[0] == 0
    before = identities_in(tmp_path / "out")
    own = before[one_of(root, 0)]
    assert_one_sentence(call(features=None, forget="3"), "'3'", f"give {own} if that is meant")
    assert call(features=None, forget="=1+1")[0] == 0  # which names.csv keeps from spreadsheets
    assert call(features=None, forget=own)[0] == 0
    assert identities_in(tmp_path / "out") == {
        path: number for path, number in before.items() if number not in (own, before[one_of(root, 1)])
    }


def test_forgetting_where_the_images_are_elsewhere(call, tmp_path, root):
    assert call()[0] == 0
    before = identities_in(tmp_path / "out")
    moved = root.rename(tmp_path / "moved")
    assert_one_sentence(call(features=None, forget="1"), root, "set --root")
    assert identities_in(tmp_path / "out") == before
    (moved / one_of(moved, 2)).unlink()
    code, output, _ = call(features=None, forget=before[one_of(moved, 0)], root=moved)
    assert code == 0 and f"1 images of others are not in {moved}" in output
    assert len(list((tmp_path / "out" / "page" / "thumbnails").rglob("*.jpg"))) == (PEOPLE - 1) * OF_EACH - 1


def test_the_tool_still_asks_for_a_model_or_features(call):
    with pytest.raises(SystemExit):
        call(features=None)
