"""What a folder tells of its tracks: by table, by name or not at all, and what is wrong with such tables."""

import csv
import json
import os

import pytest
import torchreid
from PIL import Image

from hhcl_torchreid.data.datasets import FolderOfCrops, sightings_of
from hhcl_torchreid.data.tracks import TABLE, Sighting, find_sightings, warn_of_folders_like_tracks
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels import Images

NAMES = ["a/1/10.jpg", "a/1/11.jpg", "a/2/10.jpg", "b/1/10.jpg"]
BY_NAME = r"^(?P<camera>\w+)/(?P<track>\w+)/(?P<frame>\d+)"


@pytest.fixture
def root(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def find(root, **expressions):
    return find_sightings([root / name for name in NAMES], root, **expressions)


def write_table(root, rows, columns=("path", "camera", "track", "frame"), **options):
    with open(root / TABLE, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, **options)
        writer.writerows([columns, *rows])


ROWS = [
    ("a/1/10.jpg", "hall", "7", "10"),
    ("a/1/11.jpg", "hall", "7", "11"),
    ("a/2/10.jpg", "hall", "8", "10.0"),
    ("b/1/10.jpg", "door", "7", ""),
]


def test_the_table_names_camera_track_and_frame(root):
    write_table(root, ROWS)
    expected = [("hall", "7", 10), ("hall", "7", 11), ("hall", "8", 10), ("door", "7", -1)]
    assert [seen[:3] for seen in find(root)] == expected
    write_table(root, ROWS[:3])
    assert find(root)[3] is None


def test_the_table_may_have_boxes_and_other_columns_in_any_order(root):
    columns = ("score", "track", "frame", "height", "width", "top", "left", "camera", "path")
    write_table(root, [("0.9", "7", "3", "40", "20", "-5.5", "1", "hall", r"a\1\10.jpg")], columns)
    assert find(root)[0] == Sighting("hall", "7", 3, (1, -5.5, 20, 40))
    write_table(root, [("x", "7", "3", "nan", "20", "", "1", "hall", "a/1/10.jpg")], columns)
    assert find(root)[0] == Sighting("hall", "7", 3)


def test_an_expression_names_them_and_comes_before_the_table(root):
    write_table(root, ROWS)
    found = find(root, track_regex=BY_NAME)
    assert found == [Sighting(*name[:-4].split("/")[:2], int(name[-6:-4])) for name in NAMES]
    assert find(root, track_regex=r"(?P<camera>)(?P<track>./\d)/")[0] == Sighting("", "a/1")


def test_without_either_the_folder_is_the_camera(root):
    assert find(root) == [Sighting(name) for name in "aaab"]
    assert [seen.camera for seen in find(root, camera_regex=r"/(\d+)\.")] == ["10", "11", "10", "10"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, ROWS[0]], r"names a/1/10\.jpg twice, in line 6"),
        ([("gone.jpg", "hall", "1", "1"), *ROWS], r"1 of the 5 images .* are not there, such as 'gone\.jpg'"),
        ([(*ROWS[0][:3], "ten")], "line 2, has the frame 'ten': give whole numbers"),
        ([(*ROWS[0][:3], "1.5")], "'1.5'"),
        ([(*ROWS[0][:3], "-3")], "'-3'"),
        ([(*ROWS[0][:3], "1e400")], "'1e400'"),
        ([(*ROWS[0][:3], "nan")], "'nan'"),
        ([ROWS[0], ("a/1/11.jpg", "hall", "7", "10")], "track '7' of camera 'hall' is in frame 10 twice"),
        ([ROWS[0][:2]], "line 2, is cut off"),
        ([], "names no image"),
    ],
)
def test_a_table_that_cannot_be(root, rows, said):
    write_table(root, rows)
    with pytest.raises(InputError, match=said):
        find(root)


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\x00", b"path,camera\na/1/10.jpg,hall\n", b'path,camera,track\n"a,b\n', b"\x00" * 9]
)
def test_a_file_that_is_no_such_table(root, text):
    (root / TABLE).write_bytes(text)
    with pytest.raises(InputError, match=TABLE):
        find(root)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(\w+)/(\w+)", "no group named camera and track"),
        (r"(?P<camera>\w+)/", "no group named track"),
        (r"(?P<camera>a)/(?P<track>\d)", "finds no track in 'b/1/10.jpg'"),
        (r"(?P<camera>\w+)/(?P<track>\d)/(?P<frame>.+)", "frame '10.jpg'"),
        (r"(?P<camera>\w+)(?P<track>/)\d/(?P<frame>\d+)", "track '/' of camera 'a' is in frame 10 twice"),
        ("(", "no regular expression"),
    ],
)
def test_an_expression_that_cannot_be(root, pattern, said):
    with pytest.raises(InputError, match=said):
        find(root, track_regex=pattern)


