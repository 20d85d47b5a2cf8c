"""The page of identities in headless Chromium: what it shows, and that file names never run."""

import pytest
import torch
from crops import ODD_PATHS, draw
from pages import Shown, files, titles, wait_until
from playwright.sync_api import expect
from torch.nn.functional import normalize

from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.identities import Identities, compare_with_centroids

SIZES = [4 + number % 6 for number in range(34)]  # more identities than a page shows
NUM_OUTLIERS = 5


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    labels = torch.cat([labels, torch.full((NUM_OUTLIERS,), -1)])
    centres = torch.randn(len(SIZES) + 1, 8, generator=generator)
    noise = torch.rand(len(SIZES) + 1, generator=generator)[labels].unsqueeze(1)
    features = normalize(centres[labels] + noise * torch.randn(len(labels), 8, generator=generator), dim=1)
    cameras = [f"c{(label.item() * index) % (label.item() % 4 + 1)}" for index, label in enumerate(labels)]
    paths = [
        f"{camera}/{label.item():04d}_{index}.jpg"
        for index, (camera, label) in enumerate(zip(cameras, labels, strict=True))
    ]
    for index, path in enumerate(paths):
        draw(folder / "crops", path, colour=(index, 255 - index, 128))
    return Shown(folder, paths, cameras, compare_with_centroids(features, labels))


@pytest.fixture
def page(open_page, shown):
    return open_page(shown.address)


def tightness(shown, number):
    return shown.identities.similarity[shown.members(number)].mean().item()


def num_cameras(shown, number):
    return len({shown.cameras[image] for image in shown.members(number)})


def test_it_opens_with_the_largest_identities_and_turns_pages(page, shown):
    expect(page.locator("h1")).to_have_text("Identities in crops")
    assert page.locator("#summary dd").all_inner_texts()[:3] == [str(len(shown.paths)), str(len(SIZES)), "4"]
    expect(page.locator("#settings")).to_have_text("eps 0.45 · k1 30")
    first = titles(page)
    assert len(first) == 30
    page.keyboard.press("n")
    assert page.locator(".pager").first.inner_text().split("\n")[1] == "page 2 of 2"
    both = first + titles(page)
    assert sorted(both) == list(range(len(SIZES)))
    assert [SIZES[number] for number in both] == sorted(SIZES, reverse=True)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("smallest first", lambda shown, number: SIZES[number]),
        ("most cameras first", lambda shown, number: -num_cameras(shown, number)),
        ("loosest first", tightness),
        ("tightest first", lambda shown, number: -tightness(shown, number)),
        ("by number", lambda shown, number: number),
    ],
)
def test_it_sorts_identities(page, shown, order, key):
    page.select_option("#sort", label=order)
    first = titles(page)
    keys = [round(key(shown, number), 3) for number in first]
    expected = sorted(round(key(shown, number), 3) for number in range(len(SIZES)))[:30]
    assert keys == pytest.approx(expected, abs=0.0011) and len(set(first)) == 30


def test_it_filters_by_size_cameras_and_tightness(page, shown):
    page.fill("#minImages", "8")
    assert set(titles(page)) == {number for number in range(len(SIZES)) if SIZES[number] >= 8}
    page.select_option("#spread", "3")
    both = {number for number in range(len(SIZES)) if SIZES[number] >= 8 and num_cameras(shown, number) >= 3}
    assert set(titles(page)) == both and both
    page.click("#reset")
    page.select_option("#spread", "one")
    assert set(titles(page)) == {number for number in range(len(SIZES)) if num_cameras(shown, number) == 1}
    page.click("#reset")
    page.select_option("#camera", label="c3")
    at_camera = {shown.identities.identity[index].item() for index, name in enumerate(shown.cameras) if name == "c3"}
    assert set(titles(page)) == at_camera - {-1}
    page.click("#reset")
    page.locator("#maxTightness").fill("0.9")
    assert set(titles(page)) == {number for number in range(len(SIZES)) if tightness(shown, number) <= 0.9}
    page.fill("#minImages", "1000")
    expect(page.locator("#results")).to_have_text("Nothing passes these filters.")
    page.click("#reset")
    assert len(titles(page)) == 30


