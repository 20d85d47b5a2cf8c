"""What a checkpoint holds: the configuration in it, and nothing that takes for ever."""

import os
import zipfile

import pytest
import torch
import yaml

from hhcl_torchreid.checkpoint import configuration_in, load_checkpoint
from hhcl_torchreid.config import get_default_config, load_config
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.saved import load_features


def test_what_was_dumped_comes_back():
    cfg = load_config(overrides={"model.pooling": "gem", "cluster.eps": [0.4, 0.5, 0.6], "train.amp": "off"})
    assert configuration_in({"config": cfg.dump()}, "model.pth") == cfg


def test_the_rest_is_default_and_unknown_keys_do_not_matter():
    text = yaml.safe_dump({"data": {"height": 64, "colour": "red"}, "weather": {"rain": True}, 3: 4})
    expected = get_default_config()
    expected.data.height = 64
    assert configuration_in({"config": text}, "model.pth") == expected


@pytest.mark.parametrize("checkpoint", [{}, {"config": {"model": {"name": "resnet18"}}}, {"config": None}])
def test_a_checkpoint_without_one(checkpoint):
    assert configuration_in(checkpoint, "model.pth") is None


MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ENDLESS: dict = {}
ENDLESS["state_dict"] = ENDLESS
BOMB: list = []
for _ in range(9):
    BOMB = [BOMB] * 9


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (torch.zeros(1).expand(10**13), "a tensor [10000000000000] that is"),
        (torch.zeros(3).to_sparse(), "a tensor [3] that is"),
        (ENDLESS, "more parts than any network"),
        (BOMB, "more parts than any network"),
    ],
    ids=["view", "sparse", "endless", "bomb"],
)
def test_parts_that_would_take_for_ever(tmp_path, part, named):
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "part": part}, tmp_path / "model.pth")
    with pytest.raises(InputError) as raised:
        load_checkpoint(tmp_path / "model.pth")
    assert named in str(raised.value) and "model.pth" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "model: [",
        "model: 3",
        "- model",
        "a: 2001-99-99",
        "&a [*a]",
        "[" * 5000,
        "!!python/name:os.system",
        MERGES,
        "a: " + "x" * 10**6,
    ],
)
def test_one_that_is_none_is_a_sentence(text):
    with pytest.raises(InputError, match=r"^the configuration in model\.pth cannot be read .*train_hhcl\.py wrote$"):
        configuration_in({"config": text}, "model.pth")


def test_an_archive_that_would_fill_the_memory_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.pth"
    torch.save({"weight": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=r"bomb.pth is compressed, and unpacks to 4,\d{3},\d{3} bytes: save it anew"):
        load_checkpoint(path)


def archive_of_many(path):
    torch.save({"weight": torch.zeros(2)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/1", b"")
        archive.filelist *= 10_000  # each stands in the table at the end so often


def archive_with_a_long_table(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", bytes(20_000_001))


def without_an_archive(path):
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    beginning = path.read_bytes().partition(b"weight")[0]
    path.write_bytes(beginning + b"weight" + b"N" * 900_001)


@pytest.mark.parametrize(
    "write",
    [
        archive_of_many,
        archive_with_a_long_table,
        without_an_archive,
        lambda path: path.write_bytes((20_000_001).to_bytes(8, "little") + b"{"),
    ],
    ids=["archive of many", "archive with a long table", "no archive", "safetensors"],
)
def test_tables_that_would_take_minutes_to_read(tmp_path, write):
    write(tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth holds more parts than any network has: give a checkpoint$"):
        load_checkpoint(tmp_path / "model.pth")


def test_a_file_as_before_archives(tmp_path):
    weights = {"weight": torch.arange(3.0), "bias": torch.ones(2, 2, dtype=torch.float16), "epoch": 4}
    torch.save(weights, tmp_path / "model.pth", _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(tmp_path / "model.pth")
    assert torch.equal(loaded["weight"], weights["weight"]) and torch.equal(loaded["bias"], weights["bias"])
    assert loaded["epoch"] == 4


@pytest.mark.parametrize(("read", "wanted"), [(load_checkpoint, "a checkpoint"), (load_features, "an earlier")])
@pytest.mark.parametrize("kind", ["folder", "pipe", "lost link", "nothing"])
def test_what_is_no_file_is_not_said_to_be_missing(tmp_path, read, wanted, kind):
    path = tmp_path / "weights"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "lost link":
        path.symlink_to(tmp_path / "gone")
    words = "does not exist" if kind == "nothing" else "is no ordinary file"
    with pytest.raises(InputError, match=f"weights {words}: give .*{wanted}"):
        read(path)
