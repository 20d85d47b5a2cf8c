"""Every tool ends in one way, whatever happens: signals, small memory, full disks, odd names, pictures of odd sizes."""

import errno
import json
import os
import re
import resource
import signal
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import assign_identities
import choose_eps
import numpy as np
import psutil
import pytest
import render_people
import search
import torch
from crops import save_image, save_model
from hostile import assert_one_sentence, call_train

from hhcl_torchreid.checkpoint import save_checkpoint
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.commands import load
from hhcl_torchreid.commands import main as hhcl
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models import build_model, check_input_size

REPOSITORY = Path(__file__).parents[2]
COMMANDS = sorted((REPOSITORY / "hhcl_torchreid" / "commands").glob("[a-z]*.py"))
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))
NOT_UNICODE = os.fsdecode(b"bad \xff")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.pth", 0)


@pytest.fixture
def crops(tmp_path):
    for number in range(6):
        save_image(tmp_path / "crops" / f"{number}.jpg", number)
    return tmp_path / "crops"


@pytest.mark.parametrize("tool", COMMANDS + TOOLS, ids=lambda tool: f"{tool.parent.stem}-{tool.stem}")
def test_every_tool_ends_as_the_others_do(tool):
    is_a_command = r"command = load\(\"[\w-]+\"\)"
    assert re.search(rf"return run_tool\(|{is_a_command}", tool.read_text(encoding="utf-8"))


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("work", "named"),
    [
        (lambda: bytearray(2**60), "out of memory"),
        (lambda: np.zeros(2**57), "out of memory (Unable to allocate"),
        (lambda: torch.zeros(2**57), "out of memory"),
        (lambda: raising(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))), "out of memory"),
        (lambda: raising(RuntimeError("can't start new thread")), "out of memory"),
        (lambda: raising(OSError(errno.ENOSPC, "No space left on device")), "No space left on device: free some"),
        (lambda: raising(DeprecationWarning("old\nname")), "DeprecationWarning: old name; python without -W error"),
        (
            lambda: raising(OSError(errno.EIO, "Input/output error")),
            "Input/output error: free some space there",
        ),
        (lambda: Path("a" * 300).stat(), f"cannot use {'a' * 300}: File name too long; give another path"),
        (lambda: raising(OSError(errno.EMFILE, "Too many open files")), "Too many open files: raise the limit of open"),
        (lambda: raising(BlockingIOError(errno.EAGAIN, "Resource unavailable")), "processes (ulimit -u)"),
        (lambda: raising(RuntimeError("received 0 items of ancdata")), "open files (ulimit -n)"),
        (
            lambda: raising(RuntimeError("Caught\nRuntimeError: unable to write to file </torch_7>: x")),
            "error: Runtime",
        ),
        (
            lambda: raising(RuntimeError("unable to resize file </torch_7> to the right size: File too large (27)")),
            "ulimit -f",
        ),
        (lambda: raising(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")), "/dev/shm"),
    ],
    ids=range(15),
)
def test_what_a_machine_or_python_lacks_is_a_sentence(capsys, work, named):
    code = run_tool(work)
    assert_one_sentence(code, capsys.readouterr().err, named)


@pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/crops"])
@pytest.mark.parametrize(
    "words",
    [
        ("assign", "--weights", "MODEL", "--root", "PATH", "--out", "OUT"),
        ("assign", "--weights", "MODEL", "--root", "CROPS", "--out", "OUT", "--into", "PATH"),
        ("search", "--weights", "MODEL", "--query", "PATH", "--gallery", "CROPS", "--out", "OUT"),
        ("search", "--weights", "MODEL", "--query", "CROPS", "--gallery", "PATH", "--out", "OUT"),
        ("report", "PATH"),
        ("review", "PATH"),
        ("choose-eps", "--features", "PATH"),
        ("crop-tracks", "--video", "PATH", "--tracks", "PATH", "--camera", "a", "--out", "OUT"),
    ],
    ids=" ".join,
)
def test_paths_that_no_system_takes_and_homes_of_nobody(model, crops, tmp_path, capsys, words, name):
    places = {"PATH": name, "CROPS": str(crops), "MODEL": str(model), "OUT": str(tmp_path / "out")}
    code = hhcl([places.get(word, word) for word in words])
    assert_one_sentence(code, capsys.readouterr().err, name)


