"""What the benchmarks of cameras and of footage count, and the tables they print."""

import cameras
import footage
import numpy as np


def test_the_share_of_clusters_that_one_camera_fills(tmp_path):
    rows = ["a,0,0", "b,0,0", "c,1,1", "d,2,1", "e,3,2", "f,0,-1", "g,4,-1"]
    (tmp_path / "labels.csv").write_text("\n".join(["image,camera,label", *rows]), encoding="utf-8")
    assert cameras.one_camera_share(tmp_path / "labels.csv") == 2 / 3


def test_a_table_has_mean_spread_and_every_map():
    runs = [{"mAP": 0.2, "rank1": 0.5, "one_camera": 0.25}, {"mAP": 0.4, "rank1": 0.5, "one_camera": 0.75}]
    head, _, plain, start = cameras.table({"plain": runs, "start": [{"mAP": 0.123, "rank1": 0.2}]}).splitlines()
    assert head.count("|") == plain.count("|") == start.count("|")
    cells = [cell.strip() for cell in plain.split("|")[1:-1]]
    assert cells == ["plain", "30.0 ± 14.1", "50.0 ± 0.0", "", "", "50 ± 35", "", "20.0, 40.0"]
    assert start.split("|")[2].strip() == "12.3"


def test_a_visit_ends_with_a_pause():
    frames = np.array([1, 2, 40, 41, 200, 5, 6])
    people = np.array([1, 1, 1, 1, 1, 2, 2])
    visits = footage.visit_of(people, frames)
    assert [visits[1, frame] for frame in (1, 2, 40, 41, 200)] == [0, 0, 0, 0, 1]
    assert visits[2, 5] == visits[2, 6] == 0


def test_the_table_of_footage_is_in_percent():
    run = dict.fromkeys(footage.COLUMNS, 0.5)
    *_, line = footage.table({"start": [run, {**run, "later": 0.7}]}).splitlines()
    assert line.startswith("| start | 50.0 ± 0.0 | 60.0 ± 14.1 |")
