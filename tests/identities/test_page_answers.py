"""Answers on the page of identities: what they make of it, the rows that they leave, and that they are not lost."""

import csv
import io
from pathlib import Path

import pytest
import torch
from crops import ODD_PATHS, draw
from pages import Shown, accessibility_complaints, files, wait_until
from playwright.sync_api import expect
from torch.nn.functional import normalize

from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.identities import compare_with_centroids

NUM_IDENTITIES, IMAGES_EACH, NUM_OUTLIERS = 6, 5, 3
HOSTILE = '<img src=x onerror=window.ran=1>, "=1+1" and \'</script>'
OUTLIER = -1


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Six identities; the first two images of the last one are a track."""
    folder = tmp_path_factory.mktemp("answers")
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(NUM_IDENTITIES).repeat_interleave(IMAGES_EACH)
    labels = torch.cat([labels, torch.full((NUM_OUTLIERS,), OUTLIER)])
    centres = torch.randn(NUM_IDENTITIES + 1, 8, generator=generator)
    features = normalize(centres[labels] + 0.5 * torch.randn(len(labels), 8, generator=generator), dim=1)
    paths = [f"{'lonely' if label < 0 else label}_{index}.jpg" for index, label in enumerate(labels.tolist())]
    for index, path in enumerate(paths):
        draw(folder / "crops", path, colour=(7 * index, 255 - 7 * index, 128))
    first = (NUM_IDENTITIES - 1) * IMAGES_EACH
    sightings = [Sighting(f"c{index % 2}" if index // 2 * 2 != first else "c0") for index in range(len(paths))]
    for frame, index in enumerate((first, first + 1)):
        sightings[index] = Sighting("c0", "7", frame)
    cameras = [seen.camera for seen in sightings]
    return Shown(folder, paths, cameras, compare_with_centroids(features, labels), sightings)


def groups(page):
    """Images of each identity as their file names say, whatever its number, and the names that are given."""
    cards = page.locator("#results .card").evaluate_all(
        """(cards) => cards.map((card) =>
            [card.querySelector("h2").textContent, [...card.querySelectorAll("img")].map((image) => image.alt)])"""
    )
    return {title: sorted(images) for title, images in cards}


def saved(page):
    """Rows of the file that the button gives."""
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "corrections.csv"
    return Path(download.value.path()).read_text(encoding="utf-8")


def rows(text):
    header, *found = csv.reader(io.StringIO(text, newline=""))
    assert header == ["answer", "path", "other", "name"]
    return [tuple(row) for row in found]


def central(shown, number):
    members = shown.members(number)
    return shown.paths[members[int(shown.identities.similarity[members].argmax())]]


def answer(page, way, key, scope="#results .card:focus"):
    """Gives an answer by its key or with the pointer."""
    if way == "keyboard":
        page.keyboard.press(key)
    else:
        page.locator(f"{scope} [data-key={key}]").click()


WAYS = pytest.mark.parametrize("way", ["keyboard", "pointer"])


@WAYS
def test_hard_cases_take_an_answer_a_key(open_page, shown, way):
    page = open_page(shown.address)
    page.keyboard.press("2")
    names, found = files(page)[:5], shown.identities
    images = [shown.paths.index(name) for name in names]
    own = [found.identity[image].item() for image in images]
    cards = page.locator("#results .card")
    for place, key in enumerate("cra"):
        cards.nth(place).focus()
        answer(page, way, key)
    cards.nth(3).focus()
    answer(page, way, "o")
    other = next(n for n in range(NUM_IDENTITIES) if n not in (own[3], found.runner_up[images[3]].item()))
    page.fill("#choiceQuery", str(other))
    page.keyboard.press("Enter")
    cards.nth(4).focus()
    answer(page, way, "x")
    assert page.locator(".card.answered").count() == 5
    table = rows(saved(page))
    runner_up = found.runner_up[images[1]].item()
    assert ("same", names[1], central(shown, runner_up), "") in table
    assert ("same", names[3], central(shown, other), "") in table
    assert table[-1] == ("nobody", names[4], "", "") and table[0][:2] == ("same", names[0])
    for place in (1, 2, 3):
        parted = [row for row in table if row[:2] == ("different", names[place])]
        assert parted and all(found.identity[shown.paths.index(row[2])] == own[place] for row in parted)
    page.keyboard.press("1")
    now = groups(page)
    assert names[0] in now[f"Identity {own[0]}"] and names[1] in now[f"Identity {runner_up}"]
    assert now["New identity 1"] == [names[2]] and names[3] in now[f"Identity {other}"]
    assert not any(names[4] in images for images in now.values())
    page.keyboard.press("5")
    assert files(page) == [names[4]]
    page.keyboard.press("2")
    assert not set(names) & set(files(page))


def test_after_a_key_the_next_question_has_the_focus(open_page, shown):
    page = open_page(shown.address + "#view=hard")
    page.keyboard.press("c")
    assert page.locator(".card.answered").count() == 0  # nobody has seen a question yet
    focused = "[...document.querySelectorAll('#results .card')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 0
    page.keyboard.press("c")
    assert page.evaluate(focused) == 1 and page.locator(".card.answered").count() == 1
    page.keyboard.press("u")
    assert page.locator(".card.answered").count() == 0
    page.keyboard.press("Shift+U")
    assert page.locator(".card.answered").count() == 1
    page.keyboard.press("Control+z")
    assert page.locator(".card.answered").count() == 0 and page.locator("#undo").is_disabled()


@WAYS
def test_an_outlier_joins_an_identity_or_becomes_one(open_page, shown, way):
    page = open_page(shown.address)
    page.keyboard.press("3")
    first, second, _ = files(page)
    nearest = shown.identities.runner_up[shown.paths.index(first)].item()
    for place, key in enumerate("ra"):
        page.locator("#results .card").nth(place).focus()
        answer(page, way, key)
    page.keyboard.press("1")
    now = groups(page)
    assert first in now[f"Identity {nearest}"] and now["New identity 1"] == [second]
    assert rows(saved(page))[0] == ("same", first, central(shown, nearest), "")


@WAYS
def test_ticked_images_are_split_off_and_an_identity_is_named_and_merged(open_page, shown, way):
    page = open_page(shown.address + "#open=1")
    dialog = page.locator("#identity")
    members = shown.members(1)
    parted = [shown.paths[image] for image in members if shown.paths[image] != central(shown, 1)][:2]
    for path in parted:
        button = dialog.locator(f'[data-image="{shown.paths.index(path)}"]')
        if way == "keyboard":
            button.focus()
            page.keyboard.press("t")
        else:
            dialog.get_by_label(f"Tick {path}").check()
    expect(dialog.locator(".asked")).to_have_text("2 ticked images")
    answer(page, way, "a", "#identity")
    assert dialog.locator(".grid button").count() == IMAGES_EACH - 2
    dialog.locator("#name").fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(dialog.locator("h2")).to_have_text(HOSTILE)
    answer(page, way, "m", "#identity")
    page.locator("#choiceQuery").fill("identity 3")
    if way == "keyboard":
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    else:
        page.locator("#choiceList button").first.click()
    assert dialog.locator(".grid button").count() == 2 * IMAGES_EACH - 2
    table = rows(saved_from_dialog(page))
    split = [row for row in table if set(row[1:3]) & set(parted)]
    assert [row[0] for row in split] == ["different", "same"] and set(split[1][1:3]) == set(parted)
    assert ("name", central(shown, 1), "", HOSTILE) in table
    assert ("same", central(shown, 3), central(shown, 1), "") in table
    assert groups(page)["New identity 1"] == sorted(parted)
    assert page.locator("#results h2").filter(has_text=HOSTILE).count() == 1
    assert page.evaluate("window.ran") is None and page.locator("[onerror], [src=x]").count() == 0


def saved_from_dialog(page):
    page.keyboard.press("Escape")
    expect(page.locator("#identity")).not_to_be_visible()
    return saved(page)


@WAYS
def test_the_open_image_takes_every_answer(open_page, shown, way):
    page = open_page(shown.address + "#open=2")
    dialog = page.locator("#identity")
    for key, left in (("c", 5), ("r", 4), ("x", 3), ("a", 2), ("u", 3)):
        if key == "u" and way == "pointer":
            dialog.get_by_role("button", name="Undo").click()
        else:
            answer(page, way, key, "#identity")
        assert dialog.locator(".grid button").count() == left
    assert dialog.locator(".member.answered").count() >= 1
    answer(page, way, "o", "#identity")
    page.fill("#choiceQuery", "4")
    page.keyboard.press("Enter")
    assert dialog.locator(".grid button").count() == 2


def test_doubtful_images_are_ticked_together(open_page, shown):
    page = open_page(shown.address + "#open=0")
    similarities = sorted(shown.identities.similarity[shown.members(0)].tolist(), reverse=True)
    gaps = {place: similarities[place - 1] - similarities[place] for place in range(3, IMAGES_EACH)}
    page.keyboard.press("g")
    assert page.locator(".member :checked").count() == IMAGES_EACH - max(gaps, key=gaps.get)


@WAYS
def test_suggested_merges_come_likeliest_first_with_both_sides(open_page, shown, way):
    page = open_page(shown.address)
    page.keyboard.press("4")
    found, sums = shown.identities, {}
    for image, number in enumerate(found.identity.tolist()):
        if number != OUTLIER:
            pair = tuple(sorted((number, found.runner_up[image].item())))
            sums[pair] = sums.get(pair, 0) + found.runner_up_similarity[image].item() / IMAGES_EACH / 2
    expected = [f"Identity {one}, Identity {other}" for one, other in sorted(sums, key=sums.get, reverse=True)]
    cards = page.locator("#results .card")
    sides = [", ".join(card.locator("h3").all_text_contents()) for card in cards.all()]
    assert sides == expected
    cards.nth(1).focus()
    answer(page, way, "a")
    expect(cards.nth(1)).to_contain_text("two people")
    cards.nth(0).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pair h3")).to_have_text(expected[0].split(", "))
    assert page.locator("#pair .tile").count() == 2 * IMAGES_EACH
    answer(page, way, "c", "#pair")
    expect(page.locator("#pair")).not_to_be_visible()
    expect(cards.nth(0)).to_contain_text("merged")
    one, other = sorted(sums, key=sums.get, reverse=True)[0]
    assert rows(saved(page))[1] == ("same", central(shown, one), central(shown, other), "")
    page.keyboard.press("4")
    assert page.locator("#results .card").count() == len(expected) - 2


def test_a_track_is_answered_as_a_whole(open_page, shown):
    number, first = NUM_IDENTITIES - 1, (NUM_IDENTITIES - 1) * IMAGES_EACH
    page = open_page(shown.address + f"#open={number}&image={first}")
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    page.keyboard.press("5")
    assert sorted(files(page)) == shown.paths[first : first + 2]
    assert len(rows(saved(page))) == 1


def test_answers_survive_a_reload_with_their_undo_and_come_to_other_windows(browser, open_page, shown):
    context = browser.new_context()
    page, window = (open_page(shown.address + "#view=hard", context) for _ in range(2))
    names = files(page)
    for one in (page, window):
        one.keyboard.press("2")
    page.keyboard.press("x")
    page.keyboard.press("x")
    wait_until(window, "document.querySelectorAll('.card.answered').length === 2")
    window.keyboard.press("u")
    window.keyboard.press("c")
    wait_until(page, "document.querySelector('.card.answered [data-key=c]')?.ariaPressed === 'true'")
    assert saved(page) == saved(window)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert not set(names[:1]) & set(files(page))
    before = saved(page)
    page.keyboard.press("u")
    assert rows(saved(page)) == [("nobody", names[0], "", "")]
    page.reload()
    page.wait_for_selector("html[data-ready]")
    page.keyboard.press("Shift+U")
    assert saved(page) == before
    page.keyboard.press("+")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator("#brightnessValue")).to_have_text("125%")
    assert page.locator(".tile img").first.evaluate("image => getComputedStyle(image).filter") == "brightness(1.25)"
    context.close()


def test_a_saved_file_goes_on_elsewhere(open_page, shown, tmp_path):
    page = open_page(shown.address + "#view=hard")
    for key in "ccrxa":
        page.keyboard.press(key)
    text = saved(page)
    page.keyboard.press("1")
    expected = groups(page)
    file = tmp_path / "corrections.csv"
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    other = open_page(shown.address)
    other.set_input_files("#file", file)
    expect(other.locator(".bar .said")).to_contain_text("all of them new")
    assert groups(other) == expected and saved(other) == text
    for header in ("answer;path;other;name", '"answer";"path";"other";"name"'):
        lines = text.replace(",", ";").splitlines()  # no cell of it holds a comma
        file.write_text("\n".join([header, *lines[1:], ""]), encoding="utf-8")
        other.set_input_files("#file", file)
        expect(other.locator(".bar .said")).to_contain_text("0 of them new")
    assert saved(other) == text
    other.keyboard.press("u")
    assert len(groups(other)) == NUM_IDENTITIES


def test_answers_that_cannot_all_be_right_are_named(open_page, shown, tmp_path):
    a, b, c = (shown.paths[image] for image in shown.members(0)[:3])
    file = tmp_path / "corrections.csv"
    file.write_text(f"answer,path,other,name\nsame,{a},{b},\ndifferent,{a},{c},\nsame,{b},{c},\n", encoding="utf-8")
    page = open_page(shown.address, viewport={"width": 390, "height": 844})
    trouble = page.locator("#trouble")
    expect(trouble).to_be_hidden()
    page.set_input_files("#file", file)
    expect(page.locator(".bar .said")).to_contain_text("3 rows, all of them new")
    sentence = f"{a} and {c} are said to be two people, and one person by way of {b}"
    expect(trouble).to_contain_text(sentence)
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
    page.click("#undo")
    expect(trouble).to_be_hidden()
    page.click("#redo")
    expect(trouble).to_contain_text(sentence)
    page.reload()
    expect(trouble).to_contain_text(sentence)
    # The one who left is asked about once more: two people after all.
    alone = next(title for title, images in groups(page).items() if images == [a])
    page.locator("#results .card", has_text=alone).click()
    page.keyboard.press("b")
    page.fill("#choiceQuery", "Identity 0")
    page.keyboard.press("Enter")
    page.keyboard.press("a")
    expect(trouble).to_be_hidden()
    expect(page.locator(".bar .said")).to_contain_text(f"takes back that {a} and {b} are one person")


def test_an_answer_says_what_it_takes_back(open_page, shown):
    page = open_page(shown.address + "#view=hard&sort=runnerUp")
    page.keyboard.press("c")
    page.keyboard.press("c")
    name = files(page)[0]
    expect(page.locator(".bar .said")).not_to_contain_text("takes back")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("r")
    own = shown.identities.identity[shown.paths.index(name)].item()
    expect(page.locator(".bar .said")).to_contain_text(
        f"That takes back that {name} and {central(shown, own)} are one person."
    )


NO_CORRECTIONS = [
    (b"path,identity\n", "the first line is not"),
    (b"answer,path,other,name\nsame,0_0.jpg,elsewhere/a.jpg,\n", "elsewhere/a.jpg"),
    (b"answer,path,other,name\nperhaps,0_0.jpg,0_1.jpg,\n", "perhaps"),
    (b"answer,path,other,name\nsame,0_0.jpg,0_0.jpg,\n", "with itself"),
    (b"answer,path,other,name\nnobody,0_0.jpg\n", "2 cells"),
    (b'answer,path,other,name\nnobody,"0_0.jpg,,\n', "quotation mark"),
    ("answer,path,other,name\nname,0_0.jpg,,\u00e9\n".encode("latin-1"), "UTF-8"),
]


def test_a_file_that_is_no_corrections_of_these_images_changes_nothing(open_page, shown, tmp_path):
    page = open_page(shown.address)
    for text, reason in NO_CORRECTIONS:
        (tmp_path / "some.csv").write_bytes(text)
        page.set_input_files("#file", tmp_path / "some.csv")
        expect(page.locator(".bar .said")).to_contain_text(reason)
        assert page.locator("#undo").is_disabled()


def test_odd_names_go_out_and_come_back(open_page, tmp_path):
    for number, path in enumerate(ODD_PATHS):
        draw(tmp_path / "crops", path, colour=(20 * number, 0, 0))
    features = normalize(torch.rand(len(ODD_PATHS), 4, generator=torch.Generator().manual_seed(0)), dim=1)
    identities = compare_with_centroids(features, torch.arange(len(ODD_PATHS)) % 2)
    shown = Shown(tmp_path, ODD_PATHS, ["c"] * len(ODD_PATHS), identities)
    page = open_page(shown.address + "#view=hard")
    for _ in range(len(ODD_PATHS) + 1):
        page.keyboard.press("x")
    text = saved(page)
    written = [path.encode("utf-8", "backslashreplace").decode() for path in ODD_PATHS]
    assert {row[1].removeprefix("./") for row in rows(text)} == set(written)
    assert "./=1+1.jpg" in {row[1] for row in rows(text) if row[1].startswith("./")} or "/=1+1.jpg" in text
    (tmp_path / "corrections.csv").write_text(text, encoding="utf-8", newline="")
    other = open_page(shown.address)
    other.set_input_files("#file", tmp_path / "corrections.csv")
    expect(other.locator(".bar .said")).to_contain_text("all of them new")
    other.keyboard.press("5")
    assert sorted(files(other)) == sorted(ODD_PATHS)


def test_answers_that_the_result_respects_are_known(open_page, tmp_path):
    paths = [f"{number}.jpg" for number in range(7)]
    for path in paths:
        draw(tmp_path / "crops", path)
    angles = torch.tensor([0.0, 0.1, 0.2, 1.2, 1.3, 1.4, 0.7])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    identities = compare_with_centroids(features, torch.tensor([0, 0, 0, 1, 1, 1, -1]))
    answers = [
        ("same", "0.jpg", "2.jpg", ""),
        ("name", "1.jpg", "", "Ann"),
        ("nobody", "6.jpg", "", ""),
        ("nobody", "gone.jpg", "", ""),
    ]
    page = open_page(Shown(tmp_path, paths, ["c"] * 7, identities, answers=answers).address + "#open=0&image=0")
    expect(page.locator("#identity h2")).to_have_text("Ann")
    assert page.locator(".member.answered").count() == 1
    assert page.locator("#undo").is_disabled()
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    table = rows(saved(page))
    # It was said to be the same as an image that stays: that is taken back, and nobody else moves.
    assert ("different", "0.jpg", "2.jpg", "") in table and ("same", "0.jpg", "4.jpg", "") in table
    now = groups(page)
    assert now == {"Ann": paths[1:3], "Identity 1": [paths[0], *paths[3:6]]}
    page.keyboard.press("5")
    assert files(page) == ["6.jpg"]


def test_a_narrow_window_has_room_for_every_answer(open_page, shown):
    page = open_page(shown.address, viewport={"width": 390, "height": 844}, has_touch=True)
    widths = "[...document.querySelectorAll('html, dialog[open]')].every((one) => one.scrollWidth <= 390)"
    for view, key in (("hard", "x"), ("outliers", "r"), ("merges", "a"), ("nobody", "r")):
        page.tap(f"[data-view={view}]")
        page.locator(f"#results [data-key={key}]").first.tap()
        assert page.locator(".card.answered").count() >= 1 and page.evaluate(widths)
    page.locator("#results [data-key=o]").first.tap()
    assert page.evaluate(widths)
    page.keyboard.press("Escape")
    page.evaluate("location.hash = 'view=merges&beside=0+1'")
    expect(page.locator("#pair")).to_be_visible()
    assert page.evaluate(widths)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_passes_the_accessibility_checks(open_page, shown, theme):
    page = open_page(shown.address, color_scheme=theme)
    complaints = accessibility_complaints(page)
    states = ["identities", "2", "c", "3", "4", "a", "view=merges&beside=0+1", "view=nobody", "open=2", "?"]
    for state in states:
        if "=" in state:
            page.evaluate(f"location.hash = '{state}'")
            page.wait_for_timeout(50)
        elif len(state) == 1:
            page.keyboard.press(state)
        assert complaints() == "[]", state
