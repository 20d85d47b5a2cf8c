"""Kills runs with SIGKILL at random moments for a while, resumes them, and compares what they leave with whole runs.

``python tests/adversity/kill_for.py SECONDS [--kills N] [--seed S]`` ends with 1 where a resumed run is not the whole
one to the bit, or where a file of one that was killed is left over.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tools")]

import interrupted_runs  # noqa: E402 (it lies beside this script's folder)
import train_hhcl  # noqa: E402

from hhcl_torchreid.checkpoint import load_checkpoint  # noqa: E402
from hhcl_torchreid.rendering import render_market1501  # noqa: E402
from hhcl_torchreid.runner import system_info  # noqa: E402

KINDS = [
    ["train.precise_bn", "2"],
    ["train.precise_bn", "1", "hhcl.teacher", "0.9", "hhcl.mode", "hybrid_instances"],
    ["test.eval_freq", "1", "test.visrank", "True", "cluster.eps", "[0.5, 0.6, 0.7]"],
    ["data.targets", "[]", "data.cache", "off", "train.precise_bn", "1"],
    ["engine.labels", "identities", "hhcl.mode", "centroid", "train.optim", "sgd", "train.lr", "0.01"],
    ["hhcl.camera_proxy", "0.5", "hhcl.camera_weight", "entropy", "train.camera_bn", "2"],
    ["train.fixbase_epoch", "1", "train.staged_lr", "True", "train.bn_groups", "2", "test.identities", "True"],
]
TESTED = ["data.targets", "['market1501']"]
FIRST_SECONDS = 0.3
"""No run is killed before it has written anything: there is nothing to lose."""


def start(arguments, log):
    """A run in a fork of this process, which has started no threads and imported PyTorch only once."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            torch.set_num_threads(1)
            code = train_hhcl.main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return process


def run_whole(arguments, log):
    """Runs to the end; the seconds it took."""
    started = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(start(arguments, log), 0)[1])
    assert code == 0, f"exit code {code}, see {log}:\n{log.read_text()[-2000:]}"
    return time.monotonic() - started


def outcome(folder):
    """All that a run leaves and that does not say when: labels, metrics, and the last checkpoint."""
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]
    last = load_checkpoint(folder / "model" / "model-last.pth.tar")
    kept = {name: last[name] for name in ("state_dict", "optimizer", "scheduler", "best", "random")}
    kept["student"] = last.get("student")
    return rows, (folder / "labels.csv").read_text(encoding="utf-8"), kept


def same(one, other):
    """Whether two nests of mappings, lists and tensors are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def kill_and_resume(arguments, seconds, chance, log):
    """Kills a run once or twice at random moments, and lets it end; gives the number of kills."""
    kills = 0
    for _ in range(chance.choice([1, 2])):
        process = start([*arguments, "model.resume", "auto"], log)
        time.sleep(chance.uniform(FIRST_SECONDS, seconds))
        os.kill(process, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    run_whole([*arguments, "model.resume", "auto"], log)
    return kills


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--kills", type=int, default=10**9, help="end after that many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", help="folder of the data sets (default: market1501 is rendered)")
    args = parser.parse_args()
    system_info()  # which every run would ask for
    chance, ends, kills = random.Random(args.seed), time.monotonic() + args.seconds, 0
    with tempfile.TemporaryDirectory() as place:
        root, folder = args.root, Path(place)
        if root is None:
            root = folder / "data"
            render_market1501(root / "market1501", num_train_ids=12, num_test_ids=4, height=32, width=16, workers=1)
        wholes = {}
        while time.monotonic() < ends and kills < args.kills:
            kind = chance.randrange(len(KINDS))
            whole, again = folder / f"whole-{kind}", folder / f"again-{kind}-{kills}"
            arguments = [[*interrupted_runs.arguments(root, run), *TESTED, *KINDS[kind]] for run in (whole, again)]
            log = folder / f"{again.name}.txt"
            if kind not in wholes:
                seconds = run_whole(arguments[0], log)
                wholes[kind] = seconds, outcome(whole)
            seconds, expected = wholes[kind]
            kills += kill_and_resume(arguments[1], seconds, chance, log)
            left = sorted(path.name for path in again.rglob("*.tmp"))
            if left or not same(outcome(again), expected):
                print(f"{' '.join(KINDS[kind])}, seed {args.seed}, after {kills} kills: differs; left over {left}")
                return 1
    print(f"{kills} kills, and every resumed run was the whole one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
