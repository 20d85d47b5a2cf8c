"""A test of weights: the network is what its file says, whatever the settings say."""

import pytest
import torch
import torchreid
from small_runs import SMALL

from hhcl_torchreid import build_model, runner
from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.config import load_config

TRAINED = {
    "model.pooling": "max",
    "model.embedding_dim": 16,
    "data.height": 48,
    "data.width": 24,
    "data.norm_mean": [0.2, 0.3, 0.4],
    "data.norm_std": [0.5, 0.4, 0.3],
}


@pytest.fixture
def evaluate(data_root, tmp_path):
    """Tests a file; gives the engine."""

    def run(path, **settings):
        common = {**SMALL, "data.root": str(data_root), "data.save_dir": str(tmp_path / "log"), "test.evaluate": True}
        return runner.run(load_config(overrides={**common, "model.load_weights": str(path), **settings}))

    return run


def test_a_checkpoint_is_tested_as_it_was_trained(evaluate, tmp_path, capsys):
    torch.manual_seed(0)
    model = build_model(SMALL["model.name"], pretrained=False, pooling="max", embedding_dim=16)
    cfg = load_config(overrides={**SMALL, **TRAINED})
    path = tmp_path / "model.pth.tar"
    save_checkpoint({"state_dict": model.state_dict(), "model_name": cfg.model.name, "config": cfg.dump()}, path)
    by_hand = evaluate(path, **TRAINED).results
    assert "in place of" not in capsys.readouterr().out
    assert evaluate(path, **{"model.pooling": "gem", "data.norm_mean": [0.9, 0.9, 0.9]}).results == by_hand
    output = capsys.readouterr().out
    assert f"{path} is of a network with model.pooling 'max', which this test takes in place of 'gem'" in output
    for key in TRAINED:
        assert f" {key} " in output


def test_torchreids_weights_are_tested_as_torchreid_builds_them(evaluate, tmp_path):
    plain = torchreid.models.build_model("resnet18", 7, pretrained=False)
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "plain.pth")
    settings = {"model.name": "resnet18", "model.pooling": "gem", "model.last_stride": 1, "model.embedding_dim": 8}
    model = evaluate(tmp_path / "plain.pth", **settings).model
    assert model.backbone.layer4[0].conv1.stride == (2, 2) and model.neck is None and model.embedding is None
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), torch.nn.functional.normalize(plain.eval()(images)))
