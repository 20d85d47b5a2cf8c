"""Pages of identities for tests, and what they show."""

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
