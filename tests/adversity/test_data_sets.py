"""Data sets that are not as torchreid expects them: read rightly, or refused in a sentence, and never in silence."""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest
import torch
import torchreid
from hostile import assert_one_sentence, call_train
from PIL import Image

from hhcl_torchreid import runner
from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.datasets import FolderOfCrops, check_datasets
from hhcl_torchreid.data.folder import find_others
from hhcl_torchreid.data.images import open_image
from hhcl_torchreid.data.records import check_records, tell_of_unread_files
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.evaluation.retrieval import findable_targets
from hhcl_torchreid.labels.base import Images, keep_apart

MARKET = "Market-1501-v15.09.15"
REGISTERED = {}
for known in ("own", "made"):  # torchreid takes a name once and for all
    torchreid.data.register_image_dataset(known, lambda known=known, **settings: REGISTERED[known](**settings))
SPLITS = ("bounding_box_train", "query", "bounding_box_test")


def write_image(path, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 32), (colour, 2 * colour, 3 * colour)).save(path, "png" if path.suffix == ".png" else "jpeg")


def write_market(root, dataset="market1501", people=2, cameras=(1, 2), suffix=".jpg"):
    for split, person, camera in itertools.product(SPLITS, range(1, people + 1), cameras):
        write_image(root / dataset / MARKET / split / f"{person:04}_c{camera}s1_000001_00{suffix}", person)
    return root / dataset / MARKET


def datamanager(root, *options):
    options = (
        "data.root",
        str(root),
        "data.workers",
        "0",
        "use_gpu",
        "False",
        "data.height",
        "32",
        "data.width",
        "16",
        *options,
    )
    return runner.build_datamanager(load_config(options=options))


@pytest.fixture
def register():
    """Says what the data sets own and made are in this test."""
    yield lambda dataset, name="own": REGISTERED.update({name: dataset})
    REGISTERED.clear()


def own_class(train, query=None, gallery=None, error=None):
    """A data set of one's own; None makes query and gallery of the training images."""

    class Own(torchreid.data.ImageDataset):
        dataset_dir = ""

        def __init__(self, root="", **settings):
            if error is not None:
                raise error
            lists = [
                [(f"{root}/{number}.jpg", *record) for number, record in enumerate(records)]
                for records in (train, train if query is None else query, train if gallery is None else gallery)
            ]
            super().__init__(*lists, **settings)

    return Own


def test_joined_data_sets_share_no_identity_and_no_camera(tmp_path, register):
    write_market(tmp_path, people=3)
    register(own_class([(10 * person + 3, 7 * camera) for person in range(4) for camera in range(3)]))
    joined = datamanager(tmp_path, "data.sources", "['own', 'market1501']").train_loader.dataset.data
    records = keep_apart(joined)
    assert [record[0] for record in records] == [record[0] for record in joined]
    own, market = ([record for record in records if record[3] == number] for number in (0, 1))
    for column, numbers in ((1, (4, 3)), (2, (3, 2))):
        ours, others = ({record[column] for record in part} for part in (own, market))
        assert (len(ours), len(others)) == numbers and not ours & others
    assert Images.of_records(joined).cameras.tolist() == [camera for *_, camera, _ in records]
    assert keep_apart(records) == records and keep_apart(records[:5]) == records[:5]


def test_identities_of_joined_data_sets_are_classes_of_their_own(tmp_path, register, make_engine):
    write_market(tmp_path, people=4)
    register(own_class([(3 * person, camera) for person in range(2) for camera in range(2)]))
    manager = datamanager(
        tmp_path, "data.sources", "['own', 'market1501']", "train.batch_size", "8", "sampler.num_instances", "2"
    )
    engine = make_engine(manager, labels="identities", num_instances=2)
    labels = engine.labeler(torch.zeros(len(engine.records), 1), engine.images)
    assert int(labels.max()) + 1 == len({(record[3], record[1]) for record in manager.train_loader.dataset.data}) == 6
    assert len({record[1] for record in manager.train_loader.dataset.data}) < 6  # torchreid joins two of them
    assert len(set(engine.identities.tolist())) == 6


