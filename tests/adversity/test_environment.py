"""What the environment says that is no number of processes is refused in a sentence."""

import pytest
from hostile import assert_one_sentence, call_train


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["", "two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none(data_root, tmp_path, capsys, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    code = call_train(data_root, tmp_path / "log", {})
    assert_one_sentence(code, capsys.readouterr().err, f"{variable} {value!r}", "torchrun")


def test_a_number_of_processors_that_is_none(data_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "all")
    code = call_train(data_root, tmp_path / "log", {})
    assert_one_sentence(code, capsys.readouterr().err, "LOKY_MAX_CPU_COUNT 'all' is no number of processors")
