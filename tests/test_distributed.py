"""Runs of two processes on the CPU: the same labels, losses and weights as one, and an end where one of them dies."""

import csv
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import psutil
import pytest
import torch
import torchreid
import train_hhcl
from torch.distributed import TCPStore

from hhcl_torchreid import ImageHHCLEngine, PseudoLabeler, build_model, distributed
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.batch_norm import InGroups
from hhcl_torchreid.training.callbacks import tell_callbacks

REPOSITORY = Path(__file__).parent.parent
# Sums over two halves of a batch are rounded differently from sums over the whole.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
SETTINGS = {
    "model.name": "osnet_x0_25",
    "model.pretrained": False,
    "model.load_weights": REPOSITORY / "weights" / "osnet_x0_25_rendered.pth",
    "data.targets": "[]",
    "data.height": 64,
    "data.width": 32,
    "data.workers": 0,
    "sampler.num_instances": 4,
    "train.batch_size": 32,
    "train.bn_groups": 2,
    "train.lr": 0.0001,
    "cluster.eps": 0.6,
    "cluster.k1": 8,
    "cluster.k2": 3,
    "cluster.min_samples": 2,
    "engine.iters": 3,
    "hhcl.teacher": 0.9,
    "train.amp": "off",
    "use_gpu": False,
}


def arguments(root, folder, **settings):
    settings = {**SETTINGS, "data.save_dir": folder, **{key.replace("__", "."): settings[key] for key in settings}}
    return ["--root", str(root), *(str(part) for pair in settings.items() for part in pair)]


