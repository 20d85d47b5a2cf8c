"""Search: the right order, features on disk that follow the files, and what is written to look at."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import search as tool
import torch
from crops import save_image, save_model
from PIL import Image

from hhcl_torchreid import FeatureExtractor, build_model
from hhcl_torchreid.checkpoint import load_checkpoint, save_checkpoint
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.features.folder import FolderFeatures, beside, by_camera_in_folder, features_of_folder
from hhcl_torchreid.search import Match, Ranking, rank, search
from hhcl_torchreid.search.pictures import MATCH_FRAME, draw_ranking
from hhcl_torchreid.search.run import table

REPOSITORY = Path(__file__).parents[2]
ODD_NAMES = ("two words.png", 'it\'s "quoted".png', "<b>&amp;,;.png", "人物 Ünïcode.png", "new\nline.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model-best.pth.tar", seed=0)


@pytest.fixture(scope="module")
def extractor(weights):
    return FeatureExtractor(model_path=weights, device="cpu", verbose=False, workers=0)


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.mark.parametrize("is_in_gallery", [True, False])
def test_a_query_in_the_gallery_is_compared_by_camera_too(extractor, tmp_path, is_in_gallery):
    gallery, query = tmp_path / "gallery", tmp_path / "query.png"
    for number in range(66):
        save_image(gallery / f"camera{number % 2}" / f"{number}.png", number)
    save_image(query, 3)
    query = gallery / "camera1" / "3.png" if is_in_gallery else query
    plain = features_of_folder(gallery, extractor)
    cameras = [path.parent.name for path in plain.paths]
    features = by_camera_in_folder(gallery, extractor, plain.paths, plain.features, cameras, 1)
    own = features[plain.paths.index(query)] if is_in_gallery else extractor(query)[0]
    (ranking,) = search(extractor, [query], gallery, topk=66, out=tmp_path / "out", camera_bn=1)
    expected = {path: float(row @ own) for path, row in zip(plain.paths, features, strict=True) if path != query}
    assert {match.path: match.similarity for match in ranking.matches} == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def crops(tmp_path):
    for number in range(8):
        save_image(tmp_path / "crops" / f"camera{number % 3}" / f"{number}.png", number)
    return tmp_path / "crops"


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def call(weights, crops, tmp_path, capsys):
    """Runs the tool; gives exit code, standard output and standard error."""

    def run(*flags, query=None, gallery=None):
        queries = [str(path) for path in query or [crops / "camera0" / "0.png"]]
        flags = [*flags] if "--weights" in flags else ["--weights", str(weights), *flags]
        flags = [*flags] if "--out" in flags else [*flags, "--out", str(tmp_path / "out")]
        code = tool.main([*flags, "--gallery", str(gallery or crops), "--query", *queries])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def assert_one_sentence(result, *named):
    code, _, error = result
    assert code == 2
    assert error.startswith("error: ") and len(error.strip().splitlines()) == 1
    for name in named:
        assert str(name) in error


class TestTracks:
    def test_a_track_is_found_once_by_its_most_similar_image_and_not_by_its_own(self, tmp_path):
        generator = torch.Generator().manual_seed(3)
        features = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
        paths = [tmp_path / f"{number}.jpg" for number in range(60)]
        tracks = [None if number % 10 == 0 else ("a", number // 25) for number in range(60)]
        gallery = FolderFeatures(paths, features, [], 0, None)
        for topk in (1, 3, 8, 100):
            for found, query in zip(rank(paths[:30], features[:30], gallery, topk, tracks), range(30), strict=True):
                expected, seen = [], {tracks[query]}
                for index in (features @ features[query]).argsort(descending=True).tolist():
                    if index != query and (tracks[index] is None or tracks[index] not in seen):
                        expected.append(paths[index])
                        seen.add(tracks[index])
                assert [match.path for match in found.matches] == expected[:topk]

    def test_the_tool_takes_tracks_from_table_or_expression(self, call, crops, tmp_path):
        rows = [f"camera{number % 3}/{number}.png,camera{number % 3},1" for number in range(8)]
        (crops / "crops.csv").write_text("\n".join(["path,camera,track", *rows]), encoding="utf-8")
        code, output, error = call()
        assert code == 0 and "One match per track: 3 tracks" in output, error
        assert len(read_csv(tmp_path / "out" / "search.csv")) == 2
        (crops / "crops.csv").unlink()
        assert call("--track-regex", r"(?P<camera>camera.)/(?P<track>\d)")[0] == 0
        assert len(read_csv(tmp_path / "out" / "search.csv")) == 7
        assert_one_sentence(call("--track-regex", "(a)"), "--track-regex", "no group named camera and track")


class TestRanking:
    def test_the_querys_own_file_is_no_match_by_whatever_name(self, crops, extractor, tmp_path):
        (tmp_path / "link.png").symlink_to(crops / "camera0" / "0.png")
        gallery = features_of_folder(crops, extractor)
        for query in (crops / "camera0" / "0.png", tmp_path / "link.png", crops / ".." / "crops" / "camera0" / "0.png"):
            (ranking,) = rank([query], extractor([query]), gallery, topk=20)
            assert len(ranking.matches) == 7
            assert crops / "camera0" / "0.png" not in [match.path for match in ranking.matches]

    def test_a_copy_is_the_best_match(self, crops, extractor):
        shutil.copy(crops / "camera2" / "5.png", crops / "copy.png")
        query = crops / "camera2" / "5.png"
        (ranking,) = rank([query], extractor([query]), features_of_folder(crops, extractor), topk=1)
        assert ranking.matches[0].path == crops / "copy.png"
        assert ranking.matches[0].similarity == pytest.approx(1, abs=1e-5)


class TestTool:
    def test_table_csv_and_pictures(self, call, crops, extractor, tmp_path):
        queries = [crops / "camera0" / "0.png", save_image(tmp_path / "wanted.png", 4)]
        code, output, error = call("--topk", "3", query=queries)
        assert code == 0, error
        rows = read_csv(tmp_path / "out" / "search.csv")
        assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
        assert rows[3]["match"] == str(crops / "camera1" / "4.png") and float(rows[3]["similarity"]) > 0.9999

        features = {path: extractor(path)[0].double() for path in [*queries, *crops.glob("*/*.png")]}
        for query in queries:
            others = {path: float(features[query] @ features[path]) for path in crops.glob("*/*.png") if path != query}
            best = sorted(others, key=lambda path: -others[path])[:3]
            mine = [row for row in rows if row["query"] == str(query)]
            assert [row["match"] for row in mine] == [str(path) for path in best]
            for row, path in zip(mine, best, strict=True):
                assert float(row["similarity"]) == pytest.approx(others[path], abs=1e-5)
                assert f"{float(row['similarity']):.4f}  {path}" in output
        pictures = sorted((tmp_path / "out" / "rankings").iterdir())
        assert [picture.name for picture in pictures] == ["1_0.jpg", "2_wanted.jpg"]

    def test_a_folder_of_queries(self, call, crops, tmp_path):
        code, _, _ = call(query=[crops / "camera1", crops / "camera0" / "0.png"])
        assert code == 0
        assert [row["query"] for row in read_csv(tmp_path / "out" / "search.csv")][::7] == [
            *(str(path) for path in sorted((crops / "camera1").iterdir())),
            str(crops / "camera0" / "0.png"),
        ]

    def test_weights_alone_with_name_and_size(self, call, tmp_path):
        torch.save(build_model("osnet_x0_25", pretrained=False).state_dict(), tmp_path / "bare.pth")
        flags = ("--weights", str(tmp_path / "bare.pth"), "--model-name", "osnet_x0_25", "--image-size", "64", "32")
        code, output, error = call(*flags)
        assert code == 0 and "features extracted anew: 8" in output, error

    def test_queries_of_one_name_have_a_picture_each(self, call, tmp_path):
        queries = [save_image(tmp_path / folder / "same.png", 1) for folder in "ab"]
        assert call(query=queries)[0] == 0
        assert len(list((tmp_path / "out" / "rankings").iterdir())) == 2

    def test_odd_file_names(self, call, tmp_path):
        names = [*ODD_NAMES, os.fsdecode(b"not \xff unicode.png"), "x" * 251 + ".png"]
        gallery = tmp_path / "odd gallery <&>"
        for seed, name in enumerate(names):
            save_image(gallery / name, seed)
        for _ in range(2):
            code, output, error = call(query=[gallery], gallery=gallery)
            assert code == 0, error
            assert "features extracted anew: " in output and "\\n" in output and "new\nline" not in output
        assert "features extracted anew: 0" in output
        rows = read_csv(tmp_path / "out" / "search.csv")
        written = {str(gallery / name).encode("utf-8", "backslashreplace").decode() for name in names}
        assert {row["query"] for row in rows} == {row["match"] for row in rows} == written
        assert len(list((tmp_path / "out" / "rankings").iterdir())) == len(names)

    def test_of_many_queries_the_first_are_printed(self):
        rankings = [Ranking(Path(f"{number}.png"), [Match(Path("a.png"), 0.5)]) for number in range(23)]
        assert "query 19.png" in table(rankings) and "query 20.png" not in table(rankings)
        assert table(rankings).endswith("... and 3 more queries")

    def test_a_gallery_of_the_query_alone(self, call, tmp_path):
        query = save_image(tmp_path / "one" / "only.png", 0)
        code, output, _ = call(query=[query], gallery=tmp_path / "one")
        assert code == 0 and "nothing but the query itself" in output

    def test_it_says_where_features_are_kept(self, call, crops, user_cache):
        assert f"kept in {beside(crops)}\n" in call()[1]
        beside(crops).unlink()
        beside(crops).mkdir()  # stands in the way, for root too
        assert f"kept in {user_cache / 'hhcl_torchreid'}" in (output := call()[1])
        assert f"because {beside(crops)} cannot be written" in output
        shutil.rmtree(user_cache)
        user_cache.write_text("in the way")
        assert "Features are not kept" in call()[1]

    def test_the_real_command(self, weights, crops, tmp_path):
        command = [sys.executable, "tools/search.py", "--weights", str(weights), "--query", "nowhere.png"]
        command += ["--gallery", str(crops), "--out", str(tmp_path / "out")]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        assert result.stderr.strip().splitlines()[-1].startswith("error: no query nowhere.png")


class TestPicture:
    def test_is_laid_out_as_torchreid_does(self, tmp_path):
        colours = ["#ff0000", "#00ff00", "#0000ff"]
        paths = [tmp_path / f"{number}.png" for number in range(3)]
        for path, colour in zip(paths, colours, strict=True):
            Image.new("RGB", (20, 40), colour).save(path)
        ranking = Ranking(paths[0], [Match(paths[1], 0.9), Match(paths[2], 0.8)])
        picture = draw_ranking(ranking, (128, 64))
        assert picture.size == (3 * 128 + 2 * 10 + 90, 256 + 18)
        for left, colour, frame in ((0, 0, "#000000"), (228, 1, MATCH_FRAME), (366, 2, MATCH_FRAME)):
            box = [picture.getpixel((left + x, y)) for x, y in ((64, 128), (6, 6), (121, 249))]
            assert box == [tuple(bytes.fromhex(colours[colour][1:]))] * 3
            corners = [picture.getpixel((left + x, y)) for x, y in ((0, 0), (4, 128), (123, 128), (127, 255), (64, 4))]
            assert corners == [tuple(bytes.fromhex(frame[1:]))] * 5
        assert picture.getpixel((180, 128)) == (255, 255, 255)

    def test_as_many_matches_as_a_picture_holds_are_drawn(self, tmp_path):
        query = save_image(tmp_path / "a.png", 0)
        picture = draw_ranking(Ranking(query, [Match(query, 0.5)] * 600), (128, 64))
        assert 128 + 90 + 470 * 138 < picture.width <= 65_500
        picture.save(tmp_path / "picture.jpg")


class TestBadInput:
    def test_an_empty_gallery(self, call, tmp_path):
        (tmp_path / "empty").mkdir()
        assert_one_sentence(call(gallery=tmp_path / "empty"), "no image", tmp_path / "empty")

    def test_a_gallery_that_is_not_there(self, call, tmp_path):
        assert_one_sentence(call(gallery=tmp_path / "nowhere"), tmp_path / "nowhere")

    def test_a_gallery_of_unreadable_files(self, call, tmp_path):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.png").write_bytes(b"no image")
        assert_one_sentence(call(gallery=tmp_path / "bad"), tmp_path / "bad", "can be read")

    def test_a_query_that_is_no_image(self, call, tmp_path):
        (tmp_path / "note.txt").write_text("hello")
        assert_one_sentence(call(query=[tmp_path / "note.txt"]), "unreadable", tmp_path / "note.txt")
        assert_one_sentence(call(query=[tmp_path / "nowhere.png"]), tmp_path / "nowhere.png")
        (tmp_path / "two\nlines.png").write_text("hello")
        assert_one_sentence(call(query=[tmp_path / "two\nlines.png"]), r"two\nlines.png")

    def test_weights_that_are_none(self, call, tmp_path):
        (tmp_path / "text.pth").write_text("weights")
        assert_one_sentence(call("--weights", str(tmp_path / "text.pth")), tmp_path / "text.pth")
        assert_one_sentence(call("--weights", "nowhere.pth"), "nowhere.pth")

    def test_weights_of_another_backbone(self, call, weights):
        assert_one_sentence(call("--model-name", "resnet50"), weights, "shufflenet_v2_x0_5", "resnet50")

    def test_a_model_whose_features_are_no_numbers(self, call, weights, tmp_path, crops):
        stored = load_checkpoint(weights)
        spoilt = {name: value * torch.nan for name, value in stored["state_dict"].items()}
        save_checkpoint({**stored, "state_dict": spoilt}, tmp_path / "nan.pth.tar")
        assert_one_sentence(call("--weights", str(tmp_path / "nan.pth.tar")), "NaN")

    def test_an_image_size_that_is_none(self, call):
        for size in (("0", "0"), ("-5", "64")):
            assert_one_sentence(call("--image-size", *size), " x ".join(size), "height and width")

    def test_no_matches_wanted(self, call):
        assert_one_sentence(call("--topk", "0"), "--topk")

    def test_a_folder_that_cannot_be_written(self, call, tmp_path):
        (tmp_path / "file").write_text("")
        assert_one_sentence(call("--out", str(tmp_path / "file" / "out")), tmp_path / "file" / "out", "--out")

    def test_results_do_not_go_into_the_gallery(self, call, crops):
        assert_one_sentence(call("--out", str(crops / "found")), "--out", crops)
        assert not (crops / "found").exists()

    def test_an_image_that_vanishes(self, tmp_path):
        with pytest.raises(InputError, match=r"gone\.png"):
            draw_ranking(Ranking(tmp_path / "gone.png", []), (128, 64))


def test_a_gallery_can_be_made_of_features(tmp_path):
    """Those who have features already need no folder."""
    rows = torch.eye(4)
    gallery = FolderFeatures([Path(f"{n}.png") for n in range(4)], rows, [], 0, None)
    (ranking,) = rank([Path("query.png")], rows[2:3], gallery, topk=2)
    assert ranking.matches[0] == Match(Path("2.png"), 1.0)
