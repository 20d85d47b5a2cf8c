"""A browser for the tests of a page, and pages that it opens."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright


def find_chromium(playwright):
    """A browser of this machine, or the one that ``playwright install chromium`` has put there."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
    found = [path for path in map(shutil.which, names) if path]
    own = playwright.chromium.executable_path
    return found[0] if found else own if os.path.exists(own) else None


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.skip("no Chromium here: install Debian's package chromium, or run `playwright install chromium`")
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Opens a page that must neither complain nor ask for anything but files."""
    opened, complaints = [], []

    def open_it(address, context=None, **options):
        page = (context or browser).new_page(
            **({} if context else {"viewport": {"width": 1200, "height": 800}} | options)
        )
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or complaints.append(request.url),
        )
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        page.close()
    assert complaints == []
