"""-v and -q: every command has them, and says more or less; what it was asked for is said always."""

import pytest
from crops import save_image, save_model
from small_runs import SMALL, pairs

from hhcl_torchreid.commands import COMMANDS, main

OF_TORCHREID = "Building train transforms"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_more_or_less_but_not_both(capsys, name):
    with pytest.raises(SystemExit) as end:
        main([name, "-q", "-v"])
    assert end.value.code == 2 and "not allowed with" in capsys.readouterr().err


def train(data_root, folder, *flags):
    settings = {**SMALL, "engine.iters": 1, "train.print_freq": 1, "data.save_dir": folder}
    return main(["train", "--root", str(data_root), "-t", "market1501", *flags, *pairs(settings)])


def test_a_quiet_run_ends_with_its_answer_and_logs_everything(data_root, tmp_path, capsys):
    assert train(data_root, tmp_path, "-q", "-s", "market1501") == 0
    output, errors = capsys.readouterr()
    assert not errors
    kept = next(tmp_path.glob("train.log-*")).read_text()
    before, table = output.split("\nmarket1501\n")
    (warning,) = before.splitlines()
    assert "near-copies" in warning and warning in kept
    assert "mAP" in table and str(tmp_path / "curves.png") in table and table in kept
    for said in (OF_TORCHREID, "=> Epoch 1:", "epoch: [1/1]", "** Results **"):
        assert said in kept and said not in output


def test_a_talkative_run_says_what_it_chose(data_root, tmp_path, capsys):
    assert train(data_root, tmp_path, "-s", "market1501", "-v") == 0
    output = capsys.readouterr().out
    for said in (OF_TORCHREID, "=> Epoch 1:", "faiss searches", "Clustered", f"Saved {tmp_path}"):
        assert said in output
    assert "faiss searches" in next(tmp_path.glob("train.log-*")).read_text()


def test_a_folder_is_assigned_with_more_or_less_words(tmp_path, capsys):
    for number in range(6):
        save_image(tmp_path / "crops" / f"{number}.png", number // 2)
    words = ["--weights", str(save_model(tmp_path / "m.pth", 0)), "--root", str(tmp_path / "crops"), "--device", "cpu"]
    words += ["--out", str(tmp_path / "out"), "--k1", "3", "--k2", "1", "--min-samples", "2"]
    said = {}
    for flag in ("-q", "--verbose", None):
        assert main(["assign", *words, *filter(None, [flag])]) == 0
        said[flag], errors = capsys.readouterr()
        assert not errors
    answer = said[None]
    assert answer.startswith("6 images: ") and said["-q"] == answer
    assert said["--verbose"].endswith(answer) and "faiss searches" in said["--verbose"]


def test_a_quiet_doctor_says_only_what_is_wrong(tmp_path, capsys):
    assert main(["doctor", "-q", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Nothing is wrong.\n"
    (tmp_path / "market1501").mkdir()
    assert main(["doctor", "-q", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out.split()[:3] == ["data", "set", "WRONG:"]
