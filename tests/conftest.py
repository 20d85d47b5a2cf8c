"""Small data sets in the real layouts, made once for all tests."""

import io
import sys
from pathlib import Path

import pytest
import torch
import torchreid

from hhcl_torchreid import ImageHHCLEngine, PseudoLabeler, build_model, log
from hhcl_torchreid.rendering import render_market1501
from hhcl_torchreid.training.optimization import fuse_optimizer

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tools", "benchmarks")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Called in a test, makes standard error what progress bars take for a terminal, and gives it."""

    def make():
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return make


@pytest.fixture
def bars(terminal, monkeypatch):
    """The same, with bars of what does not take long too."""
    monkeypatch.setattr(log, "LATE", 0)
    return terminal


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A root with rendered people as ``synthetic`` and, by another name, as ``market1501``."""
    root = tmp_path_factory.mktemp("data")
    render_market1501(
        root / "synthetic_market",
        num_train_ids=12,
        num_test_ids=6,
        images_per_tracklet=(4, 5),
        cameras_per_person=(3, 3),
        num_distractors=4,
        height=64,
        width=32,
        seed=3,
        workers=1,
    )
    (root / "market1501").symlink_to(root / "synthetic_market", target_is_directory=True)
    return root


@pytest.fixture(scope="session")
def make_datamanager(data_root):
    """Builds torchreid's own data manager on the rendered people."""

    def build(**settings):
        return torchreid.data.ImageDataManager(
            **{
                "root": str(data_root),
                "sources": "market1501",
                "height": 64,
                "width": 32,
                "batch_size_train": 32,
                "batch_size_test": 32,
                "workers": 0,
                **settings,
            }
        )

    return build


@pytest.fixture
def untested(make_datamanager):
    """A data manager without test sets, for runs whose accuracy nobody looks at."""
    return make_datamanager(targets=[])


@pytest.fixture(scope="session")
def make_engine(make_datamanager):
    """Builds an engine with a small network, always from the same start."""

    def build(datamanager=None, lr=0.001, device="cpu", labeler=None, **settings):
        torchreid.utils.set_random_seed(1)
        model = build_model("shufflenet_v2_x0_5", pretrained=False).to(device)
        optimizer = fuse_optimizer(torchreid.optim.build_optimizer(model, optim="adam", lr=lr))
        return ImageHHCLEngine(
            datamanager or make_datamanager(),
            model,
            optimizer,
            torchreid.optim.build_lr_scheduler(optimizer, stepsize=1, gamma=0.5),
            use_gpu=device == "cuda",
            labeler=labeler or PseudoLabeler(eps=0.6, k1=8, k2=3, min_samples=2),
            **{"num_instances": 4, "iters": 3, **settings},
        )

    return build


@pytest.fixture(autouse=True)
def _faiss_sees_the_gpu(request):
    """FAISS is tested on a GPU where it is built for one."""
    settings = getattr(getattr(request.node, "callspec", None), "params", {})
    if settings.get("backend") == "faiss" and settings.get("device") == "cuda":
        import faiss

        if faiss.get_num_gpus() == 0:
            pytest.skip("this FAISS sees no GPU")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torchreid.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny images leave a second thread nothing to do but to wait."""
    torch.set_num_threads(1)
