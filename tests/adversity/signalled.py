"""Sends Ctrl-C and SIGTERM to real commands in the middle of their work: 130 and 143, and nothing half written.

``python tests/adversity/signalled.py [COMMAND ...]`` goes through all commands that take long, or those named.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "footage")]

from clips import write_boxes, write_video  # noqa: E402 (it lies beside this script's folder)
from crops import save_image, save_model  # noqa: E402
from small_runs import SMALL, pairs  # noqa: E402

from hhcl_torchreid.rendering import render_market1501  # noqa: E402

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 300
"""Seconds after which a command hangs."""
WEIGHTS = ["--weights", "m.pth"]
COMMANDS = {
    "assign": [*WEIGHTS, "--root", "crops", "--out", "out"],
    "search": [*WEIGHTS, "--query", "crops", "--gallery", "crops", "--out", "out"],
    "export": [*WEIGHTS, "--format", "torchscript", "--out", "out/m.ts"],
    "choose-eps": [*WEIGHTS, "--root", "crops", "--plot", "out/eps.png"],
    "crop-tracks": ["--video", "v.mp4", "--tracks", "t.txt", "--camera", "hall", "--out", "out"],
    "train": ["--root", "data", *pairs({**SMALL, "engine.iters": 500, "data.save_dir": "out"})],
}
"""Command -> its words, in a folder that :func:`prepare` has filled."""


def prepare(command):
    """Makes in the current folder what the command needs, enough for seconds of work."""
    if command == "train":
        render_market1501("data/market1501", num_train_ids=8, num_test_ids=2, height=64, width=32, workers=1)
    elif command == "crop-tracks":
        frames = range(1, 501)
        write_video(Path("v.mp4"), len(frames))
        write_boxes(Path("t.txt"), [(frame, track, 25 * track, 8, 20, 40) for frame in frames for track in range(3)])
    else:
        save_model(Path("m.pth"), 0)
        for number in range(400):
            save_image(Path("crops", f"{number}.jpg"), number)


def catches(process, number):
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line for line in status if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (number - 1) & 1


def end(command, number, seconds=0.3):
    """Starts a command in the current folder and ends it by a signal once it works; its code, words and leftovers."""
    words = [sys.executable, "-m", "hhcl_torchreid", command, *COMMANDS[command]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    while process.poll() is None and not catches(process, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    left = [str(path) for path in Path().rglob(".*.tmp")]
    return process.returncode, output, left


def main():
    for command, number in itertools.product(sys.argv[1:] or COMMANDS, SIGNALS):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            prepare(command)
            code, output, left = end(command, number)
            print(f"{command}, {number.name}: {code}, left over {left}", flush=True)
            os.chdir("/")
        if code != 128 + number or "Traceback" in output or left:
            print(output)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