@pytest.mark.parametrize(
    "words",
    [
        "assign --weights MODEL --root CROPS --out OUT",
        "assign --features MODEL --root CROPS --out OUT --into OUT --corrections MODEL --mot-out OUT",
        "search --weights MODEL --query CROPS OUT --gallery CROPS --out OUT",
        "choose-eps --features MODEL --plot OUT",
        "export --weights MODEL --out OUT",
        "crop-tracks --video CROPS --tracks MODEL --camera CROPS --out OUT",
        "render --root OUT --sheet OUT",
        "render --footage OUT",
        "report OUT --plot OUT",
        "review OUT",
    ],
)
def test_an_empty_path_is_not_the_working_directory(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    words = words.split()
    for place, word in enumerate(words):
        if word in ("MODEL", "CROPS", "OUT"):
            with pytest.raises(SystemExit) as ended:
                hhcl([*words[:place], "", *words[place + 1 :]])
            assert ended.value.code == 2 and "empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--root OUT --height 1000000000", "height is 1000000000: give a number of at most"),
        ("--root OUT --width 5000", "width is 5000: give a number of at most"),
        ("--footage OUT --seconds 1e30", "seconds is 1e+30: give a number of at most"),
        ("--footage OUT --seconds inf", "seconds is inf"),
        ("--footage OUT --seconds nan", "seconds is nan"),
        ("--footage OUT --people 1000000000", "num_people is 1000000000"),
        ("--footage OUT --cameras 1000000000", "num_cameras is 1000000000"),
    ],
)
def test_what_no_machine_renders(capsys, tmp_path, words, named):
    code = hhcl(["render", *words.replace("OUT", str(tmp_path / "out")).split()])
    assert_one_sentence(code, capsys.readouterr().err, named)
    assert not (tmp_path / "out").exists()


def test_a_working_directory_that_is_gone(model, tmp_path, capsys, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code = hhcl(["assign", "--weights", str(model), "--root", "crops", "--out", "out"])
    assert_one_sentence(code, capsys.readouterr().err, "the working directory is gone")


@pytest.mark.parametrize("name", ["two\nlines", "a\x1b[2Jscreen", "\r\x85\u2028\x7f"])
def test_a_message_is_one_line_whatever_names_are_in_it(capsys, name):
    code = run_tool(lambda: raising(InputError(f"no {name}: give another")))
    error = capsys.readouterr().err
    assert_one_sentence(code, error)
    assert error.count("\n") == len(error.splitlines()) == 1 and error.strip().isprintable()


def test_other_errors_are_not_hidden():
    for error in (
        RuntimeError("Caught RuntimeError in DataLoader worker process 0."),
        OSError(errno.ENOENT, "no file"),
        KeyError("x"),
    ):
        with pytest.raises(type(error)):
            run_tool(lambda error=error: raising(error))


def test_ctrl_c_ends_rendering_and_leaves_nothing(tmp_path, capsys):
    def interrupt_when_it_has_begun():
        while not list(tmp_path.glob("*/.*.tmp")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_it_has_begun, daemon=True).start()
    words = ["--train-ids", 900, "--test-ids", 100, "--height", 32, "--width", 16, "--workers", 2]
    assert render_people.main(["--root", str(tmp_path), *map(str, words)]) == 130
    assert "interrupted by SIGINT" in capsys.readouterr().err.splitlines()
    assert not list(tmp_path.rglob("*.jpg")) and not list(tmp_path.glob("*/.*.tmp"))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1)])
