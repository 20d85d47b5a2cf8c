"""Which questions are asked first, against averages taken pair by pair, and what the page makes of the answers."""

import itertools
from dataclasses import replace

import pytest
import torch
from crops import draw
from made_up_footage import LENGTH, Footage
from pages import Shown, accessibility_complaints
from playwright.sync_api import expect
from torch.nn.functional import normalize

from hhcl_torchreid.data.corrections import read_corrections
from hhcl_torchreid.identities import compare_with_centroids, find_questions
from hhcl_torchreid.labels import Images

# Who is on the images of each identity: "b" is in another one's, "c" in two, and of "d" one is left out.
PEOPLE = {0: "aaaaaabbbb", 1: "cccccc", 2: "ccccc", 3: "ddddd", 4: "eeee", 5: "ffff", -1: "d"}


def look_at(people, noise, seed=0, dimensions=16):
    centres = torch.randn(26, dimensions, generator=torch.Generator().manual_seed(5))
    looks = centres[[ord(person) - ord("a") for person in people]]
    return normalize(looks + noise * torch.randn(looks.shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def images_of(number):
    unknown = torch.full((number,), -1)
    return Images(tuple(map(str, range(number))), unknown + 1, unknown + 1, unknown, unknown)


@pytest.fixture(scope="module")
def found():
    labels = torch.tensor([number for number, people in PEOPLE.items() for _ in people])
    features = look_at("".join(PEOPLE.values()), 0.4)
    identities = compare_with_centroids(features, labels)
    return features, identities, find_questions(features, identities, images_of(len(labels)))


def test_what_moves_most_pairs_is_asked_first(found):
    _, _, questions = found
    worth = [question.worth for question in questions]
    assert worth == sorted(worth, reverse=True)
    merge, part = sorted(questions[:2], key=lambda question: len(question.images))
    assert (merge.images, merge.own, merge.other) == ((), 1, 2)
    assert (sorted(part.images), part.own) == ([6, 7, 8, 9], 0)
    outlier = next(question for question in questions if question.own == -1)
    assert (outlier.images, outlier.other) == ((34,), 3)
    assert 0 < worth[-1] < 3 < outlier.worth < 5 < worth[1] < worth[0] < 30  # of 5, 24 and 30 pairs


def without_cameras(features, cameras, labels):
    """Each image less the look of its camera: the mean, with two identities more that look as images of all do."""
    rows = []
    for image, camera in enumerate(cameras):
        people = len(set(labels[cameras == camera].tolist()) - {-1})
        look = (people * features[cameras == camera].mean(0) + 2 * features.mean(0)) / (people + 2)
        rows.append(features[image] - look)
    return normalize(torch.stack(rows))


def joins_of(features, members):
    """Each join of average linkage, one by one: both sides, and the mean similarity between them."""
    groups, joins = [frozenset([image]) for image in members], []

    def mean(one, other):
        return sum(float(features[i] @ features[j]) for i in one for j in other) / len(one) / len(other)

    while len(groups) > 1:
        one, other = max(itertools.combinations(groups, 2), key=lambda pair: mean(*pair))
        joins.append((one, other, mean(one, other)))
        groups = [group for group in groups if group not in (one, other)] + [one | other]
    return joins


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_those_of_average_linkage(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 4, (40,), generator=generator)
    features = look_at("abcdefgh" * 5, 0.8, seed)
    identities = compare_with_centroids(features, labels)
    cameras = torch.arange(40) // 17
    questions = find_questions(features, identities, replace(images_of(40), cameras=cameras))
    features = without_cameras(features, cameras, labels)
    members = {number: (labels == number).nonzero().flatten().tolist() for number in range(4)}
    expected = {}
    for number, rows in members.items():
        typical = max(rows, key=lambda image: identities.similarity[image])
        for one, other, similarity in joins_of(features, rows):
            for side, rest in ((one, other), (other, one)):
                if typical not in side and (typical in rest or len(side) <= len(rest)):
                    expected[side] = (number, similarity)
    parts = [question for question in questions if question.own >= 0 and question.images]
    assert len(parts) == sum(len(rows) - 1 for rows in members.values())
    for part in parts:
        number, similarity = expected[frozenset(part.images)]
        mean = features[list(part.images)].mean(0)
        assert part.own == number != part.other and part.similarity == pytest.approx(similarity, abs=1e-5)
        assert features[part.images[0]] @ mean == pytest.approx(
            float((features[list(part.images)] @ mean).max()), abs=1e-5
        )
    merges = [question for question in questions if not question.images]
    assert {(merge.own, merge.other) for merge in merges} == set(itertools.combinations(range(4), 2))
    for merge in merges:
        mean = (features[members[merge.own]] @ features[members[merge.other]].T).mean()
        assert merge.similarity == pytest.approx(float(mean), abs=1e-5)


def test_what_a_camera_makes_alike_is_no_reason_to_ask():
    people = "abcdefghijkl"
    cameras = torch.arange(2).repeat_interleave(60)
    looks = look_at("".join(person * 5 for person in people) * 2, 0.2)
    features = normalize(looks + 3 * normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(3)))[cameras])
    labels = torch.arange(24).repeat_interleave(5)  # each person is one at either camera
    images = replace(images_of(120), cameras=cameras)
    questions = find_questions(features, compare_with_centroids(features, labels), images)
    merges = [question for question in questions if not question.images]
    assert {(merge.own, merge.other) for merge in merges[:12]} == {(number, number + 12) for number in range(12)}


