"""The common end of the tools: exit codes, one sentence, closed pipes and poor terminals."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.errors import InputError

TWO_ENDS = """
import os, sys
from hhcl_torchreid.cli import run_tool

reader, writer = os.pipe()
os.close(reader)
process = os.fork()
if process == 0:
    os.dup2(writer, 1)
    sys.exit(run_tool(lambda: print("so little that Python keeps it until it ends")))
code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
sys.exit(run_tool(lambda: print("\\u4eba", code)))
"""


def fail():
    raise InputError("eps is 7: give a number from 0 to 1")


def test_bad_input_is_a_sentence_and_2(capsys):
    assert run_tool(fail) == 2
    assert capsys.readouterr().err == "error: eps is 7: give a number from 0 to 1\n"


def test_work_that_ends_well_is_0(capsys):
    assert run_tool(lambda: print("done")) == 0
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_have_the_exit_codes_that_shells_expect(number, code, capsys):
    assert run_tool(lambda: os.kill(os.getpid(), number)) == code
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"


def test_nobody_reads_the_output_and_a_terminal_lacks_letters():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", TWO_ENDS]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "\\u4eba 141\n")
    assert "Traceback" not in ended.stderr and "BrokenPipe" not in ended.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_outputs_that_are_closed_or_full(closed):
    words = [sys.executable, "-c", "import sys, test_cli; sys.exit(test_cli.run_tool(test_cli.fail))"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 2 and "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("allowed", [0, 3])
def test_too_few_threads_are_said_before_libraries_hang(monkeypatch, capsys, allowed):
    started, start = [], threading.Thread.start

    def start_where_allowed(thread):  # as the operating system refuses, which asks no privileged user
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_where_allowed)
    ran = []
    assert run_tool(lambda: ran.append(True)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: no more than {allowed} of ") and "ulimit -u" in error and error.count("\n") == 1
    assert not ran and not any(thread.is_alive() for thread in started)
