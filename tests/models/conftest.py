"""What the tests of this room share."""

import pytest
import torch

from hhcl_torchreid.models.backbones import BACKBONES


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny images leave a second thread nothing to do but to wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def registry():
    """The backbones, which are after the test what they were before it."""
    before = dict(BACKBONES)
    yield BACKBONES
    BACKBONES.clear()
    BACKBONES.update(before)
