"""Pages of identities for tests, and what they show."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.identities import Identities, write_page


class Shown:
    """A folder of crops, its identities and the page of them."""

    def __init__(self, folder, paths, cameras, identities: Identities, sightings=(), answers=(), questions=()):
        self.paths, self.cameras, self.identities = paths, cameras, identities
        self.settings = {"eps": "0.45", "k1": 30}
        sightings = sightings or [Sighting(camera) for camera in cameras]
        self.unreadable = write_page(
            folder / "out", folder / "crops", paths, sightings, identities, self.settings, answers, questions
        )
        self.address = (folder / "out" / "index.html").as_uri()

    def members(self, number):
        return torch.nonzero(self.identities.identity == number).flatten().tolist()


def wait_until(page, expression):
    """Playwright's own wait_for_function evaluates text in the page, which the page does not allow."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(expression)


def titles(page):
    """Numbers of the identities on the page, in order."""
    return [int(text.removeprefix("Identity ")) for text in page.locator("#results .card h2").all_text_contents()]


def files(page):
    return page.locator("#results .card .file").all_text_contents()


def find_axe():
    """axe-core's script, where ``npm install`` has put it."""
    places = [Path(__file__).parents[1] / "node_modules"]
    if npm := shutil.which("npm"):
        places.append(Path(subprocess.run([npm, "root", "--global"], capture_output=True, text=True).stdout.strip()))
    return next((path for place in places if (path := place / "axe-core" / "axe.min.js").exists()), None)


def accessibility_complaints(page):
    """What asks axe-core, as often as it is called, for what it finds wrong with the page: "[]" for nothing."""
    script = find_axe()
    if script is None:
        pytest.skip("no axe-core here: npm install --no-save --no-package-lock axe-core")
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": script.read_text(encoding="utf-8")})
    run = """axe.run({preload: false}).then(({violations}) =>
        JSON.stringify(violations.map(({id, nodes}) => [id, nodes[0].html])))"""
    asked = {"expression": run, "awaitPromise": True, "returnByValue": True}
    return lambda: session.send("Runtime.evaluate", asked)["result"]["value"]