def test_numbers_may_be_of_any_whole_type(tmp_path, register, make_engine):
    people = itertools.cycle([np.uint64, np.int8, int, bool])
    records = [
        (kind(person % 2), np.int32(camera)) for person in range(4) for camera in range(2) for kind in (next(people),)
    ]
    register(own_class(records))
    for number in range(len(records)):
        write_image(tmp_path / f"{number}.jpg", 9 * number)
    options = (
        "data.sources",
        "['own']",
        "data.targets",
        "['own']",
        "train.batch_size",
        "4",
        "sampler.num_instances",
        "2",
    )
    engine = make_engine(datamanager(tmp_path, *options), labels="identities", num_instances=2)
    engine.run(save_dir=str(tmp_path / "log"), max_epoch=1)
    assert engine.identities.tolist() == [int(person) for person, _ in records]
    assert 0 < engine.results["own"]["mAP"] <= 1


@pytest.mark.parametrize("name", ["market1501", "dukemtmcreid", "synthetic"])
@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("exp1_c3", "torchreid takes 1_c3 in "),
        ("-_c2s", "torchreid takes -_c2 in "),
        ("data[1]", "pattern of names"),
        ("*", "pattern"),
        ("a?", "pattern"),
    ],
)
def test_a_root_that_torchreid_reads_other_things_from(tmp_path, name, folder, named):
    for inner in ("market1501", "dukemtmc-reid"):
        (tmp_path / folder / inner).mkdir(parents=True)
    with pytest.raises(InputError, match=named):
        check_datasets([name], str(tmp_path / folder / "."))


def test_a_folder_of_crops_may_be_called_anything(tmp_path):
    for number in range(2):
        write_image(tmp_path / "exp1_c3[1]*" / "hall" / f"{number}.jpg", number)
    check_datasets(["folder"], str(tmp_path / "exp1_c3[1]*"))
    manager = datamanager(tmp_path / "exp1_c3[1]*", "data.sources", "['folder']", "data.targets", "['folder']")
    assert len(manager.train_loader.dataset.data) == 2


@pytest.mark.parametrize("sources", ["['market1501', 'market1501']", "['market1501', 'own']"])
def test_an_image_is_of_one_source(tmp_path, register, sources):
    folder = write_market(tmp_path)
    register(torchreid.data.datasets.Market1501)
    manager = datamanager(tmp_path, "data.sources", sources)
    with pytest.raises(InputError, match=rf"{folder}.*\.jpg is of two of the data sets market1501, "):
        check_records(manager)