def test_hard_cases_are_the_closest_decisions_first(page, shown):
    page.click("[data-view=hard]")
    margins = shown.identities.similarity - shown.identities.runner_up_similarity
    of_file = dict(zip(shown.paths, margins.tolist(), strict=True))
    expected = sorted(margin for margin in of_file.values() if margin == margin)[:48]
    assert [of_file[name] for name in files(page)] == pytest.approx(expected, abs=2e-4)
    page.select_option("#sort", label="lowest similarity first")
    similarity = dict(zip(shown.paths, shown.identities.similarity.tolist(), strict=True))
    lowest = sorted(value for value in similarity.values() if value == value)[:48]
    assert [similarity[name] for name in files(page)] == pytest.approx(lowest, abs=2e-4)
    # What an image is compared with: its identity, then the runner-up.
    image = shown.paths.index(files(page)[0])
    sides = page.locator("#results .card").first.locator("h3").all_text_contents()
    own, other = shown.identities.identity[image].item(), shown.identities.runner_up[image].item()
    assert sides == [f"Identity {own}", f"Identity {other}"]


def test_outliers_are_shown_with_the_nearest_identity(page, shown):
    page.keyboard.press("3")
    nearest = shown.identities.runner_up_similarity[-NUM_OUTLIERS:].sort(descending=True).indices
    assert files(page) == [shown.paths[-NUM_OUTLIERS:][index] for index in nearest]
    page.locator("#results .card").first.click()
    first = shown.paths.index(shown.paths[-NUM_OUTLIERS:][nearest[0]])
    expect(page.locator("#identityTitle")).to_have_text(f"Identity {shown.identities.runner_up[first].item()}")
    expect(page.locator("#identity aside dl")).to_contain_text("outlier")


def test_it_searches_file_names_in_every_view(page, shown):
    page.keyboard.press("/")
    page.keyboard.type("/0007_")
    assert titles(page) == [7]
    assert page.locator("#results .tile.found").count() == min(24, SIZES[7])
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    assert sorted(files(page)) == sorted(shown.paths[index] for index in shown.members(7))
    assert page.locator("#results mark").first.inner_text() == "/0007_"
    page.fill("#query", shown.paths[-1].upper())
    page.keyboard.press("Escape")
    page.click("[data-view=outliers]")
    page.fill("#query", shown.paths[-1].upper())
    assert files(page) == [shown.paths[-1]]


def test_an_identity_opens_by_keyboard_and_shows_its_images(page, shown):
    page.select_option("#sort", label="by number")
    page.locator("h1").click()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    dialog = page.locator("#identity")
    expect(dialog.locator("#identityTitle")).to_have_text("Identity 1")
    assert dialog.locator(".grid button").count() == SIZES[1]
    page.keyboard.press("n")
    expect(dialog.locator("#identityTitle")).to_have_text("Identity 2")
    shown_file = dialog.locator("aside dd").first.inner_text()
    similarities = shown.identities.similarity[shown.members(2)]
    assert shown_file == shown.paths[shown.members(2)[int(similarities.argmax())]]
    page.locator("#identity aside .neighbour").first.click()
    other = dialog.locator("#identityTitle").inner_text()
    assert other != "Identity 2"
    page.go_back()
    expect(dialog.locator("#identityTitle")).to_have_text("Identity 2")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    assert titles(page)[0] == 0


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """One identity of more images than a window shows, at cameras that are numbers; the last one is most typical."""
    folder = tmp_path_factory.mktemp("long")
    paths = [f"{number // 20}/{number:03d}.jpg" for number in range(80)]
    for number, path in enumerate(paths):
        draw(folder / "crops", path, colour=(number, 0, 0))
    angles = torch.linspace(1, 0, 80)
    mirrored = torch.cat([angles, -angles])  # whose mean is at angle 0
    found = compare_with_centroids(
        torch.stack([mirrored.cos(), mirrored.sin()], dim=1), torch.zeros(160, dtype=torch.int64)
    )
    found = Identities(*(values[:80] for values in vars(found).values()))
    return Shown(folder, paths, [path[0] for path in paths], found)


IN_VIEW = "(({top, bottom}) => top >= 0 && bottom <= innerHeight)(document.querySelector('%s').getBoundingClientRect())"


