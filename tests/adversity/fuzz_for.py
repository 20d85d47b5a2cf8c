"""Gives every reader of files mangled ones for a while: each is read rightly, or refused in one sentence.

``python tests/adversity/fuzz_for.py SECONDS [--seed S] [--reader NAME]`` ends with 1 at the first file that is not, and
prints it.
"""

import argparse
import faulthandler
import functools
import io
import itertools
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mangled import ARRAYS, ODD, PIECES, TEXTS, TOKENS, mangled_bytes, mangled_table, mangled_tree, mangled_zip
from PIL import Image
from test_odd_checkpoints import go_on, make_state

from hhcl_torchreid import PseudoLabeler, build_model, register_backbone
from hhcl_torchreid.checkpoint import check_settings, configuration_in, load_checkpoint
from hhcl_torchreid.config import get_default_config, load_config
from hhcl_torchreid.data.corrections import latest, on_paths, read_corrections, still_there, write_corrections
from hhcl_torchreid.data.images import UNREADABLE, open_image
from hhcl_torchreid.data.tracks import find_sightings
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.saved import load_features, load_settings, save_features
from hhcl_torchreid.footage import Boxes, covered_shares, read_tracks, write_tracks
from hhcl_torchreid.identities import cluster_settings, crops_from_features
from hhcl_torchreid.identities.numbers import load_earlier, load_names
from hhcl_torchreid.models.weights import backbone_named_in, load_from, settings_seen_in
from hhcl_torchreid.training.comparison import read_run, table_of_runs

SECONDS = 20
"""No file of these sizes takes longer to read on any machine."""
MEGABYTES = 1000
"""Nor more memory."""
NAMES = [f"{number}.jpg" for number in range(4)]


class TooLongError(BaseException):
    """Nothing that reads may catch it."""


