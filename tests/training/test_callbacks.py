"""Callbacks hear every line of metrics.csv, when it is complete; one that fails ends nothing."""

import csv
import logging

from hhcl_torchreid import Callback


class Listener:
    """Keeps what it hears, and the line of the file at that time."""

    def __init__(self, folder):
        self.folder = folder
        self.heard = []
        self.written = []

    def on_epoch(self, epoch, metrics):
        self.heard.append((epoch, metrics))
        self.written.append(lines_of(self.folder)[epoch])


class Broken:
    def on_epoch(self, epoch, metrics):
        metrics.clear()
        raise OSError("no network\nhere")


def lines_of(folder):
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [{column: float(value) for column, value in row.items() if value} for row in csv.DictReader(file)]


def test_every_line_is_heard_once_it_is_complete_whatever_another_callback_does(
    make_engine, untested, tmp_path, caplog
):
    callbacks: list[Callback] = [Broken(), Listener(tmp_path)]
    engine = make_engine(untested, iters=1)
    with caplog.at_level(logging.DEBUG, "hhcl_torchreid"):
        engine.run(save_dir=str(tmp_path), max_epoch=2, callbacks=callbacks)
    (listener,) = callbacks[1:]
    assert [epoch for epoch, _ in listener.heard] == [0, 1, 2]
    lines = lines_of(tmp_path)
    assert [metrics for _, metrics in listener.heard] == listener.written == lines
    assert all("self_retrieval" in line for line in lines)

    said = {record.levelno: record for record in caplog.records if record.name.endswith(".callbacks")}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text for text in warnings if "Broken" in text] == [
        f"=> The callback Broken failed at epoch {epoch} (OSError: no network here); training goes on"
        for epoch in range(3)
    ]
    assert said[logging.DEBUG].exc_info[0] is OSError
    levels = {record.name: record.levelno for record in caplog.records}
    assert levels["hhcl_torchreid.engine"] in (logging.INFO, logging.DEBUG) and "hhcl_torchreid.labels.epoch" in levels
    assert "=> Start training" in caplog.messages

    resumed, later = make_engine(untested, iters=1), Listener(tmp_path)
    start_epoch = resumed.resume(engine.folder.last_checkpoint)
    resumed.run(save_dir=str(tmp_path), max_epoch=3, start_epoch=start_epoch, callbacks=[later])
    assert [epoch for epoch, _ in later.heard] == [2, 3]
    assert [metrics for _, metrics in later.heard] == later.written == lines_of(tmp_path)[2:]
