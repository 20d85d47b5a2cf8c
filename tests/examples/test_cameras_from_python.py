"""The camera-aware run from Python trains, and its checkpoint is the teacher's."""

from pathlib import Path

import cameras_from_python
import torch

from hhcl_torchreid import PseudoLabeler
from hhcl_torchreid.checkpoint import load_checkpoint


def test_it_trains_on_tiny_data(data_root, tmp_path):
    engine = cameras_from_python.build_engine(
        str(data_root),
        network="shufflenet_v2_x0_5",
        size=(64, 32),
        batch_size=32,
        num_instances=4,
        iters=2,
        labeler=PseudoLabeler(eps=0.6, k1=8, k2=3, min_samples=2),
    )
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    assert engine.history.last["loss"] > 0 and "one_camera" in engine.history.last
    assert len(engine.memory.proxies.features) > engine.history.last["clusters"]
    saved = load_checkpoint(tmp_path / "model" / "model-last.pth.tar")["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in engine.teacher.network.state_dict().items())


def test_it_fits_a_screen_and_a_half():
    assert len(Path(cameras_from_python.__file__).read_text(encoding="utf-8").splitlines()) <= 80
