"""What is given twice with other values is refused, or named with the one that counts; none is lost in silence."""

import numpy as np
import pytest
from crops import save_image
from hostile import assert_one_sentence, call_train

from hhcl_torchreid.commands import main as hhcl
from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.tracks import find_sightings
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities.numbers import load_earlier, load_names


@pytest.mark.parametrize(
    "words",
    [
        "train --root a --root b",
        "train --root a train.lr 0.1 --root b",
        "train --root a -s market1501 --config-file hhcl_demo.yaml --config-file b.yaml",
        "test --weights a --weights b",
        "assign --root a --roo=b --out c --features d",
        "assign --root a --out b --features c --eps 0.4 --eps 0.5",
        "assign --root a --out b --forget 1 --forget 2",
        "assign --root a --out b --features c --tracks off --tracks auto",
        "search --weights a --query b --gallery c --topk 10 --topk 5",
        "export --weights a --image-size 8 8 --image-size 8 9",
        "choose-eps --features a --eps 0.1 0.2 --eps 0.3",
        "crop-tracks --video a --tracks b --camera c --out d --every 1 --every 2",
        "render --root a --seed 1 --seed 2",
        "report a --plot b --plot c",
        "review a --port 1 --port 2",
        "doctor --root reid-data --root b",
    ],
)
def test_an_option_that_is_given_twice(capsys, words):
    with pytest.raises(SystemExit) as ended:
        hhcl(words.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "given twice" in error.splitlines()[-1] and "Traceback" not in error


def test_the_same_value_twice_and_options_that_gather(capsys, tmp_path):
    save_image(tmp_path / "crops" / "0.jpg", 0)
    code = hhcl(["assign", "--root", "x", "--root", "x", "--out", str(tmp_path), "--features", "f", "--features", "f"])
    assert_one_sentence(code, capsys.readouterr().err, "f does not exist")
    words = ["search", "--weights", "osnet_x0_25_rendered.pth", "--gallery", str(tmp_path / "crops"), "--device", "cpu"]
    code = hhcl([*words, "--query", "first", "--query", str(tmp_path / "crops"), "--out", str(tmp_path / "out")])
    assert_one_sentence(code, capsys.readouterr().err, "no query first")


@pytest.mark.parametrize(
    ("options", "lr", "named"),
    [
        (["train.lr", "0.1", "train.lr", "0.2"], 0.2, "train.lr is given twice, as 0.1 and 0.2: the last one counts"),
        (["train.lr", "0.1", "train.seed", "2", "train.lr", "0.3"], 0.3, "as 0.1 and 0.3"),
        (["train.lr", "0.1", "train.lr", "1e-1"], 0.1, ""),
    ],
)
def test_a_setting_that_is_given_twice_on_the_command_line(capsys, options, lr, named):
    assert load_config(options=options).train.lr == lr
    printed = capsys.readouterr().out
    assert named in printed if named else "twice" not in printed


def test_a_setting_that_has_an_option_too(data_root, tmp_path, capsys):
    settings = {"data.root": tmp_path / "elsewhere", "data.sources": "['folder']", "data.targets": "[]"}
    code = call_train(data_root, tmp_path / "log", settings)
    captured = capsys.readouterr()
    assert_one_sentence(code, captured.err, tmp_path / "elsewhere")
    assert f"data.root is given twice, as '{data_root}'" in captured.out


@pytest.mark.parametrize("value", ["False", "(False)", "0", "None"])
def test_a_test_is_no_training(capsys, tmp_path, value):
    code = hhcl(["test", "--root", str(tmp_path), "test.evaluate", value])
    assert_one_sentence(code, capsys.readouterr().err, "test.evaluate", "hhcl train")


@pytest.mark.parametrize("column", ["path", "camera", "track", "frame", "left"])
def test_a_table_with_two_columns_of_a_name(tmp_path, column):
    save_image(tmp_path / "0.jpg", 0)
    (tmp_path / "crops.csv").write_text(f"path,camera,track,frame,left,{column}\n0.jpg,a,1,2,3,0.jpg\n")
    with pytest.raises(InputError, match=f"two columns {column}"):
        find_sightings([tmp_path / "0.jpg"], tmp_path)


def test_rows_of_one_image_or_identity_that_disagree(tmp_path):
    rows = "path,identity\na.jpg,1\nb.jpg,2\na.jpg,{}\n"
    (tmp_path / "identities.csv").write_text(rows.format(1))
    assert load_earlier(tmp_path).of(["a.jpg", "b.jpg"]).tolist() == np.array([1, 2]).tolist()
    for other in ("2", "outlier"):
        (tmp_path / "identities.csv").write_text(rows.format(other))
        with pytest.raises(InputError, match=r"a\.jpg twice"):
            load_earlier(tmp_path)
    (tmp_path / "names.csv").write_text("identity,name\n1,Anna\n1,Berta\n")
    with pytest.raises(InputError, match="1 twice"):
        load_names(tmp_path)