@pytest.mark.parametrize("dataset", ["market1501", "dukemtmcreid"])
@pytest.mark.parametrize("split", range(3))
def test_files_that_a_glob_does_not_find_are_told(tmp_path, capsys, dataset, split):
    folder = write_market(tmp_path, people=3)
    if dataset == "dukemtmcreid":
        (tmp_path / "dukemtmc-reid").mkdir()
        folder = folder.rename(tmp_path / "dukemtmc-reid" / "DukeMTMC-reID")
    part = folder / SPLITS[split]
    images = sorted(part.iterdir())
    for image, suffix in zip(images, (".JPG", ".png", ".tif", ".jpeg"), strict=False):
        image.rename(image.with_suffix(suffix))
    (part / "Thumbs.db").write_text("")
    (part / ".hidden.JPG").write_text("")
    tell_of_unread_files(datamanager(tmp_path, "data.sources", f"['{dataset}']", "data.targets", f"['{dataset}']"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "are not read" in line]
    assert len(lines) == 1 and f"4 image file(s) in {part}" in lines[0] and ".JPG, .jpeg, .png, .tif" in lines[0]


def test_folders_in_a_folder_and_names_with_a_space_behind_are_told(tmp_path, capsys):
    part = write_market(tmp_path, people=3) / "query"
    images = sorted(part.iterdir())
    for place in ("deeper", ".hidden"):
        (part / place).mkdir()
    images[0].rename(part / "deeper" / images[0].name)
    images[1].rename(part / ".hidden" / images[1].name)
    images[2].rename(part / f"{images[2].name} ")
    tell_of_unread_files(datamanager(tmp_path))
    lines = [line for line in capsys.readouterr().out.splitlines() if "are not read" in line]
    assert len(lines) == 2 and f"1 image file(s) in {part / 'deeper'} are not read" in lines[0]
    assert "1 image file(s)" in lines[1] and "'.jpg '" in lines[1] and "only .jpg is looked for" in lines[1]


def test_nothing_is_told_where_all_is_read(tmp_path, capsys):
    folder = write_market(tmp_path)
    write_image(folder / "bounding_box_test" / "-1_c1s1_000001_00.jpg")  # junk, left out by Market-1501's own protocol
    tell_of_unread_files(datamanager(tmp_path))
    assert "not read" not in capsys.readouterr().out


def test_left_out_csv_names_images_of_other_kinds(tmp_path, capsys):
    for number, suffix in enumerate((".jpg", ".JPEG", ".tif", ".gif", ".jfif", ".AVIF", ".heic")):
        write_image(tmp_path / "camera" / f"{number}{suffix}", 10 * number)
    manager = datamanager(tmp_path, "data.sources", "['folder']", "data.targets", "['folder']")
    named = {image.path.suffix: image.reason for image in FolderOfCrops.left_out}
    assert set(named) == {".tif", ".gif", ".jfif", ".AVIF", ".heic"} and "not read" in named[".tif"]
    assert len(manager.train_loader.dataset.data) == 2 and "Left out 5 of 7" in capsys.readouterr().out
    tell_of_unread_files(manager)
    assert "are not read" not in capsys.readouterr().out  # once is enough
    assert [path.suffix for path in find_others(tmp_path)] == [".tif", ".gif", ".jfif", ".AVIF", ".heic"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
def test_only_regular_files_are_opened(tmp_path, make):
    write_image(tmp_path / "camera" / "0.jpg")
    make(tmp_path / "camera" / "x.jpg")
    with pytest.raises(OSError, match="no ordinary file"):
        open_image(tmp_path / "camera" / "x.jpg")
    manager = datamanager(tmp_path, "data.sources", "['folder']", "data.targets", "['folder']")
    assert len(manager.train_loader.dataset.data) == 1
    assert all(image.kind == "unreadable" for image in FolderOfCrops.left_out)


def sparse(path, size):
    path.touch()
    os.truncate(path, size)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: sparse(path, 3 << 30),
        lambda path: path.touch(),
        lambda path: path.symlink_to("/proc/self/maps"),  # which says that it is empty
        lambda path: path.write_bytes(POSTSCRIPT),
    ],
    ids=["huge", "empty", "of the system", "program"],
)
def test_what_is_no_image_is_not_read_to_its_end(tmp_path, make):
    write_image(tmp_path / "camera" / "0.jpg")
    make(tmp_path / "camera" / "x.jpg")
    with pytest.raises(OSError, match=r"is no image|is a program"):
        open_image(tmp_path / "camera" / "x.jpg")
    manager = datamanager(tmp_path, "data.sources", "['folder']", "data.targets", "['folder']")
    assert len(manager.train_loader.dataset.data) == 1
    assert [image.kind for image in FolderOfCrops.left_out] == ["unreadable"]


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (KeyError("camera"), "KeyError: 'camera'"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), "install the package h5py"),
        (TypeError("bad\nlines"), "TypeError: bad lines"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (FileNotFoundError(2, "No such file", "list.txt"), "list.txt"),
        (AttributeError("'NoneType' object has no attribute 'groups'"), "groups"),
        (RecursionError("x" * 10**5), "RecursionError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), "UnicodeDecodeError"),
        (Exception("anything"), "anything"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_class_may_raise_anything(tmp_path, register, error, named):
    register(own_class([(0, 0)], error=error))
    with pytest.raises(InputError) as raised:
        datamanager(tmp_path, "data.sources", "['own']")
    message = str(raised.value)
    assert named in message and "data set own" in message and "\n" not in message and len(message) < 800


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_a_full_disk_or_memory_is_no_wrong_layout(tmp_path, register, error):
    register(own_class([(0, 0)], error=error))
    with pytest.raises(type(error)):
        datamanager(tmp_path, "data.sources", "['own']")


def test_a_disk_that_is_full_while_the_data_set_loads_is_called_that(tmp_path, register, capsys, data_root):
    register(own_class([(0, 0)], error=OSError(errno.ENOSPC, "No space left on device")))
    code = call_train(data_root, tmp_path / "log", {"data.sources": "['own']"})
    assert_one_sentence(
        code, capsys.readouterr().err, f"cannot write {tmp_path / 'log'}: No space left on device", "data.save_dir"
    )


def test_a_class_without_a_folder_of_its_own(tmp_path, register, data_root):
    dataset = own_class([(0, 0), (0, 1)])
    del dataset.dataset_dir
    register(dataset)
    check_datasets(["own"], str(tmp_path))
    register(lambda **settings: dataset(**settings), "made")
    check_datasets(["made"], str(tmp_path))
    assert (
        len(datamanager(tmp_path, "data.sources", "['made']", "data.targets", "['own']").train_loader.dataset.data) == 2
    )


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ((0, "hall"), "the camera 'hall' (str)"),
        (("anna", 1), "the identity 'anna' (str)"),
        ((0, None), "the camera None"),
        ((0.5, 1), "the identity 0.5"),
        ((2**63, 1), "more than 18 digits as identity"),
        ((0, -(10**5000)), "more than 18 digits as camera"),
    ],
    ids=range(6),
)
@pytest.mark.parametrize("split", range(3))
def test_cameras_and_identities_are_numbers(tmp_path, register, record, named, split):
    lists = [[(np.int64(0), np.int32(0))], [(0, 0)], [(0, 1)]]
    lists[split].append(record)
    register(own_class(*lists))
    with pytest.raises(InputError) as raised:
        check_records(datamanager(tmp_path, "data.sources", "['own']", "data.targets", "['own']"))
    assert named in str(raised.value) and "data set own" in str(raised.value)


@pytest.mark.parametrize("lists", [([], None, None), ([(0, 0)], [], None), ([(0, 0)], None, [])])
def test_empty_lists_are_a_sentence(tmp_path, register, lists):
    register(own_class(*lists))
    with pytest.raises(InputError, match=r"data set own.*training, query and gallery images"):
        datamanager(tmp_path, "data.sources", "['own']", "data.targets", "['own']")


def spoil_mat(root):
    (root / "cuhk03" / "cuhk03_release").mkdir(parents=True)
    (root / "cuhk03" / "cuhk03_release" / "cuhk-03.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(300))


def msmt17(root, inner):
    folder = root / "msmt17" / inner
    for split in ("train", "test"):
        write_image(folder / split / "0000" / "0000_000_01_0303morning_0015_0.jpg")
    for name in ("list_train", "list_val", "list_query", "list_gallery"):
        (folder / f"{name}.txt").write_text(
            "0000/0000_000_01_0303morning_0015_0.jpg 0\n" + "\n" * (inner == "MSMT17_V1")
        )


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cuhk03", spoil_mat),
        ("msmt17", lambda root: msmt17(root, "MSMT17_V1")),  # blank lines
        ("msmt17", lambda root: msmt17(root, "MSMT17_V1/MSMT17_V1")),
        ("market1501", lambda root: write_image(write_market(root) / SPLITS[0] / "nobody.jpg")),
        ("market1501", lambda root: shutil.rmtree(write_market(root) / SPLITS[1])),
        ("market1501", lambda root: write_market(root, suffix=".png")),
    ],
)
def test_layouts_that_torchreid_does_not_read(tmp_path, name, make):
    make(tmp_path)
    with pytest.raises(InputError, match=f"cannot read data set {name}"):
        datamanager(tmp_path, "data.sources", f"['{name}']", "data.targets", f"['{name}']")


