"""Runs that come to grief; prints their exit codes as JSON.

``python tests/interrupted_runs.py ROOT FOLDER ENDING ...``: each runs in a fork of this process, which has
started no threads and imported PyTorch only once.
"""

import io
import json
import os
import resource
import signal
import sys
from pathlib import Path

import matplotlib.figure  # noqa: F401 (which every run would load)
import sklearn.metrics  # noqa: F401 (likewise)
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import train_hhcl

from hhcl_torchreid import HybridMemory, ImageHHCLEngine, PseudoLabeler
from hhcl_torchreid.runner import system_info

SETTINGS = {
    "model.name": "shufflenet_v2_x0_5",
    "model.pretrained": False,
    "model.dropout": 0.2,  # draws from PyTorch's own generator
    "data.sources": "['market1501']",
    "data.targets": "[]",
    "data.height": 32,
    "data.width": 16,
    "data.workers": 0,
    "sampler.num_instances": 4,
    "train.batch_size": 32,
    "train.max_epoch": 2,
    "cluster.eps": 0.6,
    "cluster.k1": 8,
    "cluster.k2": 3,
    "cluster.min_samples": 2,
    "engine.iters": 2,
    "use_gpu": False,
}


def arguments(root, folder):
    """The command line of a run of two epochs."""
    settings = {**SETTINGS, "data.save_dir": folder}
    return ["--root", str(root), *(str(part) for pair in settings.items() for part in pair)]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_while_labelling():
    label, calls = PseudoLabeler.__call__, []

    def trap(self, *given):
        calls.append(1)
        return kill() if len(calls) == 2 else label(self, *given)

    PseudoLabeler.__call__ = trap


def killed_between_steps():
    step = ImageHHCLEngine.forward_backward

    def trap(engine, data):
        return kill() if engine.epoch == 1 and engine.batch_idx == 1 else step(engine, data)

    ImageHHCLEngine.forward_backward = trap


def killed_while_saving():
    save = torch.save

    def trap(state, file):
        whole = io.BytesIO()
        save(state, whole)
        if state["epoch"] == 2:
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            kill()
        file.write(whole.getvalue())

    torch.save = trap


def _signalled(number):
    """Sends a signal in the middle of the first step of the second epoch."""
    forward, update, calls = HybridMemory.forward, HybridMemory.update, []

    def trap(self, *batch):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return forward(self, *batch)

    def tell(self, *batch):
        update(self, *batch)
        if len(calls) == 3:
            print("the memory has taken the step", flush=True)

    HybridMemory.forward, HybridMemory.update = trap, tell


def terminated():
    _signalled(signal.SIGTERM)


def interrupted():
    _signalled(signal.SIGINT)


def out_of_space():
    """Lets no file grow beyond half a checkpoint, from the first step of the second epoch on."""
    step = ImageHHCLEngine.forward_backward

    def trap(engine, data):
        if engine.epoch == 1:
            size = engine.folder.last_checkpoint.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
        return step(engine, data)

    ImageHHCLEngine.forward_backward = trap


def run_and_end(ending, root, folder):
    """The exit code of one run, negative if a signal killed it; what it printed is in ``ENDING.txt``."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            output = os.open(folder / f"{ending}.txt", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            globals()[ending]()
            torch.set_num_threads(1)  # as where the results are compared
            code = train_hhcl.main(arguments(root, folder / ending))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    root, folder, *endings = sys.argv[1:]
    system_info()  # which every run would ask for
    print(json.dumps({ending: run_and_end(ending, root, Path(folder)) for ending in endings}))
