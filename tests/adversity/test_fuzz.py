"""Mangled files are read rightly or refused in a sentence; ``fuzz_for.py`` tries as many as one likes."""

import fuzz_for
import pytest

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.backbones import BACKBONES


@pytest.fixture(scope="module", autouse=True)
def _no_backbone_is_left():
    """Other tests go through all that are registered."""
    before = dict(BACKBONES)
    yield
    BACKBONES.clear()
    BACKBONES.update(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_for.READERS)
def test_mangled_files_are_read_or_refused(name):
    tried, refused = fuzz_for.fuzz(name, 60)
    assert tried >= 60 and 0 < refused < tried


def raising(error):
    raise error


def test_the_fuzz_sees_what_is_no_sentence(tmp_path):
    with pytest.raises(AssertionError):
        fuzz_for.is_refused(lambda path: raising(InputError("ends with a stop.")), tmp_path)
