"""The data sets that torchreid lacks, each on a small tree in its published layout."""

from pathlib import Path

import numpy as np
import pytest
import torchreid
from PIL import Image

from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.datasets import DATASETS
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.runner import build_datamanager

# data set -> folder, files of train, query and gallery, and the (identity, camera) that each stands for
PERSONX = (
    "personx/PersonX",
    {"bounding_box_train": {"0004_c11s1_3.jpg": (1, 4), "0002_c3s1_12.jpg": (0, 0), "0004_c4s1_1.jpg": (1, 1)}},
    {"query": {"0007_c8s1_2.jpg": (7, 2), "0009_c12s1_2.jpg": (9, 5)}},
    {"bounding_box_test": {"0007_c10s1_2.jpg": (7, 3), "0009_c3s1_2.jpg": (9, 0), "0000_c3s1_9.jpg": (0, 0)}},
)
CELEBREID = (
    "celebreid/CelebReID",
    {"train": {"3_1_0.jpg": (0, 0), "3_12_0.jpg": (0, 0), "10_2_0.jpg": (1, 0)}},
    {"query": {"1_1_0.jpg": (1, 0), "2_7_1.jpg": (2, 0)}},
    {"gallery": {"1_10_0.jpg": (1, 1), "1_1_1.jpg": (1, 1), "2_3_0.jpg": (2, 1)}},
)
VERI = (
    "veri/VeRi",
    {"image_train": {"0001_c016_00030600_0.jpg": (0, 15), "0003_c002_00031000_1.jpg": (1, 1)}},
    {"image_query": {"0002_c002_00030600_0.jpg": (2, 1)}},
    {"image_test": {"0002_c002_00030600_0.jpg": (2, 1), "0002_c020_00030700_0.jpg": (2, 19)}},
)
LAYOUTS = {"personx": PERSONX, "celebreid": CELEBREID, "veri": VERI}
OTHER_FOLDERS = {
    "personx": ["personx", "personx/subset1"],
    "celebreid": ["celebreid", "celebreid/Celeb-reID"],
    "veri": ["veri", "veri/VeRi_with_plate"],
}


def write_tree(root, name, folder=None):
    usual, *splits = LAYOUTS[name]
    for split in splits:
        for part, files in split.items():
            target = root / (folder or usual) / part
            target.mkdir(parents=True)
            for file in files:
                Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 12, 3), dtype=np.uint8)).save(
                    target / file
                )


def expected(name, root, folder=None):
    usual, *splits = LAYOUTS[name]
    return [
        {
            (str(root / (folder or usual) / part / file), *labels)
            for part, files in split.items()
            for file, labels in files.items()
        }
        for split in splits
    ]


def read(name, root, **settings):
    dataset = DATASETS[name](root=str(root), verbose=False, **settings)
    return dataset, [{record[:3] for record in part} for part in (dataset.train, dataset.query, dataset.gallery)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_identities_and_cameras_of_the_published_layout(name, tmp_path):
    write_tree(tmp_path, name)
    dataset, found = read(name, tmp_path)
    assert found == expected(name, tmp_path)
    assert len(dataset.train) == len(found[0]) and len(dataset.gallery) == len(found[2])


@pytest.mark.parametrize(("name", "folder"), [(name, folder) for name in LAYOUTS for folder in OTHER_FOLDERS[name]])
def test_other_folders_that_distributions_use(name, folder, tmp_path):
    write_tree(tmp_path, name, folder)
    assert read(name, tmp_path)[1] == expected(name, tmp_path, folder)


@pytest.mark.parametrize("name", LAYOUTS)
def test_torchreids_data_manager_loads_them(name, tmp_path):
    write_tree(tmp_path, name)
    manager = torchreid.data.ImageDataManager(
        root=str(tmp_path), sources=name, height=24, width=12, batch_size_train=2, workers=0, use_gpu=False
    )
    train, query, gallery = expected(name, tmp_path)
    assert manager.num_train_pids == len({identity for _, identity, _ in train})
    assert len(manager.test_loader[name]["query"].dataset) == len(query)
    assert len(manager.test_loader[name]["gallery"].dataset) == len(gallery)
    assert next(iter(manager.test_loader[name]["gallery"]))["img"].shape[1:] == (3, 24, 12)


def test_no_gallery_image_of_celebreid_is_left_out_of_the_evaluation(tmp_path):
    """Wherever an identity and a camera stand in both, torchreid's evaluation removes the gallery image."""
    write_tree(tmp_path, "celebreid")
    _, (_, query, gallery) = read("celebreid", tmp_path)
    assert not {record[1:] for record in query} & {record[1:] for record in gallery}


def test_junk_is_ignored(tmp_path):
    write_tree(tmp_path, "personx")
    junk = tmp_path / "personx" / "PersonX" / "bounding_box_test" / "-1_c3s1_1.jpg"
    Image.new("RGB", (12, 24)).save(junk)
    assert read("personx", tmp_path)[1] == expected("personx", tmp_path)


@pytest.mark.parametrize("name", ["0001_c5s1_1.jpg", "someone.jpg", "0001_c30s1_1.jpg"])
def test_a_file_of_another_name_is_named(name, tmp_path):
    write_tree(tmp_path, "personx")
    Image.new("RGB", (12, 24)).save(tmp_path / "personx" / "PersonX" / "query" / name)
    with pytest.raises(InputError, match=name):
        read("personx", tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_part_ends_in_one_sentence(name, tmp_path):
    write_tree(tmp_path, name)
    cfg = load_config(options=["data.root", str(tmp_path), "data.sources", f"['{name}']", "data.targets", "[]"])
    folder = tmp_path / LAYOUTS[name][0] / next(iter(LAYOUTS[name][2]))
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=str(folder)):
        build_datamanager(cfg)
    folder.rmdir()
    with pytest.raises(InputError, match=str(folder)):
        build_datamanager(cfg)


@pytest.mark.parametrize(
    ("file", "dataset", "size"),
    [
        ("personx", "personx", (256, 128)),
        ("celebreid", "celebreid", (256, 128)),
        ("veri", "veri", (224, 224)),
        ("folder", "folder", (256, 128)),
    ],
)
def test_each_has_a_configuration(file, dataset, size):
    cfg = load_config(str(Path(__file__).parents[2] / "configs" / f"hhcl_r50_{file}.yaml"))
    assert cfg.data.sources == cfg.data.targets == [dataset]
    assert (cfg.data.height, cfg.data.width) == size
    assert cfg.data.save_dir == f"log/hhcl_r50_{file}" and cfg.train.bn_groups == 4