@pytest.mark.parametrize(
    ("query", "gallery"),
    [([(0, 0)], [(0, 0)]), ([(0, 0)], [(1, 1)]), ([(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 5)])],
    ids=["one camera", "absent", "own camera only"],
)
def test_what_cannot_be_tested_is_told_once_and_the_rest_is_tested(tmp_path, register, capsys, query, gallery):
    write_market(tmp_path)
    register(own_class([(0, 0), (1, 1)], query, gallery))
    manager = datamanager(tmp_path, "data.targets", "['own', 'market1501']")
    assert list(findable_targets(manager.test_loader)) == ["market1501"]
    assert capsys.readouterr().out.count("own cannot be tested") == 1


UNTESTABLE = {
    "own camera only": ((1, 3), (1, 3)),
    "absent": ((1, 3), (2, 4)),
    "one camera": ((1, 3), (1, 3), (2, 3)),
}
"""Why no query can be found -> (person, camera) of the query, and of gallery images."""


def write_by_name(root, dataset, query, *gallery):
    """VeRi-776 or PersonX as they are distributed, with one query."""
    folder, splits = (
        (root / "veri" / "VeRi", ("image_train", "image_query", "image_test"))
        if dataset == "veri"
        else (root / "personx" / "PersonX", SPLITS)
    )
    images = {splits[0]: [(1, 3), (2, 4)], splits[1]: [query], splits[2]: gallery}
    for split, number in ((split, number) for split, labels in images.items() for number in range(len(labels))):
        person, camera = images[split][number]
        write_image(folder / split / f"{person:04}_c{camera}s1_{number}.jpg", person)


