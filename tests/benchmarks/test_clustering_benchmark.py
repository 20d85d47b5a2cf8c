import multiprocessing

import clustering as benchmark
import numpy as np
import pytest
import torch


def measure(*arguments, **task):
    options = benchmark.parse_arguments(["--dimensions", "16", "--device", "cpu", *arguments])
    task = {"images": 300, "epoch": "late", **task}
    return {code: run(task, options) for code, run in benchmark.measures_of(options).items()}


def test_every_line_has_its_numbers():
    results = measure()
    assert list(results) == ["ours", "search torch", "search faiss", "product", "scikit-learn"]
    ours, labels = results["ours"]
    assert ours["clusters"] == labels.max() + 1 > 1
    assert ours["outliers"] == (labels < 0).sum()
    assert ours["total"] == pytest.approx(ours["neighbors"] + ours["graph"] + ours["dbscan"], abs=1e-3)
    np.testing.assert_array_equal(results["scikit-learn"][1], labels)
    for code in ("search torch", "search faiss", "product"):
        assert results[code][0]["neighbors"] >= 0


def test_re_ranking_is_compared_with_torchreids():
    results = measure("--rerank", "100", "200", queries=100)
    assert list(results) == ["re-ranking", "torchreid"]
    assert results["torchreid"][0]["largest difference"] < 1e-5


def test_what_does_not_fit_is_skipped_with_a_word():
    results = measure("--rerank", "100", "200", "--official-limit", "299", queries=100)
    assert results["torchreid"] == ({"skipped": "N x N matrices, above --official-limit 299"}, None)


def test_features_are_the_same_each_time():
    one, other = (benchmark.make_features(50, 8, "early", seed=3) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, benchmark.make_features(50, 8, "early", seed=4))


def test_a_folder_that_is_not_the_authors_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["--official", str(tmp_path)])
    assert "holds no hhcl/utils/faiss_rerank.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "100", "0"], "--images, --tracks, --dimensions and --repeat must be at least 1"),
        (["--repeat", "0"], "--images, --tracks, --dimensions and --repeat must be at least 1"),
        (["--device", "toaster"], "--device toaster cannot be used here"),
        (["--json", "nowhere/results.json"], "--json nowhere/results.json lies in a folder that does not exist"),
    ],
)
def test_bad_arguments_are_named(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.parse_arguments(arguments)
    assert words in capsys.readouterr().err


def test_bad_settings_end_with_a_sentence(capsys):
    small = ["--images", "50", "--dimensions", "8", "--device", "cpu", "--ours-only"]
    assert benchmark.main([*small, "--eps", "2"]) == 2  # by the process that measures
    error = capsys.readouterr().err
    assert error.startswith("error: cluster.eps is 2.0: give one number between 0 and 1") and error.count("\n") == 1


def test_a_process_of_its_own_starts_workers_as_a_run_does():
    assert benchmark.in_own_process(multiprocessing.get_start_method) == multiprocessing.get_start_method()
