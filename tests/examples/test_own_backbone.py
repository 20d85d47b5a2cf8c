"""The example of a network of one's own runs, and nothing on its way needs the network to be torchreid's."""

import own_backbone
import pytest
import torch

from hhcl_torchreid import FeatureExtractor, build_model
from hhcl_torchreid.models.backbones import BACKBONES


@pytest.fixture
def results(data_root, tmp_path):
    before = dict(BACKBONES)
    yield own_backbone.main(tmp_path, data_root)
    BACKBONES.clear()
    BACKBONES.update(before)


def test_trains_resumes_extracts_searches_and_exports(results, tmp_path):
    engine, features, rankings, difference = results
    assert engine.resumed and [row["epoch"] for row in engine.history.lines] == [0, 1, 2]
    assert features.shape == (3, 128)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert all(len(ranking.matches) == 5 for ranking in rankings)
    assert difference < 1e-4 and (tmp_path / "strips.onnx").exists()
    start = build_model("strips", pretrained=False)
    assert start.state_dict().keys() == engine.model.state_dict().keys()
    trained = FeatureExtractor(model_path=tmp_path / "run" / "model" / "model-best.pth.tar", verbose=False).model
    assert type(trained.backbone) is own_backbone.Strips and trained.pixel_mean == (0.5, 0.5, 0.5)
