import time

import torch

from hhcl_torchreid.stopwatch import Stopwatch


def test_laps_follow_each_other():
    watch = Stopwatch(torch.device("cpu"))
    time.sleep(0.02)
    watch.lap("sleep")
    watch.lap("nothing")
    assert list(watch.seconds) == ["sleep", "nothing"]
    assert watch.seconds["sleep"] >= 0.02 > watch.seconds["nothing"]