def test_two_sources_at_once_are_refused(root):
    with pytest.raises(InputError, match="both given"):
        find(root, track_regex=BY_NAME, camera_regex="(a)")
    write_table(root, ROWS)
    with pytest.raises(InputError, match="leave the expression out"):
        find(root, camera_regex="(a)")


def test_folders_that_look_like_tracks_are_said(root, capsys):
    warn_of_folders_like_tracks([Sighting(f"{track}") for track in range(12) for _ in range(5)], root)
    assert "12 cameras with 5 images each" in capsys.readouterr().out
    for sightings in (
        [Sighting(f"{camera}") for camera in range(6) for _ in range(3)],
        [Sighting(f"{camera}") for camera in range(12) for _ in range(13)],
        [Sighting(f"{track}", "1") for track in range(12) for _ in range(5)],
    ):
        warn_of_folders_like_tracks(sightings, root)
        assert not capsys.readouterr().out


def test_the_data_set_leaves_out_what_the_table_does_not_name(root):
    for number, name in enumerate(NAMES):
        Image.new("RGB", (16, 32), (40 * number, 9, 9)).save(root / name)
    write_table(root, ROWS[:3])
    data = FolderOfCrops(root=str(root), verbose=False).data
    assert [camera for _, _, camera, _ in data] == [0, 0, 0]
    assert [(image.path.name, image.kind) for image in FolderOfCrops.left_out] == [("10.jpg", "not named")]
    known = sightings_of(["folder", "market1501", "nowhere"])
    assert [known[path][:3] for path, *_ in data] == [("hall", "7", 10), ("hall", "7", 11), ("hall", "8", 10)]
    assert len(known) == 3


def test_a_video_data_set_is_images_with_tracks(tmp_path):
    people = [f"person_{number:04d}" for number in range(4)]
    for number, person in enumerate(people):
        for camera in "ab":
            folder = tmp_path / "prid2011" / "prid_2011" / "multi_shot" / f"cam_{camera}" / person
            folder.mkdir(parents=True)
            for frame in range(3 + number):
                Image.new("RGB", (8, 16), (60 * number, 30 * frame, 9)).save(folder / f"{frame:04d}.png")
    splits = [{"train": people[:2], "test": people[2:]}]
    (tmp_path / "prid2011" / "splits_prid2011.json").write_text(json.dumps(splits))
    manager = torchreid.data.ImageDataManager(root=str(tmp_path), sources="prid2011", height=16, width=8, workers=0)
    records = manager.train_loader.dataset.data
    assert len(records) == 2 * (3 + 4)
    images = Images.of_records(records, sightings_of(["prid2011"]))
    of_folder = {}
    for (path, *_), track in zip(records, images.tracks.tolist(), strict=True):
        of_folder.setdefault(os.path.dirname(path), set()).add(track)
    assert len(of_folder) == 4 and sorted(map(sorted, of_folder.values())) == [[0], [1], [2], [3]]
    assert set(images.frames.tolist()) == {-1}
    query = manager.test_loader["prid2011"]["query"].dataset.data
    assert sorted(os.path.basename(path) for path, *_ in query) == ["0002.png", "0003.png"]
