"""A pipe in place of a file, which a reader would wait at for ever, is refused in a sentence; and pages of any data."""

import json
import os
import signal

import numpy as np
import pytest
from crops import save_image
from filelock import FileLock
from hostile import assert_one_sentence

from hhcl_torchreid.commands import main as hhcl
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities.page import ASSIGNED, DATA, read_page
from hhcl_torchreid.training.folder import RunFolder


@pytest.fixture
def places(tmp_path):
    """Crops, features and an assignment of them."""
    names = [f"{number}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        save_image(tmp_path / "crops" / name, number)
    np.savez(tmp_path / "f.npz", features=np.eye(6, dtype=np.float32), paths=np.array(names))
    words = ["assign", "--features", tmp_path / "f.npz", "--root", tmp_path / "crops", "--out", tmp_path / "out"]
    assert hhcl([str(word) for word in words]) == 0
    return tmp_path


@pytest.fixture
def in_time():
    """Ends what waits."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


ASSIGN = ("assign", "--features", "f.npz", "--root", "crops", "--out", "out")


@pytest.mark.parametrize(
    ("pipe", "words"),
    [
        ("out/identities.csv", ASSIGN),
        ("out/names.csv", (*ASSIGN[:-1], "new", "--into", "out", "--corrections", "out/names.csv")),
        ("out/names.csv", ("assign", "--root", "crops", "--out", "out", "--forget", "0")),
        ("out/corrections.csv", ("review", "out")),
        ("out/page/data.js", ("review", "out")),
        ("boxes.txt", ("crop-tracks", "--video", "v.mp4", "--tracks", "boxes.txt", "--camera", "a", "--out", "o")),
        ("f.npz", ("choose-eps", "--features", "f.npz")),
        ("m.pth", ("export", "--weights", "m.pth")),
        ("run/metrics.csv", ("report", "run")),
        ("c.yaml", ("train", "--config-file", "c.yaml")),
        ("data/rendering.json", ("render", "--footage", "data")),
        ("run/.owner", ("train", "--dry-run", "data.save_dir", "run", "model.load_weights", "none.pth")),
        ("c.csv", (*ASSIGN, "--corrections", "c.csv")),
        ("out/corrections.csv", ASSIGN),
        ("out/corrections.csv", (*ASSIGN[:-1], "new", "--into", "out")),
        ("crops/crops.csv", ASSIGN),
        ("into", (*ASSIGN, "--into", "into")),
        ("v.mp4", ("crop-tracks", "--video", "v.mp4", "--tracks", "b.txt", "--camera", "a", "--out", "o")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        os.mkdir,
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["pipe", "zeros", "folder", "nowhere"],
)
def test_no_reader_waits_at_a_pipe_or_reads_a_device(places, capsys, monkeypatch, in_time, make, pipe, words):
    monkeypatch.chdir(places)
    path = places / pipe
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    capsys.readouterr()
    assert_one_sentence(hhcl(words), capsys.readouterr().err)


def test_a_disk_that_locks_no_files(tmp_path):
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"cannot write .*run/\.lock: .*set data\.save_dir"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass


def test_an_owner_that_is_no_text(tmp_path):
    (tmp_path / ".owner").touch()
    with FileLock(tmp_path / ".lock"):
        (tmp_path / ".owner").write_bytes(b"\xff" * 10**6)
        with pytest.raises(InputError, match="in use by another run") as raised, RunFolder(tmp_path).locked():
            pass
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "change",
    [
        {"path": None},
        {"path": [1, 2]},
        {"path": "abc"},
        {"images": None},
        {"id": 7},
        {"answers": 5},
        {"answers": [[]]},
        {"answers": [["same", 0, 99, ""]]},
        {"answers": [["same", -2, 0, ""]]},
        {"answers": [["name", 0, -1, None]]},
    ],
    ids=str,
)
def test_data_of_a_page_that_were_changed_by_hand(places, change):
    page = places / "out" / DATA
    data = json.loads(json.loads(page.read_text().removeprefix(f"{ASSIGNED}JSON.parse(").removesuffix(");\n")))
    assert read_page(places / "out") == data
    page.write_text(f"{ASSIGNED}{json.dumps(data)};\n")  # as earlier versions wrote it
    assert read_page(places / "out") == data
    for text in (json.dumps(data | change), json.dumps({k: v for k, v in data.items() if k not in change})):
        page.write_text(f"{ASSIGNED}{text};\n")
        with pytest.raises(InputError, match="holds no page of identities"):
            read_page(places / "out")
    for text in ("[" * 10**5, "[]", "7", ""):
        page.write_text(f"{ASSIGNED}{text};\n")
        with pytest.raises(InputError, match="holds no page of identities"):
            read_page(places / "out")