def test_images_of_any_size_are_taken(model, crops, tmp_path, height, width):
    size = ["--image-size", str(height), str(width)]
    command = ["--weights", str(model), "--query", str(crops / "0.jpg"), "--gallery", str(crops), *size]
    assert search.main([*command, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "search.csv").exists()


@pytest.mark.parametrize(("height", "width"), [(100_000, 100_000), (0, 5), (-1, 4), (10**12, 1)])
def test_images_of_no_size_are_refused(model, crops, tmp_path, capsys, height, width):
    size = ["--image-size", str(height), str(width)]
    command = ["--weights", str(model), "--root", str(crops), "--out", str(tmp_path / "out"), *size]
    assert_one_sentence(assign_identities.main(command), capsys.readouterr().err, f"{height} x {width}")
    if height > 0:
        with pytest.raises(InputError, match="too large for any machine"):
            check_input_size("resnet50", height, width)


def test_names_that_are_not_unicode_and_warnings_that_are_errors(model, crops, tmp_path, capsys):
    folder = crops.rename(tmp_path / NOT_UNICODE)
    (folder / "0.jpg").rename(folder / f"{NOT_UNICODE}.jpg")
    odd = Path(tmp_path, f"model {NOT_UNICODE}.pth")
    odd.write_bytes(model.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = ["--weights", str(odd), "--device", "cpu"]
        out = str(tmp_path / f"out {NOT_UNICODE}")
        assert search.main([*options, "--query", str(folder), "--gallery", str(folder), "--out", out]) == 0
        assert assign_identities.main([*options, "--root", str(folder), "--out", out, "--min-samples", "2"]) == 0
    code = call_train(tmp_path, tmp_path / NOT_UNICODE, {})
    assert_one_sentence(code, capsys.readouterr().err, "data.save_dir")


def write_header(path, header):
    """An ``.npz`` file whose features begin with this header."""
    text = header.encode() + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("features.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
        np.savez(path.with_name("paths.npz"), paths=np.array(["0.jpg"]))
        file.writestr("paths.npy", zipfile.ZipFile(path.with_name("paths.npz")).read("paths.npy"))


@pytest.mark.parametrize("shape", ["10**12, 512", "10**30,", "-1, 4", "0, 4", "1,", "4, 0", "1, 4" + ", 1" * 3000])
@pytest.mark.parametrize("kind", ["<f4", "|O", "<c8", "<U9"])
def test_features_with_huge_or_odd_headers(crops, tmp_path, capsys, shape, kind):
    numbers = [
        int(part) if "**" not in part else 10 ** int(part.split("**")[1]) for part in shape.strip(",").split(",")
    ]
    write_header(tmp_path / "f.npz", f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {tuple(numbers)}, }}")
    for command in (["--root", str(crops), "--out", str(tmp_path / "out")], None):
        tool, words = (choose_eps, []) if command is None else (assign_identities, command)
        code = tool.main(["--features", str(tmp_path / "f.npz"), *words])
        assert_one_sentence(code, capsys.readouterr().err)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            "7",
            "[1]",
            "null",
            "not json",
            "[" * 5000,
            "",
            '{"eps": "x"}',
            '{"eps": -1}',
            '{"eps": [1, 2]}',
            '{"eps": []}',
        ),
        *('{"eps": NaN}', '{"eps": true}', '{"k1": 1e99}', '{"k1": true}', '{"k1": 0}', '{"min_samples": -3}'),
        *('{"k1": %s}' % ("9" * 400), '{"k2": null}', '{"eps": {"a": 1}}', '{"eps": [0.4, [0.5], 0.6]}'),
    ],
)
def test_settings_that_are_none_are_defaults_or_a_sentence(crops, tmp_path, capsys, settings):
    names = sorted(path.name for path in crops.iterdir())
    np.savez(
        tmp_path / "f.npz", features=np.eye(6, dtype=np.float32), paths=np.array(names), settings=np.array(settings)
    )
    code = assign_identities.main(
        ["--features", str(tmp_path / "f.npz"), "--root", str(crops), "--out", str(tmp_path / "out")]
    )
    error = capsys.readouterr().err
    assert code == 0 or assert_one_sentence(code, error) is None


@pytest.mark.parametrize("settings", [np.array([1, 2]), np.array(3.5), np.zeros(0), np.array(b"x"), np.array([["{}"]])])
def test_settings_of_another_kind(crops, tmp_path, capsys, settings):
    names = sorted(path.name for path in crops.iterdir())
    np.savez(tmp_path / "f.npz", features=np.eye(6, dtype=np.float32), paths=np.array(names), settings=settings)
    code = assign_identities.main(
        ["--features", str(tmp_path / "f.npz"), "--root", str(crops), "--out", str(tmp_path / "out")]
    )
    assert code == 0 or assert_one_sentence(code, capsys.readouterr().err) is None


def test_nothing_left_to_train_and_nothing_to_test(data_root, tmp_path, capsys):
    settings = {"train.start_epoch": 1, "data.targets": "[]", "data.height": 8, "data.width": 8}
    assert call_train(data_root, tmp_path / "log", settings) == 0
    assert "Nothing to train: 1 epochs are done, and train.max_epoch is 1" in capsys.readouterr().out


