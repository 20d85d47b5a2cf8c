"""The common end of the tools: exit codes, one sentence, closed pipes and poor terminals."""

import os
import signal
import subprocess
import sys

import pytest

from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.errors import InputError

TOOL = "import os, signal, sys, time; from hhcl_torchreid.cli import run_tool; sys.exit(run_tool(lambda: {work}))"


def run(work, **settings):
    command = [sys.executable, "-c", TOOL.format(work=work)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


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
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", TOOL.format(work="print('x' * 100_000)")]
    closed = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert closed.returncode == 141 and "Traceback" not in closed.stderr and "BrokenPipe" not in closed.stderr
    poor = run("print('\\u4eba')", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (poor.returncode, poor.stdout) == (0, "\\u4eba\n")