def test_a_very_large_identity_has_parts_too():
    people = "aab" * 1800
    labels = torch.zeros(len(people) + 5, dtype=torch.int64)
    labels[-5:] = 1
    features = look_at(people + "c" * 5, 0.3)
    questions = find_questions(features, compare_with_centroids(features, labels), images_of(len(labels)))
    assert questions[0].own == 0 and sorted(questions[0].images) == list(range(2, len(people), 3))
    assert len(questions) > 100 and sum(len(question.images) for question in questions) <= 100_000


def test_tracks_are_asked_about_as_wholes():
    footage = Footage(people=4)
    tracks = footage.images.tracks.tolist()
    labels = torch.from_numpy(footage.people // 2)
    questions = find_questions(footage.features, compare_with_centroids(footage.features, labels), footage.images)
    parts = [set(question.images) for question in questions if question.images]
    assert len(parts) == len(set(tracks)) - 2
    for part in parts:
        assert len(part) == LENGTH * len({tracks[image] for image in part})


@pytest.mark.parametrize(("labels", "number"), [([-1, -1], 0), ([0], 0), ([0, 0, 0], 2), ([0, -1], 1), ([0, 1], 1)])
def test_few_images_leave_few_questions(labels, number):
    features = look_at("abc"[: len(labels)], 0.4)
    identities = compare_with_centroids(features, torch.tensor(labels, dtype=torch.int64))
    questions = find_questions(features, identities, images_of(len(labels)))
    assert len(questions) == number and all(question.other != question.own for question in questions)


@pytest.fixture(scope="module")
def shown(found, tmp_path_factory):
    features, identities, questions = found
    folder = tmp_path_factory.mktemp("questions")
    paths = [f"{number}.jpg" for number in range(len(features))]
    for number, path in enumerate(paths):
        draw(folder / "crops", path, colour=(5 * number, 9, 9))
    return Shown(folder, paths, ["c"] * len(paths), identities, questions=questions)


def saved(page):
    with page.expect_download() as download:
        page.click("#save")
    return [row[:4] for row in read_corrections(download.value.path())]


def test_the_page_asks_them_in_their_order_and_then_image_by_image(open_page, shown, found):
    page = open_page(shown.address + "#view=hard")
    questions = found[2]
    first = [card.locator("h3").all_text_contents() for card in page.locator("#results .card").all()[:2]]
    part, merge = sorted(first, key=len, reverse=True)
    assert merge == ["Identity 1", "Identity 2"]
    other = next(question.other for question in questions if len(question.images) == 4)
    assert part == ["Identity 0", "4 images", f"Identity {other}"]
    expect(page.locator("#status")).to_contain_text("those worth most first")
    page.select_option("#sort", label="closest runner-up first")
    expect(page.locator("#status")).to_contain_text("34 images")


@pytest.mark.parametrize("key", "crax")
def test_an_answer_about_a_part_is_about_all_of_it(open_page, shown, found, key):
    page = open_page(shown.address + "#view=hard")
    part = next(question for question in found[2] if len(question.images) == 4)
    card = page.locator("#results .card").filter(has=page.get_by_role("heading", name="4 images"))
    card.focus()
    page.keyboard.press(key)
    expect(card).to_contain_text("Answered")
    files = [shown.paths[image] for image in part.images]
    rows = saved(page)
    page.keyboard.press("2")
    assert page.locator("#results .card").filter(has=page.get_by_role("heading", name="4 images")).count() == 0
    if key == "c":
        assert [row[:2] for row in rows] == [("same", files[0])]
    elif key == "r":
        assert (
            {row[1] for row in rows if row[0] == "same"}
            == {row[1] for row in rows if row[0] == "different"}
            == set(files)
        )
    elif key == "a":
        assert [row[:2] for row in rows] == [("different", files[0]), *(("same", file) for file in files[1:])]
    else:
        assert rows == [("nobody", file, "", "") for file in files]
    page.keyboard.press("u")
    page.keyboard.press("2")
    assert page.locator("#results .card").filter(has=page.get_by_role("heading", name="4 images")).count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_questions_pass_the_accessibility_checks_and_fit_a_narrow_window(open_page, shown, theme):
    page = open_page(shown.address + "#view=hard", color_scheme=theme)
    complaints = accessibility_complaints(page)
    for key in ("ArrowRight", "c", "a"):
        page.keyboard.press(key)
        assert complaints() == "[]", key
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