def test_rows_of_more_pictures_than_there_are(data_root, tmp_path, capsys):
    settings = {"train.max_epoch": 0, "test.evaluate": True, "test.visrank": True, "test.visrank_topk": 10**6}
    assert call_train(data_root, tmp_path / "log", settings) == 0
    assert "show 86 images in a row, not 1000000" in capsys.readouterr().out
    log = next((tmp_path / "log").glob("test.log-*")).read_text()
    # The expressions of torchreid 1.4.0's tools/parse_test_res.py.
    for expression in (
        r"mAP: ([\.\deE+-]+)%",
        r"Rank-1  : ([\.\deE+-]+)%",
        r"Rank-5  : ([\.\deE+-]+)%",
        r"Rank-20 : ([\.\deE+-]+)%",
    ):
        assert len(re.findall(expression, log)) == 1


def test_a_transform_that_nobody_knows_is_refused_before_the_model_is_built(data_root, tmp_path, capsys):
    settings = {"data.transforms": "['random_flip', 'randomflip']", "model.name": "resnet50", "model.pretrained": True}
    code = call_train(data_root, tmp_path / "log", settings)
    captured = capsys.readouterr()
    assert_one_sentence(code, captured.err, "unknown transform randomflip", "random_flip")
    assert "Building" not in captured.out


def test_a_first_checkpoint_goes_on_with_statistics_of_its_own(make_engine, tmp_path):
    whole, first, again = (make_engine(precise_bn=1, iters=1) for _ in range(3))
    whole.run(save_dir=str(tmp_path / "whole"), max_epoch=1)
    first.train = lambda **_: raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        first.run(save_dir=str(tmp_path / "log"), max_epoch=1)
    start = again.resume(tmp_path / "log" / "model" / "model-last.pth.tar")
    again.run(save_dir=str(tmp_path / "log"), max_epoch=1, start_epoch=start)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert json.dumps(again.history.lines[1]["loss"]) == json.dumps(whole.history.lines[1]["loss"])


@pytest.mark.skipif(sys.platform != "linux", reason="has no limit of address space that counts")
def test_a_limit_that_leaves_libraries_no_room_is_told_before_the_work(capsys):
    used, limits = psutil.Process().memory_info().vms, resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), limits[1]))
    try:
        code = run_tool(lambda: raising(KeyError("the work has begun")))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert_one_sentence(code, capsys.readouterr().err, "address space", "ulimit -v")
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (1100 << 20), limits[1]))
    try:
        assert run_tool(lambda: None) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_limit_of_open_files_at_which_processes_wait_for_ever(capsys):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        code = run_tool(lambda: raising(KeyError("the work has begun")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert_one_sentence(code, capsys.readouterr().err, "the limit of open files is 200", "ulimit -n 256")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "ulimit -v"),
        (SystemError("error return without exception set"), "ulimit -v"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to"),
        (RuntimeError("operator torchvision::nms does not exist"), "nms does not exist): hhcl doctor says"),
    ],
)
@pytest.mark.parametrize("start", ["hhcl", "tool"])
def test_no_room_to_import_what_a_command_needs(capsys, monkeypatch, start, error, named):
    class Full:
        """Where Python looks for modules, on a machine without room for one more."""

        def find_spec(self, name, path=None, target=None):
            if name == "hhcl_torchreid.commands.report":
                raise error

    monkeypatch.delitem(sys.modules, "hhcl_torchreid.commands.report", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Full(), *sys.meta_path])
    if start == "hhcl":
        code = hhcl(["report", "log"])
    else:
        with pytest.raises(SystemExit) as ended:
            load("report")
        code = ended.value.code
    assert_one_sentence(code, capsys.readouterr().err, "cannot start", named)


@pytest.mark.parametrize("spoil", [torch.Tensor.zero_, lambda weights: weights.mul_(1e25)], ids=["zero", "overflow"])
def test_features_that_are_none_are_not_tested(data_root, tmp_path, capsys, spoil):
    network = build_model("osnet_x0_25", pretrained=False)
    for weights in network.parameters():
        spoil(weights.data)
    save_checkpoint({"state_dict": network.state_dict(), "model_name": network.name}, tmp_path / "spoilt.pth")
    weights = {"model.name": network.name, "model.load_weights": str(tmp_path / "spoilt.pth")}
    code = call_train(data_root, tmp_path / "log", {**weights, "test.evaluate": True})
    captured = capsys.readouterr()
    assert_one_sentence(code, captured.err, "give other weights")
    assert "mAP" not in captured.out