@pytest.mark.parametrize("why", UNTESTABLE)
@pytest.mark.parametrize("dataset", ["veri", "personx"])
def test_of_two_targets_in_their_own_layouts_the_one_that_can_be_is_tested(tmp_path, dataset, why, make_engine, capsys):
    write_market(tmp_path, people=3)
    write_by_name(tmp_path, dataset, *UNTESTABLE[why])
    engine = make_engine(datamanager(tmp_path, "data.targets", f"['{dataset}', 'market1501']"))
    assert capsys.readouterr().out.count(f"{dataset} cannot be tested") == 1
    for settings in ({}, {"rerank": True}, {"use_metric_cuhk03": True}):
        engine.results.clear()
        engine.run(save_dir=str(tmp_path / "log"), test_only=True, **settings)
        assert list(engine.results) == ["market1501"] and 0 < engine.results["market1501"]["mAP"] <= 1
    alone = make_engine(datamanager(tmp_path, "data.targets", f"['{dataset}']"))
    with pytest.raises(InputError, match="nothing to test on"):
        alone.run(save_dir=str(tmp_path / "log"), test_only=True)


def test_training_goes_on_where_nothing_can_be_tested(tmp_path, capsys):
    write_market(tmp_path / "data", people=6, cameras=(1,))
    for path in (tmp_path / "data").rglob("*.jpg"):
        noise = np.random.default_rng(int(path.name[:4])).integers(0, 256, (32, 16, 3), np.uint8)
        Image.fromarray(noise).save(path)
        Image.fromarray(255 - noise // 2).save(path.with_name(path.name.replace("_00.jpg", "_01.jpg")))
    settings = {
        "engine.labels": "identities",
        "train.batch_size": 8,
        "sampler.num_instances": 2,
        "engine.iters": 1,
        "test.visrank": True,
        "cuhk03.use_metric_cuhk03": True,
    }
    assert call_train(tmp_path / "data", tmp_path / "log", settings) == 0
    assert capsys.readouterr().out.count("market1501 cannot be tested") == 1
    weights = tmp_path / "log" / "model" / "model-last.pth.tar"
    settings = {"test.evaluate": True, "test.rerank": True, "model.load_weights": weights}
    code = call_train(tmp_path / "data", tmp_path / "test", settings)
    assert_one_sentence(code, capsys.readouterr().err, "nothing to test on")


def test_the_data_managers_transforms_are_used_or_told(make_engine, make_datamanager, capsys):
    make_engine(make_datamanager(transforms=["color_jitter", "random_flip"]))
    assert (
        "augments with random_flip, random_pad_crop, random_erase, not with the data manager's color_jitter"
        in capsys.readouterr().out
    )
    make_engine(make_datamanager(transforms=["random_flip"]), transforms=["random_flip"])
    assert "not with" not in capsys.readouterr().out
