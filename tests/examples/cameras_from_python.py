"""A camera-aware run in Python: 3C's harmonic memory and entropy weights, PPLR's proxies, and a teacher.

``python tests/examples/cameras_from_python.py ROOT`` trains on the Market-1501 under ROOT; a set whose cameras are many
and unlike each other, as MSMT17's, gains more. docs/methods.md says what each setting is.
"""

import sys
from typing import Any

import torch
import torchreid

from hhcl_torchreid import ImageHHCLEngine, PseudoLabeler, build_model
from hhcl_torchreid.training.optimization import warm_up

MEMORY = {
    "mode": "harmonic",  # which sample of a cluster moves its row
    "camera_weight": "entropy",  # clusters that many cameras see weigh more in the loss
    "camera_proxy": 0.5,  # weight of the contrast between cameras
}


def build_engine(
    root: str, network: str = "resnet50", size: tuple[int, int] = (256, 128), batch_size: int = 256, **settings: Any
) -> ImageHHCLEngine:
    """Builds the engine; ``settings`` are arguments of it that replace those below."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    datamanager = torchreid.data.ImageDataManager(
        root=root, sources="market1501", height=size[0], width=size[1], batch_size_train=batch_size
    )
    model = build_model(network, pretrained=network == "resnet50", pooling="gem").to(device)
    optimizer = torchreid.optim.build_optimizer(model, optim="adam", lr=0.00035)
    scheduler = warm_up(torchreid.optim.build_lr_scheduler(optimizer, stepsize=20), epochs=10)
    settings = {
        **MEMORY,
        "teacher": 0.999,  # its average makes the labels, is tested and saved
        "bn_groups": 2,
        "iters": 200,
        "labeler": PseudoLabeler(eps=0.6),
        **settings,
    }
    return ImageHHCLEngine(datamanager, model, optimizer, scheduler=scheduler, **settings)


if __name__ == "__main__":
    engine = build_engine(sys.argv[1])
    engine.run(save_dir="log/cameras", max_epoch=60, eval_freq=10)
    share = engine.history.last.get("one_camera", 0)
    print(f"{share:.0%} of the last epoch's clusters are filled by one camera alone")
