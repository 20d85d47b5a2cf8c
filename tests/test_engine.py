"""ImageHHCLEngine on rendered people: what it leaves behind, that it repeats itself, and what stops it."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchreid
from sklearn.metrics import adjusted_rand_score

from hhcl_torchreid import ImageHHCLEngine, PseudoLabeler, build_model
from hhcl_torchreid.checkpoint import load_checkpoint
from hhcl_torchreid.clustering import re_ranking
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.training.folder import RunFolder


def read_metrics(folder):
    with open(Path(folder, "metrics.csv"), encoding="utf-8") as file:
        return list(csv.DictReader(file))


def repeatable(rows):
    return [{column: value for column, value in row.items() if not column.startswith("seconds")} for row in rows]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, make_engine):
    folder = tmp_path_factory.mktemp("run")
    engine = make_engine()
    engine.run(save_dir=str(folder), max_epoch=3, eval_freq=2, visrank=True, visrank_topk=3)
    return engine, folder


def test_a_run_leaves_everything_behind(finished_run):
    engine, folder = finished_run
    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert all(rows[0][column] for column in ("mAP", "rank1", "seconds_evaluate"))
    trained = ("loss", "lr", "clusters", "outliers", "largest_cluster", "ari", "nmi")
    timed = ("seconds_extract", "seconds_label", "seconds_train", "seconds_data")
    assert all(row[column] for row in rows[1:] for column in trained + timed)
    assert [bool(row["mAP"]) for row in rows] == [True, False, True, True]
    assert [float(row["lr"]) for row in rows[1:]] == [0.001, 0.0005, 0.00025]
    for name in ("curves.png", "clusters.png", "rankings_market1501.png", "labels.csv"):
        assert (folder / name).stat().st_size > 0
    assert len(list((folder / "visrank_market1501").iterdir())) == len(
        engine.datamanager.test_dataset["market1501"]["query"]
    )
    assert list(folder.glob("events.out.tfevents.*"))


def test_labels_csv_holds_the_last_labels(finished_run):
    engine, folder = finished_run
    with open(folder / "labels.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [path for path, *_ in engine.records]
    assert [int(row["label"]) for row in rows] == engine.labels.tolist()
    assert [int(row["camera"]) for row in rows] == engine.images.cameras.tolist()
    clusters = set(engine.labels.tolist()) - {-1}
    assert clusters == set(range(len(clusters)))


def test_reported_ari_compares_labels_with_the_truth(finished_run):
    engine, folder = finished_run
    labels, truth = engine.labels.numpy().copy(), [pid for _, pid, _, _ in engine.records]
    labels[labels < 0] = np.arange((labels < 0).sum()) + len(labels)
    assert float(read_metrics(folder)[-1]["ari"]) == pytest.approx(adjusted_rand_score(truth, labels))


def test_best_checkpoint_is_the_one_with_the_highest_map(finished_run):
    _, folder = finished_run
    tested = {int(row["epoch"]): float(row["mAP"]) for row in read_metrics(folder)[1:] if row["mAP"]}
    assert load_checkpoint(folder / "model" / "model-best.pth.tar")["epoch"] == max(tested, key=tested.get)
    assert load_checkpoint(folder / "model" / "model-last.pth.tar")["epoch"] == 3


def test_torchreid_reads_our_checkpoints(finished_run):
    engine, folder = finished_run
    path = str(folder / "model" / "model-last.pth.tar")
    plain = torchreid.models.build_model("shufflenet_v2_x0_5", 5, pretrained=False)
    torchreid.utils.load_pretrained_weights(plain, path)
    assert torch.equal(plain.conv1[0].weight, engine.model.backbone.conv1[0].weight)
    again = build_model("shufflenet_v2_x0_5", pretrained=False)
    assert torchreid.utils.resume_from_checkpoint(path, again) == 3


class Scalars:
    """Keeps what an engine tells TensorBoard."""

    def __init__(self):
        self.values = {}

    def add_scalar(self, name, value, _):
        self.values[name] = value


def test_results_equal_torchreids_own_evaluation(finished_run, make_datamanager):
    engine, _ = finished_run

    class WithMethodPixels(torchreid.engine.Engine):
        def parse_data_for_eval(self, data):
            return engine.parse_data_for_eval(data)

        def extract_features(self, input):
            return engine.extract_features(input)

    theirs = WithMethodPixels(make_datamanager(), use_gpu=False)
    theirs.register_model("model", engine.model)
    theirs.test_loader, theirs.writer = engine.test_loader, Scalars()
    rank1 = theirs.test()
    engine.test()
    ours = engine.results["market1501"]
    assert ours["Rank-1"] == pytest.approx(rank1, abs=1e-6)
    assert ours["mAP"] == pytest.approx(theirs.writer.values["Test/market1501/mAP"], abs=1e-6)


def test_reranking_ranks_by_the_reranked_distances(finished_run):
    engine, _ = finished_run
    loaders = engine.test_loader["market1501"]
    engine.set_model_mode("eval")
    query, gallery = (engine.extract_test_set(loaders[split], split) for split in ("query", "gallery"))
    cmc, mean_ap = torchreid.metrics.evaluate_rank(
        re_ranking(query.features, gallery.features).numpy(),
        *(query.identities, gallery.identities, query.cameras, gallery.cameras),
    )
    engine.test(rerank=True)
    reranked = engine.results["market1501"]
    assert (reranked["Rank-1"], reranked["mAP"]) == pytest.approx((cmc[0], mean_ap))
    engine.test()
    assert engine.results["market1501"] != reranked


def test_what_a_subclass_overrides_is_called_in_torchreids_order(make_datamanager, tmp_path):
    calls = []

    class Watched(ImageHHCLEngine):
        pass

    for name in ("train", "set_model_mode", "two_stepped_transfer_learning", "forward_backward", "update_lr", "test"):

        def hook(self, *arguments, _name=name, **settings):
            if not calls or calls[-1] != _name:
                calls.append(_name)
            return getattr(ImageHHCLEngine, _name)(self, *arguments, **settings)

        setattr(Watched, name, hook)

    def save_model(self, *arguments, **settings):
        calls.append("save_model")
        return ImageHHCLEngine.save_model(self, *arguments, **settings)

    Watched.save_model = save_model
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    optimizer = torchreid.optim.build_optimizer(model)
    labeler = PseudoLabeler(eps=0.6, k1=8, k2=3, min_samples=2)
    engine = Watched(make_datamanager(), model, optimizer, use_gpu=False, labeler=labeler, num_instances=4, iters=2)
    engine.run(save_dir=str(tmp_path), max_epoch=2, eval_freq=1)
    epoch = ["train", "set_model_mode", "two_stepped_transfer_learning", "forward_backward", "update_lr"]
    tested = ["test", "set_model_mode", "save_model"]
    assert calls[2:] == [*epoch[:2], *epoch[2:], *tested, *epoch, *tested, "set_model_mode"]


def test_true_identities_cannot_leak(finished_run, make_engine, make_datamanager, tmp_path):
    """With the training identities scrambled, losses, labels and accuracy are the same to the bit."""
    _, folder = finished_run
    datamanager = make_datamanager()
    records = datamanager.train_loader.dataset.train
    scrambled = [pid for _, pid, _, _ in records]
    random.Random(0).shuffle(scrambled)
    records[:] = [(path, pid, camera, dset) for (path, _, camera, dset), pid in zip(records, scrambled, strict=True)]
    make_engine(datamanager).run(save_dir=str(tmp_path), max_epoch=3, eval_freq=2)

    def without_truth(rows):
        return [{column: value for column, value in row.items() if column not in ("ari", "nmi")} for row in rows]

    ours, theirs = repeatable(read_metrics(tmp_path)), repeatable(read_metrics(folder))
    assert without_truth(ours) == without_truth(theirs)
    assert ours != theirs  # the scrambling was seen where it may be
    assert (tmp_path / "labels.csv").read_text() == (folder / "labels.csv").read_text()


def test_images_that_are_decoded_anew_give_the_same_run_to_the_bit(finished_run, make_engine, tmp_path):
    _, folder = finished_run
    make_engine(cache="off").run(save_dir=str(tmp_path), max_epoch=3, eval_freq=2)
    assert repeatable(read_metrics(tmp_path)) == repeatable(read_metrics(folder))
    assert (tmp_path / "labels.csv").read_text() == (folder / "labels.csv").read_text()
    assert (tmp_path / "clusters.png").read_bytes() == (folder / "clusters.png").read_bytes()


@pytest.mark.parametrize("stop_after", [1, 2])
def test_the_same_seed_gives_the_same_run_to_the_bit_resumed_or_not(finished_run, make_engine, tmp_path, stop_after):
    _, folder = finished_run
    first = make_engine()
    train = first.train

    def train_until(**settings):
        if first.epoch == stop_after:
            raise KeyboardInterrupt
        train(**settings)

    first.train = train_until
    with pytest.raises(KeyboardInterrupt):
        first.run(save_dir=str(tmp_path), max_epoch=3, eval_freq=2)
    second = make_engine()
    random.random(), np.random.rand(), torch.rand(1)  # a resumed run must not depend on what was drawn before
    start = second.resume(tmp_path / "model" / "model-last.pth.tar")
    assert start == stop_after
    second.run(save_dir=str(tmp_path), max_epoch=3, eval_freq=2, start_epoch=start)
    assert repeatable(read_metrics(tmp_path)) == repeatable(read_metrics(folder))
    assert (tmp_path / "labels.csv").read_text() == (folder / "labels.csv").read_text()


def test_ranks_need_not_hold_the_first(make_engine, tmp_path):
    engine = make_engine()
    engine.run(save_dir=str(tmp_path), max_epoch=0, ranks=[5])
    assert list(engine.results["market1501"]) == ["mAP", "Rank-1", "Rank-5"]


def test_a_finished_run_is_only_tested_when_resumed(finished_run, make_engine):
    _, folder = finished_run
    before = read_metrics(folder)
    again = make_engine()
    start = again.resume(folder / "model" / "model-last.pth.tar")
    again.run(save_dir=str(folder), max_epoch=3, start_epoch=start)
    assert read_metrics(folder) == before
    assert again.results["market1501"]["mAP"] == pytest.approx(float(before[-1]["mAP"]))


def test_identities_can_stand_in_for_clusters(make_engine, untested, tmp_path):
    engine = make_engine(untested, labels="identities")
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    assert adjusted_rand_score([pid for _, pid, _, _ in engine.records], engine.labels) == 1
    assert read_metrics(tmp_path)[-1]["clusters"] == "12"


@pytest.mark.parametrize(
    ("labeler", "found"),
    [
        ({"eps": 0.4, "min_samples": 1000}, "no cluster"),
        ({"eps": 0.99999, "k1": 150, "k2": 50}, "a single cluster"),
    ],
)
def test_no_two_clusters_stop_the_run_and_name_eps(make_engine, untested, tmp_path, labeler, found):
    engine = make_engine(untested, labeler=PseudoLabeler(**labeler))
    with pytest.raises(InputError, match=f"epoch 1 found {found} .*cluster.eps"):
        engine.run(save_dir=str(tmp_path), max_epoch=2)


class FailsFromTheSecondEpoch(PseudoLabeler):
    def __init__(self):
        super().__init__(eps=0.6, k1=8, k2=3, min_samples=2)
        self.first = None

    def __call__(self, features, images=None):
        labels = super().__call__(features, images)
        if self.first is not None:
            return torch.full_like(labels, -1)
        self.first = labels
        return labels


def test_one_epoch_without_clusters_goes_on_with_the_labels_before_but_two_do_not(
    make_engine, untested, tmp_path, capsys
):
    engine = make_engine(untested, labeler=FailsFromTheSecondEpoch())
    with pytest.raises(InputError, match="epoch 3 found no cluster"):
        engine.run(save_dir=str(tmp_path), max_epoch=5)
    assert torch.equal(engine.labels, engine.labeler.first)
    assert "epoch 2 found no cluster and goes on" in capsys.readouterr().out.replace("Epoch", "epoch")
    assert [row["clusters"] for row in read_metrics(tmp_path)[1:]][1] == "0"
    assert load_checkpoint(tmp_path / "model" / "model-last.pth.tar")["epoch"] == 2


def test_two_runs_do_not_share_a_folder(make_engine, tmp_path):
    engine, folder = make_engine(), RunFolder(tmp_path)
    told, tell = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            with folder.locked():
                os.write(tell, b"locked")
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(told, 10) == b"locked"
    with pytest.raises(InputError, match=rf"in use by another run \(process {process} on .*data.save_dir"):
        engine.run(save_dir=str(tmp_path), max_epoch=0)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with folder.locked():
        engine.run(save_dir=str(tmp_path), max_epoch=0)  # one run may nest it, and who was killed keeps nobody out


@pytest.mark.parametrize(
    ("iters", "found"),
    [(3, "a loss of nan at epoch 2, iteration 2"), (1, "weights that are no numbers at epoch 2, iteration 1")],
)
def test_what_is_no_number_stops_and_keeps_the_last_checkpoint(make_engine, untested, tmp_path, iters, found):
    engine = make_engine(untested, iters=iters)
    train = engine.train

    def spoil_the_second_epoch(**settings):
        if engine.epoch == 1:
            engine.optimizer.param_groups[0]["lr"] = float("inf")
        train(**settings)

    engine.train = spoil_the_second_epoch
    with pytest.raises(InputError, match=rf"{found}, learning rate inf.*model-last.pth.tar"):
        engine.run(save_dir=str(tmp_path), max_epoch=3)
    checkpoint = load_checkpoint(tmp_path / "model" / "model-last.pth.tar")
    assert checkpoint["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize("accident", [shutil.rmtree, lambda folder: shutil.move(folder, f"{folder}.moved")])
def test_a_run_folder_that_vanishes_is_named(make_engine, untested, tmp_path, accident):
    engine = make_engine(untested)
    train = engine.train

    def lose_the_folder(**settings):
        if engine.epoch == 1:
            accident(tmp_path / "log")
        train(**settings)

    engine.train = lose_the_folder
    with pytest.raises(InputError, match=r"cannot write .*log.*: No such file.*data.save_dir"):
        engine.run(save_dir=str(tmp_path / "log"), max_epoch=3)
    assert accident is shutil.rmtree or load_checkpoint(tmp_path / "log.moved/model/model-last.pth.tar")["epoch"] == 1


def test_an_unreadable_query_image_is_named(make_engine, make_datamanager, tmp_path):
    broken = tmp_path / "0001_c1s1_000001_00.jpg"
    broken.write_bytes(b"no image")
    datamanager = make_datamanager()
    queries = datamanager.test_loader["market1501"]["query"].dataset.query
    queries[:] = [(str(broken), *queries[0][1:])]
    engine = make_engine(datamanager)
    with pytest.raises(InputError, match=r"1 unreadable image.*0001_c1s1_000001_00.jpg"):
        engine.run(save_dir=str(tmp_path / "log"), max_epoch=1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_instances": 5}, r"train.batch_size \(32\)"),
        ({"bn_groups": 3}, r"train.bn_groups \(3\)"),
        ({"labels": "cameras"}, "cameras"),
        ({"cache": "gpu"}, "data.cache is 'gpu'"),
        ({"amp": "half"}, "train.amp is 'half'"),
        ({"mode": "median"}, "median"),
        ({"transforms": ["random_rotate"]}, "random_rotate"),
    ],
)
def test_settings_that_do_not_go_together_are_named(make_engine, settings, named):
    with pytest.raises(InputError, match=named):
        make_engine(**settings)


@pytest.mark.parametrize(
    ("adapt", "named"),
    [
        (torch.nn.DataParallel, "DataParallel.*torchrun"),
        (lambda model: model.backbone, "ShuffleNetV2.*build_model"),
        (lambda model: torch.nn.Sequential(model), "Sequential.*build_model"),
    ],
)
def test_a_model_of_another_making_is_named(make_datamanager, adapt, named):
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    with pytest.raises(InputError, match=named):
        ImageHHCLEngine(make_datamanager(), adapt(model), torchreid.optim.build_optimizer(model))


def test_a_run_that_was_ended_before_its_pictures_draws_them_when_it_is_resumed(make_engine, untested, tmp_path):
    make_engine(untested, iters=1).run(save_dir=str(tmp_path), max_epoch=1)
    picture = tmp_path / "clusters.png"
    drawn = picture.read_bytes()
    picture.unlink()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".clusters.png.{ended.pid}.tmp").write_bytes(drawn[:100])
    engine = make_engine(untested, iters=1)
    done = engine.resume(str(tmp_path / "model" / "model-last.pth.tar"))
    engine.run(save_dir=str(tmp_path), start_epoch=done, max_epoch=1)
    assert picture.read_bytes() == drawn
    assert not list(tmp_path.glob(".*.tmp"))
