"""What the tests of this room share."""

import pytest

from hhcl_torchreid.models.backbones import BACKBONES


@pytest.fixture
def registry():
    """The backbones, which are after the test what they were before it."""
    before = dict(BACKBONES)
    yield BACKBONES
    BACKBONES.clear()
    BACKBONES.update(before)
