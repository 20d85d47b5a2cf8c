"""hhcl report: runs as rows of a table, and their curves in one picture."""

import pytest
from PIL import Image

from hhcl_torchreid.commands import main

TESTED = """\
epoch,loss,lr,clusters,outliers,largest_cluster,ari,mAP,rank1,seconds_extract,seconds_label,seconds_train,seconds_data
0,,,,,,,0.497,0.662,,,,
1,2.5,0.1,90,7,20,0.61,,,30,6,54,1
2,1.5,0.1,110,5,19,0.7123,0.81749,0.919,30,6,54,1
"""
UNTESTED = "epoch,loss,clusters,outliers,largest_cluster,self_retrieval\n0,,,,,0.4\n1,2.5,9,0,3,\n"


@pytest.fixture
def runs(tmp_path):
    for name, text in (("tested", TESTED), ("untested", UNTESTED)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(text)
    (tmp_path / "tested" / "config.yaml").write_text("data: {sources: [synthetic]}\nmodel: {name: osnet_x0_25}\n")
    return [str(tmp_path / "tested"), str(tmp_path / "untested")]


def test_a_run_is_a_row(runs, capsys):
    assert main(["report", *runs]) == 0
    head, rule, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert len(head) == len(rule) == len(rows[0])
    tested, untested = (dict(zip(head, row, strict=True)) for row in rows)
    assert tested == {
        "run": runs[0],
        "trained on": "synthetic",
        "network": "osnet_x0_25",
        "epochs": "2",
        "mAP before": "49.7",
        "mAP": "81.7",
        "rank-1": "91.9",
        "clusters": "110",
        "ARI": "0.712",
        "minutes": "3.0",
    }
    assert (untested["mAP"], untested["trained on"], untested["clusters"], untested["epochs"]) == ("", "", "9", "1")


def test_curves_of_all_runs_are_one_picture(runs, tmp_path, capsys):
    assert main(["report", *runs, "--plot", str(tmp_path / "runs.png")]) == 0
    with Image.open(tmp_path / "runs.png") as picture:
        assert picture.size[0] > 1000
    assert main(["report", *runs, "--plot", str(tmp_path / "runs.svg")]) == 0
    assert (tmp_path / "runs.svg").read_text().count("<svg") == 1
    assert main(["report", *runs, "--plot", str(tmp_path / "runs.gif")]) == 2
    assert "runs.gif" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "epoch,loss\n", "loss\n1\n", "epoch\nfirst\n", "epoch\n1,2,3\n", "\0"])
def test_what_is_no_run_is_refused(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and str(tmp_path) in line
