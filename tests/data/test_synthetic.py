"""The data set that renders itself on first use."""

import pytest
import torchreid

from hhcl_torchreid.data.datasets import SyntheticMarket
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.rendering import RenderingSettings

TINY = RenderingSettings(
    num_train_ids=5,
    num_test_ids=4,
    images_per_tracklet=(2, 3),
    cameras_per_person=(2, 3),
    num_distractors=3,
    height=64,
    width=32,
)


def test_renders_itself_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(SyntheticMarket, "settings", TINY)
    datamanager = torchreid.data.ImageDataManager(
        root=str(tmp_path), sources="synthetic", height=64, width=32, batch_size_train=4, workers=0, use_gpu=False
    )
    assert datamanager.num_train_pids == 5
    assert next(iter(datamanager.train_loader))["img"].shape == (4, 3, 64, 32)


def test_a_rendering_that_is_not_the_demo_is_read_and_said_to_be(data_root, capsys):
    dataset = SyntheticMarket(root=str(data_root))
    assert "num_train_ids = 12 instead of 120" in capsys.readouterr().out
    known = torchreid.data.datasets.Market1501(root=str(data_root), verbose=False)
    assert [record[1:] for record in dataset.train] == [record[1:] for record in known.train]
    capsys.readouterr()
    SyntheticMarket(root=str(data_root), verbose=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verbose", [True, False])
def test_a_folder_of_something_else_is_refused(tmp_path, verbose):
    (tmp_path / "synthetic_market" / "Market-1501-v15.09.15").mkdir(parents=True)
    with pytest.raises(InputError, match="not made by this renderer"):
        SyntheticMarket(root=str(tmp_path), verbose=verbose)


def test_a_root_that_torchreid_would_misread(tmp_path):
    with pytest.raises(InputError, match="folder name"):
        SyntheticMarket(root=str(tmp_path / "run_12_c3"))