class Canary:
    """An object whose unpickling would leave a trace."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@contextmanager
def in_time():
    def ring(*_):
        raise TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # what is not in Python hears no alarm
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def saved(tree, **settings):
    file = io.BytesIO()
    torch.save(tree, file, **settings)
    return file.getvalue()


@functools.cache
def model():
    def build(pretrained):
        layers = (torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return torch.nn.Sequential(*layers)

    register_backbone("fuzzed", build)
    return build_model("fuzzed", pretrained=False, embedding_dim=2)


@functools.cache
def checkpoint():
    """Of a run, with the weights of :func:`model` beside it."""
    run = {**make_state().state_dict(), "labels": torch.tensor([0, 1, -1]), "config": get_default_config().dump()}
    run["random"]["python"] = list(run["random"]["python"])
    return run


def pth_files(tree):
    odd = [*ODD, Canary()]
    return st.one_of(
        mangled_tree(tree, odd).map(saved),
        mangled_tree(tree, odd).map(lambda other: saved(other, _use_new_zipfile_serialization=False)),
        mangled_zip(saved(tree)),
        mangled_bytes(saved(tree)),
        mangled_bytes(saved(tree, _use_new_zipfile_serialization=False)),
    )


def read_weights(path):
    read = load_checkpoint(path)
    configuration_in(read, path)
    check_settings(read, path, get_default_config())
    backbone_named_in(read)
    settings_seen_in("fuzzed", read, path)
    model().load_state_dict(weights())
    load_from(model(), read, path)
    assert all(value.isfinite().all() for value in model().state_dict().values())


@functools.cache
def weights():
    return {name: value.clone() for name, value in model().state_dict().items()}


def read_state(path):
    state = make_state(epochs=0)
    state.load(path)
    go_on(state)


def npz_files():
    arrays = {
        "features": np.eye(4, 8, dtype=np.float32),
        "paths": np.array(NAMES),
        "settings": np.array('{"eps": 0.5, "min_samples": 2, "k1": 5, "k2": 2}'),
        "model": np.array("a model"),
        "next_identity": np.array(3),
    }

    def packed(arrays, save=np.savez):
        file = io.BytesIO()
        save(file, **{str(name): array for name, array in arrays.items()})
        return file.getvalue()

    odd = [*ARRAYS, np.array([Canary()] * 4, dtype=object)]
    return st.one_of(
        mangled_tree(arrays, odd).map(packed),
        mangled_tree(arrays, odd).map(lambda other: packed(other, np.savez_compressed)),
        mangled_zip(packed(arrays)),
        mangled_bytes(packed(arrays)),
    )


def read_features(path):
    found = load_features(path)
    assert found.features.shape[0] == len(found.paths) and found.features.dtype == torch.float32
    load_settings(path)
    given = cluster_settings(features=path)
    PseudoLabeler(**given)
    crops = crops_from_features(path, path.parent / "crops")
    assert crops.paths == found.paths
    PseudoLabeler(**given)(crops.features, crops.images)
    save_features(path, found.features, found.paths, given, found.model, found.next_identity)


def yaml_files():
    whole = yaml.safe_load(get_default_config().dump())
    text = get_default_config().dump().encode()
    odd = [*TEXTS[:20], *(value for value in ODD if not isinstance(value, torch.Tensor))]
    tokens = [*PIECES, *(token.encode() for token in TOKENS)]
    return st.one_of(
        mangled_tree(whole, odd).map(lambda tree: yaml.safe_dump(tree).encode("utf-8", "surrogatepass")),
        mangled_bytes(b"cluster:\n  eps: 0.5\n  k1: 30\ndata:\n  sources:\n  - a\n  - b\n", tokens),
        mangled_bytes(text, tokens),
    )


def read_config(path):
    cfg = load_config(str(path))
    path.write_text(cfg.dump(), encoding="utf-8")
    assert load_config(str(path)) == cfg


def config_in_a_checkpoint(path):
    """Is lenient: what a checkpoint says of its run may be of another version."""
    read = {"config": path.read_bytes().decode("utf-8", "replace"), "state_dict": {}}
    check_settings(read, "file.pth", get_default_config())
    cluster_settings_of(read)


def cluster_settings_of(read):
    cfg = configuration_in(read, "file.pth")
    return cfg and cfg.cluster


CORRECTIONS = [
    ["answer", "path", "other", "name"],
    ["same", "0.jpg", "1.jpg", ""],
    ["different", "2.jpg", "1.jpg", ""],
    ["nobody", "3.jpg", "", ""],
    ["name", "0.jpg", "", "'=Anna"],
]


def read_answers(path):
    given = read_corrections(path)
    write_corrections(path, given)
    assert [answer[:4] for answer in read_corrections(path)] == [answer[:4] for answer in given]
    latest(still_there(given, NAMES, path.parent / "crops"))
    on_paths(given, NAMES, path.parent / "crops")


SIGHTINGS = [
    ["path", "camera", "track", "frame", "left", "top", "width", "height"],
    *([name, "hall", "3", str(number), "1", "2.5", "30", "60"] for number, name in enumerate(NAMES)),
]


def read_sightings(path):
    table = path.parent / "crops" / "crops.csv"
    os.replace(path, table)
    try:
        found = find_sightings([table.with_name(name) for name in NAMES], table.parent)
    finally:
        table.unlink()
    assert len(found) == 4 and all(-1 <= seen.frame < 2**53 for seen in found if seen)


TRACKS = [[str(cell) for cell in (frame, track, 3.5, 4, 20, 40, 0.9, -1)] for frame in (1, 2, 3) for track in (1, 2)]


def read_boxes(path):
    boxes = read_tracks(path)
    assert boxes.frame.min() >= 1 and boxes.track.min() >= 0 and np.isfinite(boxes.box).all()
    shares = covered_shares(boxes)
    assert ((shares >= 0) & (shares <= 1)).all()
    write_tracks(path, boxes)
    again = read_tracks(path)
    assert isinstance(again, Boxes) and (again.frame == boxes.frame).all() and (again.track == boxes.track).all()


IDENTITIES = [["path", "identity", "similarity"], *([name, "0", "0.5"] for name in NAMES[:3]), ["3.jpg", "outlier", ""]]


def read_identities(path):
    folder = path.parent / "out"
    folder.mkdir(exist_ok=True)
    os.replace(path, folder / "identities.csv")
    earlier = load_earlier(folder)
    assert earlier.of(NAMES).dtype == np.int64 and earlier.next_identity >= 0


def read_names(path):
    os.replace(path, path.with_name("names.csv"))
    assert all(isinstance(number, int) for number in load_names(path.parent))


METRICS = [["epoch", "lr", "loss", "clusters", "mAP"], ["0", "", "", "", "0.5"], ["1", "0.1", "2.5", "3", "0.25"]]


def read_metrics(path):
    os.replace(path, path.with_name("metrics.csv"))
    table = table_of_runs([read_run(path.parent)])
    assert len(table.splitlines()) == 3


def picture_files():
    noise = np.random.default_rng(0).integers(0, 256, (24, 12, 3), np.uint8)
    files = []
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, kind)
        files.append(file.getvalue())
    return st.sampled_from(files).flatmap(mangled_bytes)


def read_picture(path):
    try:
        picture = open_image(path)
    except UNREADABLE:
        raise InputError(f"{path} is no image: take it away") from None
    assert picture.mode == "RGB"


READERS = {
    "weights": (lambda: pth_files({"state_dict": weights(), "config": get_default_config().dump()}), read_weights),
    "checkpoint": (lambda: pth_files(checkpoint()), read_state),
    "features": (npz_files, read_features),
    "configuration": (yaml_files, read_config),
    "configuration in a checkpoint": (yaml_files, config_in_a_checkpoint),
    "corrections": (lambda: mangled_table(CORRECTIONS), read_answers),
    "crops.csv": (lambda: mangled_table(SIGHTINGS), read_sightings),
    "tracks": (lambda: mangled_table(TRACKS), read_boxes),
    "identities.csv": (lambda: mangled_table(IDENTITIES), read_identities),
    "names.csv": (lambda: mangled_table([["identity", "name"], ["0", "Anna"], ["2", "'=x"]]), read_names),
    "metrics.csv": (lambda: mangled_table(METRICS), read_metrics),
    "pictures": (picture_files, read_picture),
}
"""Name -> what makes mangled files, and what reads one and checks what it gives."""


def is_refused(read, path):
    """Whether a file is refused, in a sentence; else it is read, and what it gives is right."""
    try:
        with in_time():
            read(path)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1500 and not message.endswith("."), message[:3000]
        return True
    return False


def fuzz(name, num_files, start=None, failures=None):
    """Reads so many mangled files, in a folder of its own; gives how many were tried and how many were refused.

    What goes wrong is raised, or kept in ``failures`` by where it went wrong.
    """
    make, read = READERS[name]
    counts = {"tried": 0, "refused": 0}

    @settings(
        max_examples=num_files,
        deadline=None,
        database=None,
        derandomize=start is None,
        phases=[Phase.generate] if start is not None else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(make())
    def try_one(content):
        path = Path("file")
        path.write_bytes(content)
        counts["tried"] += 1
        try:
            counts["refused"] += is_refused(read, path.absolute())
        except (Exception, TooLongError) as error:
            if failures is None:
                raise
            where = [frame for frame in traceback.extract_tb(error.__traceback__) if "torchreid" in frame.filename]
            place = f"{name}: {type(error).__name__} at {where[-1].filename}:{where[-1].lineno}" if where else name
            failures.setdefault(place, (content, "".join(traceback.format_exception(error))[-3000:]))
        assert not os.path.exists("ran")

    # Files in memory need not be brought to a disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        before = os.getcwd()
        os.chdir(folder)
        try:
            for image in NAMES:
                Path("crops").mkdir(exist_ok=True)
                Image.new("RGB", (8, 16)).save(Path("crops", image))
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            (try_one if start is None else seed(start)(try_one))()
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 1000 * MEGABYTES
        finally:
            os.chdir(before)
    return counts["tried"], counts["refused"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, help="only this one (default: all, in turn)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    failures = {}
    ends, totals, start = time.monotonic() + args.seconds, {}, args.seed
    for name in itertools.cycle([args.reader] if args.reader else READERS):
        if time.monotonic() > ends:
            break
        before, counts = totals.get(name, (0, 0)), fuzz(name, 100, start, failures)
        totals[name] = before[0] + counts[0], before[1] + counts[1]
        start += 1
    for name, (tried, refused) in totals.items():
        print(f"{name}: {tried:,} files, {refused:,} refused in a sentence, the others read")
    print(f"{sum(tried for tried, _ in totals.values()):,} files in all, the last seed {start - 1}")
    for number, (place, (content, error)) in enumerate(failures.items()):
        kept = Path(tempfile.gettempdir(), f"fuzzed-{os.getpid()}-{number}")
        kept.write_bytes(content)
        print(f"\n{place}\n{error}\nThe file is kept as {kept}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