def test_an_identity_opens_at_its_beginning_or_at_the_image_asked_for(open_page, long):
    page = open_page(long.address + "#open=0")
    wait_until(page, IN_VIEW % "#identity .members h3")
    expect(page.locator("#identity .members h3")).to_have_text([f"camera {number} · 20 images" for number in range(4)])
    expect(page.locator("#identity aside dd").first).to_have_text("3/079.jpg")
    page = open_page(long.address + "#open=0&image=78")
    wait_until(page, IN_VIEW % '[data-image="78"]')


def test_a_narrow_window_shows_all_of_it(open_page, long):
    page = open_page(long.address)
    page.set_viewport_size({"width": 390, "height": 844})
    for view in ("identities", "outliers", "hard"):
        page.click(f"[data-view={view}]")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("[data-view=identities]")
    page.locator("#results .card").first.click()
    assert page.evaluate(IN_VIEW % "#identity .large")
    page.locator('[data-image="60"]').click()
    # The picture stands above the images, so it has to come back into view.
    expect(page.locator("#identity aside dd").first).to_have_text("3/060.jpg")
    wait_until(page, IN_VIEW % "#identity .large")


def test_the_address_brings_a_view_back(open_page, shown):
    page = open_page(shown.address + "#view=hard&minImages=8&sort=similarity")
    assert page.locator("#minImages").input_value() == "8"
    expect(page.locator("#views [aria-pressed=true]")).to_have_text("Hard cases")
    numbers = {shown.identities.identity[shown.paths.index(name)].item() for name in files(page)}
    assert numbers and all(SIZES[number] >= 8 for number in numbers)


def test_pictures_load_when_they_come_near_the_screen(browser, shown):
    page = browser.new_page(viewport={"width": 800, "height": 300})
    loaded = []
    page.on("request", lambda request: "thumbnails" in request.url and loaded.append(request.url))
    page.goto(shown.address)
    page.wait_for_selector("html[data-ready]")
    wait_until(page, "document.querySelector('.tile img').naturalWidth > 0")
    assert 0 < len(loaded) < page.locator(".tile img").count()
    page.close()


