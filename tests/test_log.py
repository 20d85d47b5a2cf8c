"""One logger: what it shows in a program, in a command with -v or -q, in a log file, and where bars may be."""

import io
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hhcl_torchreid import log

LOGGER = logging.getLogger("hhcl_torchreid.somewhere")

# Without pytest's own handlers; neither PyTorch nor a warning is needed for it.
IN_A_PROGRAM = """
import logging, sys
import hhcl_torchreid
logger = logging.getLogger("hhcl_torchreid.somewhere")
logger.debug("details")
logger.info("first 100%")
logging.basicConfig(format="%(name)s %(message)s")
logger.warning("second")
logging.getLogger("hhcl_torchreid").setLevel(logging.ERROR)
logger.warning("third")
assert "torch" not in sys.modules
"""


def test_a_program_sees_lines_until_it_configures_logging_itself():
    command = [sys.executable, "-W", "error", "-c", IN_A_PROGRAM]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert ended.stdout == "first 100%\n"
    assert ended.stderr == "hhcl_torchreid.somewhere second\n"


def test_a_handler_that_writes_to_a_file_takes_nothing_from_the_console(tmp_path, capsys):
    handler = logging.FileHandler(tmp_path / "all.log")
    logging.root.addHandler(handler)
    try:
        LOGGER.info("found")
    finally:
        logging.root.removeHandler(handler)
        handler.close()
    assert capsys.readouterr().out == (tmp_path / "all.log").read_text() == "found\n"


def say_all():
    LOGGER.debug("details")
    LOGGER.info("progress")
    print("what torchreid prints")
    LOGGER.warning("careful")
    log.answer("the answer")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (logging.DEBUG, "details\nprogress\nwhat torchreid prints\ncareful\nthe answer\n"),
        (logging.INFO, "progress\nwhat torchreid prints\ncareful\nthe answer\n"),
        (logging.WARNING, "careful\nthe answer\n"),
    ],
    ids=logging.getLevelName,
)
def test_a_command_shows_what_it_is_told_to_and_its_log_has_everything(level, shown, capsys):
    kept = io.StringIO()
    with log.shown(level):
        say_all()
        assert capsys.readouterr().out == shown
        with log.copied_to(kept):
            say_all()
        assert capsys.readouterr().out == shown
    details = "details\n" if level == logging.DEBUG else ""
    assert kept.getvalue() == f"{details}progress\nwhat torchreid prints\ncareful\nthe answer\n"
    say_all()
    assert capsys.readouterr().out == "progress\nwhat torchreid prints\ncareful\nthe answer\n"


def test_a_log_has_what_a_handler_of_the_programs_own_shows(capsys):
    kept, handler = io.StringIO(), logging.StreamHandler(sys.stderr)
    logging.root.addHandler(handler)
    try:
        with log.copied_to(kept):
            say_all()
    finally:
        logging.root.removeHandler(handler)
    shown = capsys.readouterr()
    assert shown.out == "what torchreid prints\nthe answer\n"
    assert shown.err == "progress\ncareful\n"
    assert kept.getvalue() == "progress\nwhat torchreid prints\ncareful\nthe answer\n"


def test_a_command_says_nothing_twice(capsys):
    handler = logging.StreamHandler(sys.stderr)
    logging.root.addHandler(handler)
    try:
        with log.shown():
            LOGGER.info("once")
    finally:
        logging.root.removeHandler(handler)
    assert capsys.readouterr() == ("once\n", "")


class Closed(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_what_nobody_reads_is_an_error_as_of_print(level, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed())
    with log.shown(level), pytest.raises(BrokenPipeError):
        LOGGER.warning("careful")


@pytest.mark.parametrize(
    ("level", "is_short", "has_bar"),
    [(logging.INFO, False, True), (logging.INFO, True, False), (logging.WARNING, False, False)],
)
def test_bars_are_where_progress_is_shown(level, is_short, has_bar, terminal):
    shown = terminal()
    with log.shown(level):
        assert list(log.progress_bar(range(3), is_short, desc="count")) == [0, 1, 2]
    assert ("count" in shown.getvalue()) == has_bar


def test_a_program_that_wants_warnings_alone_sees_no_bars(terminal):
    shown = terminal()
    with log.at_level(logging.WARNING):
        assert list(log.progress_bar(range(3))) == [0, 1, 2]
    assert not shown.getvalue()


def test_a_late_bar_waits_until_the_work_has_taken_a_while(terminal, monkeypatch):
    monkeypatch.setattr(log, "LATE", 0.2)
    shown = terminal()
    assert list(log.late_progress_bar(range(3), desc="at once")) == [0, 1, 2]
    for _ in log.late_progress_bar(range(4), desc="slow"):
        time.sleep(0.15)
    assert "at once" not in shown.getvalue()
    assert "slow: " in shown.getvalue()
    assert "75%" in shown.getvalue()
