"""Every file and every heading that a page links to is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(path for folder in (".", "docs") for path in (REPOSITORY / folder).glob("*.md"))
FENCED = r"^```.*?^```"


def anchors(page):
    """What GitHub calls the headings of a page in an address."""
    text = re.sub(FENCED, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = re.sub(FENCED, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    missing = []
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        if not there.exists() or (heading and heading not in anchors(there)):
            missing.append(target)
    assert not missing
