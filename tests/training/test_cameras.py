"""Runs that look at cameras: one camera alone changes nothing, and those of two data sets stay apart."""

import re

import pytest


@pytest.mark.parametrize("layout", ["a folder without cameras", "unknown cameras"])
def test_with_one_camera_a_run_is_that_of_plain_hhcl_and_says_so_once(
    make_engine, make_datamanager, data_root, tmp_path, capsys, layout
):
    losses, said = [], []
    for name, settings in {
        "plain": {},
        "cameras": {"camera_weight": "entropy", "camera_proxy": 0.5, "camera_bn": 1},
    }.items():
        if layout == "unknown cameras":
            datamanager = make_datamanager(targets=[])
            records = datamanager.train_loader.dataset.train
            records[:] = [(path, identity, -1, dataset) for path, identity, _, dataset in records]
        else:
            crops = data_root / "synthetic_market" / "Market-1501-v15.09.15" / "bounding_box_train"
            datamanager = make_datamanager(root=str(crops), sources="folder", targets="folder")
        engine = make_engine(datamanager, iters=1, **settings)
        engine.run(save_dir=str(tmp_path / name), max_epoch=1)
        losses.append(engine.history.last["loss"])
        said.append(capsys.readouterr().out.count("are of one camera, or of unknown ones"))
        assert "one_camera" not in (tmp_path / name / "metrics.csv").read_text()
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert said == [0, 1]


def test_cameras_of_two_data_sets_that_are_joined_have_proxies_of_their_own(make_engine, make_datamanager, tmp_path):
    datamanager = make_datamanager(sources=["market1501", "synthetic"], targets=[])
    engine = make_engine(datamanager, iters=1, camera_proxy=0.5, camera_weight="entropy")
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    by_name = [
        (label, "synthetic_market" in path, re.search(r"_c(\d)", path).group(1))
        for label, (path, *_) in zip(engine.labels.tolist(), engine.records, strict=True)
        if label >= 0
    ]
    proxies = engine.memory.proxies
    assert len(proxies.features) == len(set(by_name)) > len({(label, camera) for label, _, camera in by_name})
    of_image = dict(zip(engine.records, engine.images.cameras.tolist(), strict=True))
    names = {camera: path.rsplit("/", 2)[0] for (path, *_), camera in of_image.items()}
    assert all(names[camera] == path.rsplit("/", 2)[0] for (path, *_), camera in of_image.items())


def test_a_run_counts_the_clusters_that_one_camera_fills(make_engine, untested, tmp_path):
    engine = make_engine(untested, iters=1)
    engine.run(save_dir=str(tmp_path), max_epoch=1)
    cameras_of = [
        set(engine.images.cameras[engine.labels == label].tolist()) for label in range(engine.labels.max() + 1)
    ]
    share = sum(len(cameras) == 1 for cameras in cameras_of) / len(cameras_of)
    assert engine.history.last["one_camera"] == pytest.approx(share)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0].count("one_camera") == 1
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"Labels/one_camera" in events.read_bytes()