def process(rank, port, folder, work, *args):
    """What torchrun does for a process; leaves its result and what it wrote to standard error in ``folder``."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="localhost",
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0",
    )
    torch.set_num_threads(1)
    with open(folder / f"error{rank}.txt", "w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
        torch.save(work(*args), folder / f"result{rank}.pt")


def in_two_processes(folder, work, *args):
    """What ``work`` returns in each of two processes, and what they wrote to standard error together."""
    folder.mkdir(exist_ok=True)
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hhcl_torchreid.runner", "matplotlib.figure", "sklearn.metrics"])
    workers = [context.Process(target=process, args=(rank, store.port, folder, work, *args)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode is not None, "a process hangs"
    errors = "".join((folder / f"error{rank}.txt").read_text() for rank in range(2))
    assert [worker.exitcode for worker in workers] == [0, 0], errors
    return [torch.load(folder / f"result{rank}.pt", weights_only=True) for rank in range(2)], errors


def metrics(folder):
    with open(Path(folder, "metrics.csv"), encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_epochs(folder, other, epochs):
    rows, others = metrics(folder)[1 : epochs + 1], metrics(other)[1 : epochs + 1]
    assert len(rows) == len(others) == epochs
    for row, another in zip(rows, others, strict=True):
        for column in ("epoch", "clusters", "outliers", "largest_cluster", "lr", "ari", "nmi"):
            assert row.get(column) == another.get(column)  # no identities, no agreement with them
        assert float(row["loss"]) == pytest.approx(float(another["loss"]), rel=TOLERANCE["rtol"])


@pytest.fixture(scope="module")
def run_of_one(data_root, tmp_path_factory):
    """Two epochs in one process; also the folder as it was after the first."""
    folder, after_one_epoch = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    assert train_hhcl.main(arguments(data_root, folder, train__max_epoch=1)) == 0
    shutil.copytree(folder, after_one_epoch, dirs_exist_ok=True)
    assert train_hhcl.main(arguments(data_root, folder, train__max_epoch=2, model__resume="auto")) == 0
    return folder, after_one_epoch


def test_two_processes_go_on_as_one_would_and_leave_the_same_checkpoint(run_of_one, data_root, tmp_path):
    of_one, after_one_epoch = run_of_one
    by_two = tmp_path / "two"
    shutil.copytree(after_one_epoch, by_two)
    settings = {"train__max_epoch": 2, "model__resume": "auto"}
    codes, errors = in_two_processes(tmp_path, train_hhcl.main, arguments(data_root, by_two, **settings))
    assert codes == [0, 0], errors
    assert_same_epochs(by_two, of_one, 2)
    assert (by_two / "labels.csv").read_text() == (of_one / "labels.csv").read_text()
    ours, theirs = (load_checkpoint(folder / "model" / "model-last.pth.tar") for folder in (by_two, of_one))
    assert ours.keys() == theirs.keys() and ours["epoch"] == theirs["epoch"] == 2
    for of_two, of_one in ((ours, theirs), (ours["student"], theirs["student"])):
        assert list(of_two["state_dict"]) == list(of_one["state_dict"])
        for name, value in of_two["state_dict"].items():
            torch.testing.assert_close(value, of_one["state_dict"][name], rtol=1e-3, atol=1e-4)
    assert ours["optimizer"]["state"].keys() == theirs["optimizer"]["state"].keys()
    assert ours["scheduler"] == theirs["scheduler"]


def test_two_processes_label_tracks_as_one_does(data_root, tmp_path):
    crops, frames = tmp_path / "crops", Counter()
    for image in sorted(data_root.glob("synthetic_market/*/bounding_box_train/*.jpg")):
        track, camera = image.name[:4], image.name[5:7]
        # Three people at a time are before a camera.
        frame = 5 * (int(track) // 3) + frames[camera, track]
        frames[camera, track] += 1
        copy = crops / camera / track / f"{frame}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, copy)
    settings = {
        "data__sources": "['folder']",
        "data__track_regex": r"^(?P<camera>\w+)/(?P<track>\d+)/(?P<frame>\d+)",
        "train__max_epoch": 1,
    }
    assert train_hhcl.main(arguments(crops, tmp_path / "one", **settings)) == 0
    codes, errors = in_two_processes(
        tmp_path / "processes", train_hhcl.main, arguments(crops, tmp_path / "two", **settings)
    )
    assert codes == [0, 0], errors
    assert_same_epochs(tmp_path / "two", tmp_path / "one", 1)
    assert (tmp_path / "two" / "labels.csv").read_text() == (tmp_path / "one" / "labels.csv").read_text()
    with open(tmp_path / "two" / "labels.csv", encoding="utf-8") as file:
        labels_of_tracks = defaultdict(set)
        for row in csv.DictReader(file):
            labels_of_tracks[Path(row["image"]).parent].add(row["label"])
    assert all(len(labels) == 1 for labels in labels_of_tracks.values())


def test_torchrun_trains_as_one_process_and_ends_when_a_process_dies(run_of_one, data_root, tmp_path):
    of_one, _ = run_of_one
    log = tmp_path / "log"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["tools/train_hhcl.py", *arguments(data_root, log, train__max_epoch=1000)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with open(tmp_path / "output", "w") as output:
        job = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        while not (log / "metrics.csv").exists() or len(metrics(log)) < 3:
            assert job.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.05)
        workers = {worker.environ()["RANK"]: worker for worker in psutil.Process(job.pid).children()}
        workers["1"].send_signal(signal.SIGKILL)
        assert job.wait(timeout=60) != 0
        assert not workers["0"].is_running()
    finally:
        job.kill()
    text = (tmp_path / "output").read_text()
    assert_same_epochs(log, of_one, 2)
    assert text.count("=> Epoch 1:") == 1  # the other process is silent
    assert len(list(log.glob("train.log*"))) == len(list(log.glob("events*"))) == 1
    assert "SIGKILL" in text and "model.resume auto" in text
    assert load_checkpoint(log / "model" / "model-last.pth.tar")["epoch"] >= 2


def make_engine(root, bn_groups=2, batch_size=32, **settings):
    torchreid.utils.set_random_seed(1)
    datamanager = torchreid.data.ImageDataManager(
        str(root), "market1501", height=64, width=32, batch_size_train=batch_size, batch_size_test=32, workers=0
    )
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    optimizer = torchreid.optim.build_optimizer(model, optim="adam", lr=0.001)
    labeler = PseudoLabeler(eps=0.6, k1=8, k2=3, min_samples=2)
    return ImageHHCLEngine(
        datamanager, model, optimizer, num_instances=4, bn_groups=bn_groups, labeler=labeler, amp="off", **settings
    )


def one_step(root, folder, settings):
    """One step of training, and all that it leaves behind."""
    with distributed.processes():
        engine = make_engine(root, iters=1, **settings)
        engine.run(save_dir=str(folder), max_epoch=1)
        return {
            "loss": torch.tensor(engine.history.last["loss"]),
            "labels": engine.labels,
            "memory": engine.memory.features,
            "results": engine.results["market1501"],
            **{f"gradient of {name}": weight.grad for name, weight in engine.model.named_parameters()},
            **{f"buffer {name}": buffer for name, buffer in engine.embedder.model.named_buffers()},
        }


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "hybrid"},
        {"mode": "hybrid_instances", "bn_groups": 4},
        {"mode": "harmonic", "camera_weight": "entropy", "camera_proxy": 0.5, "teacher": 0.9, "camera_bn": 2},
        # Of 12 people 48 images: fewer than a group, so that one process has nothing to do.
        {"labels": "identities", "batch_size": 128},
    ],
    ids=lambda settings: " ".join(str(value) for value in settings.values()),
)
def test_a_step_in_two_processes_is_a_step_in_groups(data_root, tmp_path, settings):
    expected = one_step(data_root, tmp_path / "one", settings)
    found, errors = in_two_processes(tmp_path, one_step, data_root, tmp_path / "two", settings)
    assert "deprecated" not in errors, errors
    assert found[0].pop("results") == found[1].pop("results")
    del expected["results"]
    for of_rank in found:
        assert of_rank.keys() == expected.keys()
        for name, value in of_rank.items():
            if name.startswith("gradient"):
                # A sum over the batch here and over its halves there, which rounds as its largest terms do.
                assert (value - expected[name]).norm() <= 1e-4 * expected[name].norm() + 1e-6, name
                continue
            torch.testing.assert_close(
                value, expected[name], **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
            )


class Listener:
    """A callback that keeps what it hears."""

    def __init__(self):
        self.heard = []

    def on_epoch(self, epoch, metrics):
        self.heard.append(epoch)


def tell_and_log():
    """What a callback and a handler hear that each process has."""
    callback, handler, records = Listener(), logging.Handler(), []
    handler.emit = records.append
    logging.root.addHandler(handler)
    tell_callbacks([callback], [{"epoch": 3}])
    logging.getLogger("hhcl_torchreid.somewhere").warning("once")
    logging.root.removeHandler(handler)
    return callback.heard, [record.getMessage() for record in records]


def talk():
    """Small talk between the processes, and networks that share a step."""
    with distributed.processes():
        of_ranks = distributed.parts(7, 2)
        rows = torch.arange(14.0).view(7, 2)
        own = rows[of_ranks[distributed.rank()]].requires_grad_()
        gathered = distributed.gather_features(own, of_ranks)
        (gathered * rows).sum().backward()
        heard = distributed.from_main(lambda: f"said by {distributed.rank()}")
        try:
            distributed.from_main(refuse)
        except InputError as error:
            refused = str(error)
        return {
            "parts": [(part.start, part.stop) for part in of_ranks],
            "gathered": gathered.detach(),
            "gradient": own.grad,
            "heard": heard,
            "refused": refused,
            "told": tell_and_log(),
            "gradients": {name: gradients_of_two_steps(name) for name in BACKBONES},
        }


def refuse():
    raise InputError("no such file")


BACKBONES = ("squeezenet1_0", "shufflenet_v2_x0_5", "mobilenetv2_x1_0", "osnet_ain_x0_25")


def gradients_of_two_steps(name):
    """A weight that takes no part makes DistributedDataParallel raise in the second step."""
    torch.manual_seed(0)
    model = build_model(name, pretrained=False, pooling="gem", embedding_dim=8)
    model.neck.requires_grad_(False)  # frozen by the user
    in_parallel = distributed.data_parallel(InGroups(model, 2))
    images = torch.rand(8, 3, 64, 32)
    of_ranks = distributed.parts(8, 2)
    for _ in range(2):
        model.zero_grad()
        features = distributed.gather_features(in_parallel(images[of_ranks[distributed.rank()]]), of_ranks)
        (features @ features.T).square().sum().backward()
    return [weight.grad for weight in model.parameters() if weight.requires_grad]


def test_what_processes_tell_each_other(tmp_path):
    rows = torch.arange(14.0).view(7, 2)
    (first, second), errors = in_two_processes(tmp_path, talk)
    assert "deprecated" not in errors, errors
    for heard in (first, second):
        assert heard["parts"] == [(0, 4), (4, 7)]
        assert torch.equal(heard["gathered"], rows)
        assert heard["heard"] == "said by 0"
        assert heard["refused"] == "no such file"
    assert [heard["told"] for heard in (first, second)] == [([3], ["once"]), ([], [])]
    assert torch.equal(torch.cat([first["gradient"], second["gradient"]]), 2 * rows)  # to be averaged over two
    for name in BACKBONES:
        for ours, theirs, alone in zip(
            first["gradients"][name], second["gradients"][name], gradients_of_two_steps(name), strict=True
        ):
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(ours, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "codes", "sentence"),
    [
        ({"train__bn_groups": 1}, [2, 2], "train.bn_groups (1) must be a multiple of the number of processes (2)"),
        ({"data__save_dir": REPOSITORY / "setup.cfg" / "log"}, [2, 2], "cannot write"),
    ],
)
def test_bad_input_is_told_once(data_root, tmp_path, settings, codes, sentence):
    found, errors = in_two_processes(tmp_path, train_hhcl.main, arguments(data_root, tmp_path / "log", **settings))
    assert found == codes
    assert errors.count("error: ") == 1 and sentence in errors and "Traceback" not in errors


def test_parts_are_whole_blocks_of_one_process():
    assert distributed.parts(7, 2) == [slice(0, 7)]
    assert distributed.own_part(7, 2) == slice(0, 7)
