"""The command line: whole runs, and one clear sentence with exit code 2 for whatever is wrong."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import assign_identities
import pytest
import torch
import train_hhcl
from small_runs import SMALL, pairs

from hhcl_torchreid import build_model
from hhcl_torchreid.config import load_config
from hhcl_torchreid.runner import building

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def call(data_root, tmp_path, capsys):
    """Runs the tool; gives exit code, standard output and standard error."""

    def run(*flags, root=data_root, **settings):
        settings = {key.replace("__", "."): value for key, value in settings.items()}
        settings = {**SMALL, "data.save_dir": tmp_path / "log", **settings}
        code = train_hhcl.main([*flags, "--root", str(root), *pairs(settings)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def finished_run(data_root, tmp_path_factory):
    """The last checkpoint of a run of one epoch."""
    log = tmp_path_factory.mktemp("log")
    assert (
        train_hhcl.main(["--root", str(data_root), *pairs({**SMALL, "train.precise_bn": 1, "data.save_dir": log})]) == 0
    )
    return log / "model" / "model-last.pth.tar"


def assert_one_sentence(code, error, *named):
    assert code == 2
    lines = [line for line in error.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    for name in named:
        assert str(name) in lines[0]


def test_train_then_resume_then_evaluate(call, tmp_path):
    code, output, error = call()
    assert code == 0, error
    assert "before" in output and "after" in output and "curves.png" in output
    log = tmp_path / "log"
    assert (log / "config.yaml").exists() and "clusters" in next(log.glob("train.log-*")).read_text()
    last = log / "model" / "model-last.pth.tar"

    code, output, error = call(model__resume=last, train__max_epoch=2)
    assert code == 0, error
    assert "1 epochs done" in output and torch.load(last, weights_only=True)["epoch"] == 2

    code, output, error = call(
        model__load_weights=last,
        test__evaluate=True,
        test__visrank=True,
        test__rerank=True,
        data__save_dir=tmp_path / "test",
    )
    assert code == 0, error
    assert "Applying person re-ranking" in output and "after" in output
    assert list((tmp_path / "test" / "visrank_market1501").glob("*.jpg"))
    assert list((tmp_path / "test").glob("test.log-*"))


@pytest.mark.parametrize(("amp", "camera_bn"), [("off", 0), ("bf16", 0), ("off", 1)])
def test_identities_at_the_end_are_those_of_the_tool(call, data_root, tmp_path, capsys, amp, camera_bn):
    of_images = {"data__height": 32, "data__width": 16, "test__camera_bn": camera_bn}
    code, output, error = call(test__identities=True, train__amp=amp, engine__iters=1, **of_images)
    assert code == 0, error
    folder = tmp_path / "log" / "identities"
    assert str(folder / "index.html") in output and (folder / "index.html").exists()
    weights = tmp_path / "log" / "model" / "model-last.pth.tar"
    root = data_root / "market1501" / "Market-1501-v15.09.15" / "bounding_box_train"
    options = [f"--weights={weights}", f"--root={root}", f"--out={tmp_path / 'again'}", "--camera-regex=_c([0-9])"]
    assert assign_identities.main([*options, "--device=cpu"]) == 0
    with (
        open(folder / "identities.csv", newline="") as ours,
        open(tmp_path / "again" / "identities.csv", newline="") as again,
    ):
        ours, again = list(csv.DictReader(ours)), list(csv.DictReader(again))
    assert [(row["path"], row["identity"]) for row in ours] == [(row["path"], row["identity"]) for row in again]
    assert [row["camera"] for row in ours] == [f"camera {int(row['camera']) - 1}" for row in again]


def test_identities_do_not_go_among_the_training_images(call, data_root):
    root = data_root / "market1501" / "Market-1501-v15.09.15" / "bounding_box_train"
    code, _, error = call(test__identities=True, data__save_dir=root / "log")
    shutil.rmtree(root / "log")
    assert_one_sentence(code, error, "data.save_dir", root)


def test_resume_auto_starts_anew_where_there_is_nothing(call):
    code, output, error = call(model__resume="auto", train__max_epoch=0)
    assert code == 0, error
    assert "Nothing to resume" in output


def test_resume_auto_still_wants_pretrained_weights_where_there_is_nothing(call, monkeypatch):
    asked = []

    def build_offline(name, pretrained, **settings):
        asked.append(pretrained)
        return build_model(name, pretrained=False, **settings)

    monkeypatch.setattr(building, "build_model", build_offline)
    assert call(model__resume="auto", model__pretrained=True, train__max_epoch=0)[0] == 0
    assert call(model__resume="auto", model__pretrained=True)[0] == 0
    assert call(model__resume="auto", model__pretrained=True)[0] == 0
    assert asked == [True, True, False]


def test_torchreids_flags_choose_data_sets_and_transforms(call, tmp_path):
    code, output, error = call("-s", "synthetic", "-t", "market1501", "--transforms", "random_flip")
    assert code == 0, error
    assert "HHCL augments with random_flip and" in output
    assert load_config(str(tmp_path / "log" / "config.yaml")).data.sources == ["synthetic"]


def test_settings_end_a_list_of_names_and_options_may_follow_them(call, tmp_path):
    flags = ("--transforms", "random_flip", "cluster.k1", "7", "use_gpu", "False", "-s", "synthetic")
    code, output, error = call(*flags, "hhcl.momentum", "0.2", "--targets", "market1501")
    assert code == 0, error
    assert "HHCL augments with random_flip and" in output
    cfg = load_config(str(tmp_path / "log" / "config.yaml"))
    assert (cfg.data.sources, cfg.data.targets, cfg.data.transforms) == (["synthetic"], ["market1501"], ["random_flip"])
    assert (cfg.hhcl.momentum, cfg.use_gpu) == (0.2, False)


@pytest.mark.parametrize("value", ["-1e-3", "-t", "--root"])
def test_what_follows_a_setting_is_its_value(capsys, value):
    assert_one_sentence(train_hhcl.main(["train.lr", value, "-s", "market1501"]), capsys.readouterr().err, "train.lr")


def test_a_list_that_is_given_twice_is_one(capsys, tmp_path):
    command = ["-s", "market1502", "-s", "market1501", "--root", str(tmp_path)]
    assert_one_sentence(train_hhcl.main(command), capsys.readouterr().err, "market1502")


@pytest.mark.parametrize("option", ["--root", "--config-file"])
def test_an_empty_option_is_no_missing_one(capsys, option):
    assert_one_sentence(train_hhcl.main([option, ""]), capsys.readouterr().err)


def test_an_unknown_setting_behind_a_list_of_names(call):
    code, _, error = call("--transforms", "random_flip", "modell.name", "resnet50")
    assert_one_sentence(code, error, "modell.name")


def test_configurations_of_torchreids_engines_run(call, tmp_path):
    file = tmp_path / "triplet.yaml"
    file.write_text(
        "data: {type: image, transforms: [random_flip, color_jitter]}\n"
        "sampler: {train_sampler: RandomIdentitySampler}\n"
        "loss: {name: triplet, softmax: {label_smooth: True}, triplet: {weight_x: 1.0}}\n"
        "train: {optim: amsgrad, fixbase_epoch: 1, open_layers: [fc, classifier], new_layers: [classifier]}\n"
    )
    code, output, error = call("--config-file", str(file), data__camera_regex="(c)")  # which a folder of crops has
    assert code == 0, error
    ignored = "sampler.train_sampler, train.new_layers, loss.name, loss.triplet.weight_x, data.camera_regex"
    assert f"These settings have no effect on HHCL: {ignored}\n" in output
    assert "train.open_layers is ['neck']" in output
    assert load_config(str(tmp_path / "log" / "config.yaml")).train.open_layers == ["neck"]


def test_a_run_of_hhcls_own_settings_names_none(call):
    code, output, _ = call(train__max_epoch=0)
    assert code == 0 and "no effect" not in output


def test_missing_folder(call, tmp_path):
    code, _, error = call(root=tmp_path / "nowhere")
    assert_one_sentence(code, error, tmp_path / "nowhere", "--root")


def test_empty_folder(call, tmp_path):
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "market1501" / split).mkdir(parents=True)
    code, _, error = call(root=tmp_path)
    assert_one_sentence(code, error, "market1501", tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model__nam": "resnet50"}, ["model.nam", "model.name"]),
        ({"modell__name": "resnet50"}, ["modell"]),
        ({"train__lr": "fast"}, ["str", "float"]),
        ({"model__name": "resnet51"}, ["resnet51", "resnet50"]),
        ({"model__pooling": "median"}, ["median", "gem"]),
        ({"data__sources": "['market1502']"}, ["market1502", "market1501"]),
        ({"train__batch_size": 30}, ["train.batch_size (30)", "sampler.num_instances (4"]),
        ({"data__type": "video"}, ["data.type", "video"]),
        ({"data__k_tfm": 2}, ["data.k_tfm"]),
        ({"model__name": "hacnn"}, ["hacnn", "160 x 64"]),
        ({"train__optim": "adamw"}, ["adamw"]),
        ({"cluster__min_samples": 1000}, ["no cluster", "cluster.eps"]),
        ({"cluster__eps": 1.5}, ["eps", "1.5"]),
        ({"cluster__knn": "annoy"}, ["annoy"]),
        ({"data__cache": "disk"}, ["data.cache", "'disk'", "ram"]),
        ({"train__amp": "half"}, ["train.amp", "'half'", "bf16"]),
        ({"model__load_weights": "nowhere.pth"}, ["nowhere.pth"]),
        ({"model__resume": "nowhere.pth"}, ["nowhere.pth"]),
        ({"train__max_epoch": -1}, ["train.max_epoch is -1", "whole number, 0 or more"]),
        ({"engine__iters": 0}, ["engine.iters is 0", "at least one step"]),
        ({"test__batch_size": 0}, ["test.batch_size is 0", "1 or more"]),
        ({"data__workers": -1}, ["data.workers is -1", "0 or more"]),
        ({"data__height": 0}, ["data.height is 0", "1 or more"]),
        ({"data__norm_mean": "[0.5]"}, ["data.norm_mean", "three numbers"]),
        ({"data__norm_std": "[0, 0, 0]"}, ["data.norm_std", "1e-06 or more"]),
        ({"data__transforms": "[1]"}, ["data.transforms", "names"]),
        ({"data__sources": "[]"}, ["data.sources is empty"]),
        ({"data__save_dir": ""}, ["data.save_dir is empty"]),
        ({"train__print_freq": 0}, ["train.print_freq is 0"]),
        ({"train__seed": 2**32}, ["train.seed", "0 to 4294967295"]),
        ({"train__stepsize": "[]"}, ["train.stepsize is empty"]),
        ({"train__lr_scheduler": "multi_step", "train__stepsize": "['late']"}, ["train.stepsize", "whole numbers"]),
        ({"train__bn_groups": 32}, ["train.bn_groups (32)", "one image", "16 or less"]),
        ({"train__fixbase_epoch": 1, "train__open_layers": "['head']"}, ["train.open_layers", "neck"]),
        ({"train__staged_lr": True, "model__bnneck": False}, ["train.new_layers", "backbone"]),
        ({"cluster__eps": "wide"}, ["cluster.eps is 'wide'", "number from 0 to 1"]),
        ({"hhcl__hard_weight": "heavy"}, ["hhcl.hard_weight is 'heavy'"]),
        ({"test__dist_metric": "manhattan"}, ["test.dist_metric", "euclidean, cosine"]),
        ({"test__ranks": "[0]"}, ["test.ranks is [0]", "whole numbers, 1 or more"]),
        ({"test__visrank_topk": 0}, ["test.visrank_topk is 0"]),
        ({"model__name": "densenet121", "data__height": 4}, ["densenet121", "4 x 32", "data.height"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings(call, settings, named):
    code, _, error = call(**settings)
    assert_one_sentence(code, error, *named)


def test_missing_configuration_file(call):
    code, _, error = call("--config-file", "configs/nowhere.yaml")
    assert_one_sentence(code, error, "configs/nowhere.yaml")


def test_unknown_key_in_a_file(call, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("cluster:\n  epss: 0.5\n")
    code, _, error = call("--config-file", str(file))
    assert_one_sentence(code, error, "cluster.epss", "mine.yaml", "cluster.eps")


def test_a_file_that_is_no_yaml(call, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("cluster: [0.5\n")
    code, _, error = call("--config-file", str(file))
    assert_one_sentence(code, error, "mine.yaml")


def test_setting_without_value(capsys):
    assert_one_sentence(train_hhcl.main(["cluster.eps"]), capsys.readouterr().err, "cluster.eps")


def test_checkpoint_of_another_model(call, finished_run):
    for key in ("model__load_weights", "model__resume"):
        code, _, error = call(model__name="osnet_x0_25", **{key: finished_run})
        assert_one_sentence(code, error, finished_run, "shufflenet_v2_x0_5")


def full_device(*_, **__):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(
    ("work", "named"),
    [
        ("hhcl_torchreid.memory.HybridMemory.forward", ["training", "train.batch_size", "model.resume auto"]),
        ("hhcl_torchreid.data.transforms.BatchAugmentation.apply", ["training", "train.batch_size"]),
        ("hhcl_torchreid.features.Embedder.of_store", ["features of the training images", "train.batch_size"]),
        ("hhcl_torchreid.features.statistics.update_bn", ["batch-norm statistics", "train.batch_size"]),
        ("hhcl_torchreid.data.loader.TestBatches.__iter__", ["query and gallery", "test.batch_size"]),
    ],
)
def test_a_full_device_is_one_sentence_and_nothing_is_lost(call, finished_run, tmp_path, monkeypatch, work, named):
    monkeypatch.setattr(work, full_device)
    settings = {"train__max_epoch": 2, "model__resume": finished_run, "train__precise_bn": 1}
    code, _, error = call(**settings)
    assert_one_sentence(code, error, "Out of memory", *named)
    monkeypatch.undo()
    settings["model__resume"] = "auto" if list(tmp_path.rglob("model-last.pth.tar")) else finished_run
    assert call(**settings)[0] == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"train__optim": "sgd"}, ["train.optim 'adam' (now 'sgd')"]),
        ({"train__optim": "amsgrad"}, ["train.optim 'adam' (now 'amsgrad')"]),
        ({"train__lr_scheduler": "cosine"}, ["train.lr_scheduler 'single_step' (now 'cosine')"]),
        ({"train__staged_lr": True}, ["train.staged_lr False (now True)"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_checkpoint_of_another_optimiser_or_schedule(finished_run, call, settings, named):
    code, _, error = call(model__resume=finished_run, train__max_epoch=2, train__precise_bn=1, **settings)
    assert_one_sentence(code, error, finished_run, *named)


def test_a_file_that_would_run_code_is_refused(call, tmp_path):
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_here",))

    torch.save({"state_dict": Attack()}, tmp_path / "attack.pth")
    for key in ("model__load_weights", "model__resume"):
        code, _, error = call(**{key: tmp_path / "attack.pth"})
        assert_one_sentence(code, error, "attack.pth")
    assert not (tmp_path / "was_here").exists()


def test_a_run_folder_that_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = call(data__save_dir=tmp_path / "file" / "log")
    assert_one_sentence(code, error, tmp_path / "file" / "log", "data.save_dir")


def test_unreadable_training_images(call, data_root, tmp_path):
    root = tmp_path / "data"
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        source = data_root / "market1501" / "Market-1501-v15.09.15" / split
        target = root / "market1501" / "Market-1501-v15.09.15" / split
        target.mkdir(parents=True)
        for image in source.iterdir():
            (target / image.name).symlink_to(image)
    (target.parent / "bounding_box_train" / "0007_c1s1_000001_00.jpg").write_bytes(b"cut off")
    code, _, error = call(root=root)
    assert_one_sentence(code, error, "1 unreadable", "0007_c1s1_000001_00.jpg")


def test_the_real_command_exits_with_two_and_no_traceback(tmp_path):
    command = [sys.executable, "tools/train_hhcl.py", "--root", str(tmp_path), "data.save_dir", str(tmp_path / "log")]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert_one_sentence(result.returncode, result.stderr, tmp_path)
