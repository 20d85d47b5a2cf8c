"""One finished run, and one that has only been tested, for all that is done to them."""

import shutil

import pytest
from hostile import call_train


@pytest.fixture(scope="session")
def whole_run(data_root, tmp_path_factory):
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("whole") / "log"
    assert call_train(data_root, folder, {}) == 0
    return folder


@pytest.fixture
def finished_run(whole_run, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole_run, tmp_path / "log")