def test_the_theme_follows_the_system_and_the_button(page):
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) != dark
    page.emulate_media(color_scheme="light")
    page.click("#theme")
    assert page.evaluate(background) == dark


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The names that would run if any part of the page took them for more than text."""
    folder = tmp_path_factory.mktemp("<img src=x onerror='window.ran=1'>")
    for number, path in enumerate(ODD_PATHS):
        draw(folder / "crops", path, colour=(20 * number, 0, 0))
    cameras = [path.split("/")[0] for path in ODD_PATHS]
    features = normalize(torch.rand(len(ODD_PATHS), 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1] + [-1] * (len(ODD_PATHS) - 8))
    return Shown(folder, ODD_PATHS, cameras, compare_with_centroids(features, labels))


def test_no_file_name_runs_and_every_picture_loads(open_page, odd):
    assert odd.unreadable == 0
    page = open_page(odd.address)
    for view in "123":
        page.keyboard.press(view)
        wait_until(page, "[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    found = odd.identities
    # An outlier opens the identity that is nearest to it.
    opened = torch.where(found.identity < 0, found.runner_up, found.identity).tolist()
    for index, number in enumerate(opened):
        page.evaluate(f"location.hash = 'open={number}&image={index}'")
        wait_until(
            page, f"document.querySelector('#identity aside dd')?.textContent === window.identityData.path[{index}]"
        )
        wait_until(page, "document.querySelector('.large').naturalHeight > 0")
        # The picture itself, not the thumbnail that stands in for one that is gone.
        assert "thumbnails" not in page.locator(".large").get_attribute("src")
        assert page.locator("#identity aside dd").first.text_content() == ODD_PATHS[index]
    assert page.evaluate("window.ran") is None
    assert page.locator("script:not([src^='page/']), img[onerror], [src=x]").count() == 0


def test_odd_names_are_found(open_page, odd):
    page = open_page(odd.address + "#view=hard")
    for path in ODD_PATHS[:8]:
        if "\n" not in path:
            page.fill("#query", path)
            assert files(page) == [path]
    page.click("#reset")
    page.click("[data-view=outliers]")
    assert page.locator("#results .card").count() == len(ODD_PATHS) - 8


def test_the_data_hold_no_markup(odd, tmp_path_factory):
    out = next(path for path in tmp_path_factory.getbasetemp().iterdir() if "onerror" in path.name) / "out"
    data = (out / "page" / "data.js").read_text(encoding="ascii")
    assert "<" not in data and data.count("\n") == 1
    assert (out / "index.html").read_bytes().count(b"onerror") == 0


@pytest.mark.parametrize(
    ("label", "view", "text"),
    [(-1, "identities", "every image is an outlier"), (0, "outliers", "every image has an identity")],
)
def test_nothing_to_show_says_so(open_page, tmp_path, label, view, text):
    draw(tmp_path / "crops", "a.jpg")
    found = compare_with_centroids(torch.eye(2)[:1], torch.tensor([label]))
    page = open_page(Shown(tmp_path, ["a.jpg"], [""], found).address + f"#view={view}")
    expect(page.locator("#results")).to_contain_text(text)
    page.keyboard.press("2")


def test_a_number_that_nobody_has_any_more_leaves_no_gap(open_page, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        draw(tmp_path / "crops", name)
    found = compare_with_centroids(torch.eye(3), torch.tensor([5, 2, 5]))
    page = open_page(Shown(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], [""] * 3, found).address)
    assert titles(page) == [5, 2]
    page.evaluate("location.hash = 'open=3'")
    page.keyboard.press("2")
    page.keyboard.press("a")
    page.keyboard.press("a")
    page.keyboard.press("1")
    assert page.locator("#results .card h2").first.text_content().startswith("Identity")


def test_a_picture_that_is_gone_leaves_its_place(tmp_path):
    draw(tmp_path / "crops", "a.jpg")
    found = compare_with_centroids(torch.eye(2), torch.tensor([0, 0]))
    assert Shown(tmp_path, ["a.jpg", "gone.jpg"], ["", ""], found).unreadable == 1


def test_an_earlier_page_is_replaced(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        draw(tmp_path / "crops", name)
    Shown(tmp_path, ["a.jpg", "b.jpg"], ["", ""], compare_with_centroids(torch.eye(2), torch.tensor([0, 1])))
    Shown(tmp_path, ["b.jpg"], [""], compare_with_centroids(torch.eye(2)[:1], torch.tensor([0])))
    assert [path.name for path in (tmp_path / "out" / "page").rglob("*.jpg")] == ["0.jpg"]


def test_a_track_is_one_picture_that_opens_and_its_camera_says_when(open_page, tmp_path):
    frames = {"1": range(10, 40, 10), "2": range(200, 260, 10)}
    sightings = [Sighting("hall", track, frame) for track, seen in frames.items() for frame in seen]
    sightings += [Sighting("door", "1", 5), Sighting("door", "", -1), Sighting("door", "", -1)]
    paths = [f"{number}.jpg" for number in range(len(sightings))]
    for number, path in enumerate(paths):
        draw(tmp_path / "crops", path, colour=(20 * number, 9, 9))
    features = normalize(torch.randn(len(paths), 8, generator=torch.Generator().manual_seed(1)), dim=1)
    identities = compare_with_centroids(features, torch.zeros(len(paths), dtype=torch.int64))
    shown = Shown(tmp_path, paths, [seen.camera for seen in sightings], identities, sightings)
    page = open_page(shown.address + "#open=0")
    assert page.locator("#identity h3").all_text_contents()[:2] == [
        "door · 3 images · frame 5",
        "hall · 9 images · frames 10\u201330, 200\u2013250",
    ]
    buttons = page.locator("#identity .grid button")
    assert buttons.count() == 5
    tracks = page.locator("#identity .grid .track")
    assert sorted(tracks.evaluate_all("all => all.map((one) => one.dataset.images)")) == ["\u00d73", "\u00d76"]
    tracks.first.focus()
    page.keyboard.press("Enter")
    assert buttons.count() == 5 + (6 if tracks.first.get_attribute("data-images") == "\u00d73" else 3) - 1
    facts = dict(
        zip(page.locator("aside dt").all_text_contents(), page.locator("aside dd").all_text_contents(), strict=True)
    )
    assert facts["Track"] in frames and int(facts["Frame"]) in frames[facts["Track"]]
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
