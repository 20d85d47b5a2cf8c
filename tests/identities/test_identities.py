"""Identities from features, what is written of them, the choice of eps, and the two tools."""

import csv
import math
from collections import Counter

import assign_identities
import choose_eps
import numpy as np
import pytest
import torch
import yaml
from crops import ODD_PATHS, draw
from made_up_footage import Footage
from torch.nn.functional import normalize

from hhcl_torchreid import PseudoLabeler, build_model
from hhcl_torchreid.checkpoint import load_checkpoint, save_checkpoint
from hhcl_torchreid.clustering import dbscan
from hhcl_torchreid.config import load_config
from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities import (
    ClustersAtEps,
    Crops,
    cluster_settings,
    clusters_by_eps,
    compare_with_centroids,
    draw_clusters_by_eps,
    load_features,
    load_settings,
    recommend_eps,
    save_features,
    table_of_clusters,
    write_csv,
    write_identities,
    write_mot,
)
from hhcl_torchreid.labels.tracks import find_pieces


def random_features(num_images=200, dimensions=16, seed=0):
    return normalize(torch.randn(num_images, dimensions, generator=torch.Generator().manual_seed(seed)), dim=1)


def people(num_people=8, images_of_each=8, noise=0.15, seed=0):
    """Features of as many well separated people, person after person."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_people, 32, generator=generator).repeat_interleave(images_of_each, dim=0)
    return normalize(centres + noise * torch.randn(centres.shape, generator=generator), dim=1)


def slow_comparison(features, labels):
    """One image at a time, in double precision."""
    features = features.double().numpy()
    centroids = [features[labels == label].mean(0) for label in range(labels.max() + 1)]
    centroids = [centroid / np.linalg.norm(centroid) for centroid in centroids]
    rows = []
    for row, label in zip(features, labels, strict=True):
        similarities = {number: float(row @ centroid) for number, centroid in enumerate(centroids)}
        own = similarities.pop(label, math.nan)
        other = max(similarities, key=similarities.get, default=-1)
        rows.append((own, other, similarities.get(other, math.nan)))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("num_identities", [0, 1, 2, 13])
def test_similarities_and_runners_up_equal_a_slow_comparison(num_identities, monkeypatch):
    monkeypatch.setattr("hhcl_torchreid.identities.assignment.ROWS_AT_ONCE", 33)
    features = random_features()
    labels = np.arange(200) % (num_identities + 1) - 1
    found = compare_with_centroids(features, torch.from_numpy(labels))
    own, other, other_similarity = slow_comparison(features, labels)
    assert found.identity.tolist() == labels.tolist()
    np.testing.assert_allclose(found.similarity, own, atol=1e-6)
    assert found.runner_up.tolist() == other.tolist()
    np.testing.assert_allclose(found.runner_up_similarity, other_similarity, atol=1e-6)
    assert found.similarity.dtype == torch.float32
    assert (found.num_identities, found.num_outliers) == (num_identities, (labels < 0).sum())
    assert found.largest == (np.bincount(labels[labels >= 0]).max() if num_identities else 0)


def test_labels_of_other_images_are_refused():
    with pytest.raises(InputError, match="200 features have 3 labels"):
        compare_with_centroids(random_features(), torch.zeros(3, dtype=torch.int64))


def test_the_table_holds_every_value_and_every_name(tmp_path):
    features = random_features(len(ODD_PATHS))
    labels = torch.tensor([-1, 0, 0, 1, 1, 1] + [2] * (len(ODD_PATHS) - 6))
    found = compare_with_centroids(features, labels)
    cameras = [path.split("/")[0] for path in ODD_PATHS]
    write_csv(tmp_path / "identities.csv", ODD_PATHS, cameras, found)
    with open(tmp_path / "identities.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "camera", "identity", "similarity", "runner_up", "runner_up_similarity"]
    readable = [path.encode("utf-8", "backslashreplace").decode() for path in ODD_PATHS]
    assert [row["path"] for row in rows] == readable
    assert [row["camera"] for row in rows] == cameras
    assert [row["identity"] for row in rows] == ["outlier", *map(str, labels.tolist()[1:])]
    assert rows[0]["similarity"] == "" and rows[0]["runner_up"] == str(found.runner_up[0].item())
    for row, similarity, other in zip(rows[1:], found.similarity[1:], found.runner_up_similarity[1:], strict=True):
        assert float(row["similarity"]) == pytest.approx(float(similarity), abs=1e-4)
        assert float(row["runner_up_similarity"]) == pytest.approx(float(other), abs=1e-4)


def test_no_name_becomes_a_formula_of_a_spreadsheet(tmp_path):
    paths = ["=1+1.jpg", "-a.jpg", "+b/c.jpg", "@d.jpg", "\t=e.jpg", "f=.jpg"]
    cameras = ["=1+1", "-2", "+3.5", "@d", "\re", "f="]
    found = compare_with_centroids(random_features(6), torch.zeros(6, dtype=torch.int64))
    write_csv(tmp_path / "identities.csv", paths, cameras, found)
    with open(tmp_path / "identities.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [*(f"./{path}" for path in paths[:5]), "f=.jpg"]
    assert [row["camera"] for row in rows] == ["'=1+1", "-2", "+3.5", "'@d", "'\re", "f="]


def test_a_single_identity_has_no_runner_up(tmp_path):
    found = compare_with_centroids(random_features(3), torch.zeros(3, dtype=torch.int64))
    write_csv(tmp_path / "identities.csv", ["a", "b", "c"], [""] * 3, found)
    assert (tmp_path / "identities.csv").read_text().splitlines()[1].endswith(",,")


def test_features_come_back_without_pickle(tmp_path):
    features = random_features(len(ODD_PATHS))
    save_features(tmp_path / "features.npz", features, ODD_PATHS)
    with np.load(tmp_path / "features.npz", allow_pickle=False) as arrays:
        assert arrays["features"].dtype == np.float32 and arrays["paths"].tolist() == ODD_PATHS
    saved = load_features(tmp_path / "features.npz")
    assert torch.equal(saved.features, features) and saved.paths == ODD_PATHS


def save_pickle(path):
    np.savez(path, features=np.zeros((2, 3), np.float32), paths=np.array(["a", None], dtype=object))


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no archive"), "cannot be read as features"),
        (lambda path: np.savez(path, features=np.zeros((2, 3), np.float32)), "'paths'"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read as features"),
        (save_pickle, "cannot be read as features"),
        (lambda path: np.savez(path, features=np.zeros((2, 3), np.float32), paths=np.array(["a"])), "one row"),
        (lambda path: np.savez(path, features=np.zeros((1, 3), np.int64), paths=np.array(["a"])), "int64"),
    ],
)
def test_a_file_that_holds_no_features(tmp_path, write, named):
    write(tmp_path / "features.npz")
    with pytest.raises(InputError, match=named) as error:
        load_features(tmp_path / "features.npz")
    assert "features.npz" in str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_paths_that_are_no_text_are_refused(tmp_path, order):
    paths = np.array(["a.jpg", "b.jpg"]).astype(f"{order}U5")
    np.savez(tmp_path / "features.npz", features=np.eye(2, dtype=np.float32), paths=paths)
    assert load_features(tmp_path / "features.npz").paths == ["a.jpg", "b.jpg"]
    paths.view(f"{order}u4")[6] = 0x7FFFFFFF
    np.savez(tmp_path / "features.npz", features=np.eye(2, dtype=np.float32), paths=paths)
    with pytest.raises(InputError, match="cannot be read as features"):
        load_features(tmp_path / "features.npz")


def test_the_lines_for_each_eps_equal_separate_clusterings():
    features = torch.cat([people(), random_features(40, 32)])
    values = [0.7, 0.2, 0.4]
    lines = clusters_by_eps(features, values, min_samples=3, k1=10, k2=3)
    assert [line.eps for line in lines] == sorted(values)
    for line in lines:
        labels = PseudoLabeler(line.eps, min_samples=3, k1=10, k2=3)(features).numpy()
        sizes = np.bincount(labels[labels >= 0], minlength=1)
        assert (line.identities, line.outliers, line.largest) == (labels.max() + 1, (labels < 0).sum(), sizes.max())
        assert line.outlier_share == line.outliers / 104 and line.largest_share == line.largest / 104
        own, _, other = slow_comparison(features, labels)
        assert line.lead == pytest.approx(float(np.nan_to_num(own - other).mean()), abs=1e-5)


def test_what_is_joined_is_what_a_slow_count_finds():
    footage = Footage(people=12, together=4)
    lines = clusters_by_eps(footage.features, [0.4, 0.7, 0.95], k1=30, images=footage.images)
    pieces = find_pieces(footage.features, footage.images)
    for line in lines:
        ground = PseudoLabeler(line.eps, k1=30).prepare(footage.features, footage.images)
        labels = dbscan(ground.graph, line.eps, 4).tolist()
        votes = [Counter() for _ in range(len(pieces))]
        for row, label in zip(ground.chosen, labels, strict=True):
            votes[pieces.of_images[row]][label] += label >= 0
        winner = [max(sorted(vote), key=lambda label: vote[label]) if any(vote.values()) else None for vote in votes]
        joined = [winner[one] is not None and winner[one] == winner[other] for one, other in pieces.apart]
        assert line.joined == pytest.approx(np.mean(joined))
    assert "joined" in table_of_clusters(lines) and "joined" not in table_of_clusters(clusters_by_eps(people(), [0.5]))


def line_at(eps, **found):
    values = {"identities": 9, "outliers": 0, "outlier_share": 0.0, "largest": 10, "largest_share": 0.1, "lead": 0.2}
    return ClustersAtEps(eps, **{**values, **found})


def test_an_eps_is_recommended_by_lead_or_by_tracks_seen_together_but_never_a_collapse():
    lines = [line_at(0.4), line_at(0.5, lead=0.3), line_at(0.6, lead=0.9, largest_share=0.92, identities=2)]
    assert recommend_eps(lines)[0] == 0.5
    tracks = [line_at(0.4, joined=0.0), line_at(0.5, joined=0.01), line_at(0.6, joined=0.3, lead=0.9)]
    assert recommend_eps(tracks)[0] == 0.5
    assert recommend_eps(tracks[2:]) is None
    assert recommend_eps([line_at(0.5, largest_share=0.5), line_at(0.6, lead=0.0)]) is None


@pytest.mark.parametrize("kind", ["people", "near copies", "chained", "alike"])
def test_no_kind_of_features_makes_it_recommend_a_collapse(kind):
    generator = torch.Generator().manual_seed(2)
    features = people(num_people=12, images_of_each=10, noise=0.3)
    if kind == "near copies":
        features = people(num_people=24, images_of_each=30, noise=0.02)
    elif kind == "chained":  # each person a little like the next
        features = normalize(features + 0.9 * features.roll(10, 0) + 0.8 * features.roll(20, 0), dim=1)
    elif kind == "alike":
        features = normalize(8 * features[:1] + features + torch.randn(features.shape, generator=generator) / 9, dim=1)
    lines = clusters_by_eps(features, [number / 20 for number in range(4, 19)], k1=20)
    found = recommend_eps(lines)
    assert found is None or next(line for line in lines if line.eps == found[0]).largest_share <= 0.4


def test_nothing_leads_where_there_is_one_identity_or_none():
    features = people(num_people=1, images_of_each=12)
    (one,) = clusters_by_eps(features, [0.9], k1=12, k2=2)
    (none,) = clusters_by_eps(features, [0.9], min_samples=13, k1=12, k2=2)
    assert (one.identities, one.lead, none.identities, none.lead, none.largest) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize("values", [[], [0.5, 1.0], [0.0]])
def test_an_eps_that_is_none(values):
    with pytest.raises(InputError, match="between 0 and 1"):
        clusters_by_eps(people(), values)


def test_a_plot_of_a_kind_that_there_is_not(tmp_path):
    lines = clusters_by_eps(people(), [0.5])
    with pytest.raises(InputError, match=r"plot\.xyz.*ends in \.png or \.svg"):
        draw_clusters_by_eps(lines, tmp_path / "plot.xyz")


def test_a_plot_makes_its_folder_or_says_why_not(tmp_path):
    lines = clusters_by_eps(people(), [0.5])
    draw_clusters_by_eps(lines, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^cannot write .*plot\.png: .* set --plot to a folder that can be written$"):
        draw_clusters_by_eps(lines, tmp_path / "file" / "plot.png")


SIZE = {"data.height": 64, "data.width": 32, "model.name": "shufflenet_v2_x0_5", "cluster.eps": 0.61}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of a small network, as a run leaves it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pth.tar"
    model = build_model("shufflenet_v2_x0_5", pretrained=False)
    config = load_config(options=[str(part) for pair in SIZE.items() for part in pair]).dump()
    save_checkpoint({"state_dict": model.state_dict(), "model_name": "shufflenet_v2_x0_5", "config": config}, path)
    return path


@pytest.fixture
def crops(tmp_path):
    """Pictures at two cameras, and one file that is none."""
    root = tmp_path / "crops"
    for number, path in enumerate(ODD_PATHS):
        draw(root, path, colour=(number * 20, 255 - number * 20, 90))
    (root / "camera 0" / "broken\n<b>.jpg").write_bytes(b"cut off")
    return root


@pytest.fixture
def call(tmp_path, crops, weights, capsys):
    """Runs the tool; gives exit code, standard output and standard error."""

    def run(*flags, tool=assign_identities, **options):
        options = {"weights": weights, "root": crops, "out": tmp_path / "out", **options}
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
        code = tool.main([*given, *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def assert_one_sentence(result, *named):
    code, _, error = result
    assert code == 2
    assert error.startswith("error: ") and error.strip().count("\n") == 0 and "Traceback" not in error
    for name in named:
        assert str(name) in error


def test_the_tool_gives_every_image_an_identity(call, tmp_path, crops):
    before = {path: path.read_bytes() for path in crops.rglob("*.jpg")}
    code, output, error = call("--eps=0.9", "--min-samples=2", "--k1=4", "--k2=1", "--device=cpu")
    assert code == 0, error
    out = tmp_path / "out"
    assert f"{len(ODD_PATHS)} images" in output and "eps 0.9" in output and str(out / "index.html") in output
    assert "1 files could not be read" in output
    assert (out / "unreadable.txt").read_text() == "camera 0/broken\\n<b>.jpg\n"
    saved = load_features(out / "features.npz")
    assert sorted(saved.paths) == sorted(ODD_PATHS)
    labels = PseudoLabeler(0.9, 2, 4, 1)(saved.features).tolist()
    with open(out / "identities.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["identity"] for row in rows] == ["outlier" if label < 0 else str(label) for label in labels]
    assert {row["camera"] for row in rows} == {"camera 0", "camera 1", "a<"}
    assert len(list((out / "page" / "thumbnails").rglob("*.jpg"))) == len(ODD_PATHS)
    assert {path: path.read_bytes() for path in crops.rglob("*.jpg")} == before


def test_the_same_features_give_the_same_table_without_a_model(call, tmp_path, capsys):
    settings = ["--eps=0.9", "--min-samples=2", "--k1=4", "--k2=1"]
    assert call(*settings)[0] == 0
    features = tmp_path / "out" / "features.npz"
    code, _, error = call(*settings, weights=None, features=features, out=tmp_path / "again")
    assert code == 0, error
    assert (tmp_path / "again" / "identities.csv").read_bytes() == (tmp_path / "out" / "identities.csv").read_bytes()
    assert choose_eps.main([f"--features={features}", f"--plot={tmp_path / 'eps.png'}", *settings[1:]]) == 0
    output = capsys.readouterr().out
    assert output.split()[:3] == ["eps", "identities", "outliers"] and "0.75" in output
    assert (tmp_path / "eps.png").read_bytes().startswith(b"\x89PNG")


def test_clustering_is_as_in_training_where_nothing_is_said(call):
    assert "(eps 0.61)" in call()[1]


def test_saved_features_are_clustered_as_they_were_where_nothing_is_said(call, tmp_path, capsys):
    """Else the table of eps would tell of other identities than those on the page."""
    assert call("--eps=0.9", "--min-samples=2", "--k1=4", "--k2=1")[0] == 0
    features = tmp_path / "out" / "features.npz"
    assert load_settings(features) == {"eps": [0.9], "min_samples": 2, "k1": 4, "k2": 1}
    code, output, error = call(weights=None, features=features, out=tmp_path / "again")
    assert code == 0 and "(eps 0.9)" in output, error
    assert (tmp_path / "again" / "identities.csv").read_bytes() == (tmp_path / "out" / "identities.csv").read_bytes()
    assert choose_eps.main([f"--features={features}", "--eps", "0.9"]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert output.startswith(f"{len(ODD_PATHS)} images: {line[1]} identities, {line[2]} outliers, ")


@pytest.mark.parametrize("settings", [{"k1": "many", "eps": {}}, {"min_samples": [3], "k2": 0.5, "eps": "0.3"}])
def test_settings_that_are_none_are_not_taken(tmp_path, weights, settings):
    save_features(tmp_path / "features.npz", random_features(2), ["a", "b"], settings)
    stored = {**load_checkpoint(weights), "config": yaml.safe_dump({"cluster": settings})}
    save_checkpoint(stored, tmp_path / "model.pth.tar")
    default = {"eps": 0.45, "min_samples": 4, "k1": 30, "k2": 6, "tracks": "auto"}
    assert cluster_settings(features=tmp_path / "features.npz") == default
    assert cluster_settings(tmp_path / "model.pth.tar") == default


def test_eps_is_chosen_from_a_folder_too(weights, crops, capsys):
    assert choose_eps.main([f"--weights={weights}", f"--root={crops}", "--eps", "0.5", "0.3"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["0.3", "0.5"]
    with pytest.raises(SystemExit):
        choose_eps.main([f"--weights={weights}"])


def test_bad_features_for_the_choice_of_eps(tmp_path, capsys):
    code = choose_eps.main([f"--features={tmp_path / 'nowhere.npz'}"])
    assert_one_sentence((code, "", capsys.readouterr().err), "nowhere.npz")


def test_an_empty_folder(call, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_one_sentence(call(root=tmp_path / "empty"), tmp_path / "empty")
    assert_one_sentence(call(root=tmp_path / "nowhere"), tmp_path / "nowhere")


def test_a_folder_of_broken_images(call, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"cut off")
    assert_one_sentence(call(root=tmp_path / "broken"), tmp_path / "broken", "1 image")


def test_a_folder_that_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_sentence(call(out=tmp_path / "file" / "out"), tmp_path / "file" / "out", "--out")


def test_results_do_not_go_among_the_images(call, crops):
    assert_one_sentence(call(out=crops / "identities"), "--out", crops)
    assert not (crops / "identities").exists()


def test_weights_that_are_none(call, tmp_path):
    (tmp_path / "weights.pth").write_text("no weights")
    assert_one_sentence(call(weights=tmp_path / "weights.pth"), tmp_path / "weights.pth")
    assert_one_sentence(call(weights=tmp_path / "nowhere.pth"), tmp_path / "nowhere.pth")


@pytest.mark.parametrize("device", ["gpu", "cuda:first"])
def test_a_device_that_is_none(call, device):
    assert_one_sentence(call(device=device), device, "give cpu, or one GPU as cuda:0")


def test_weights_of_another_backbone(call, weights):
    assert_one_sentence(call(model_name="osnet_x0_25"), weights, "shufflenet_v2_x0_5", "osnet_x0_25")


@pytest.mark.parametrize(
    ("expression", "named"), [("(camera", "regular expression"), ("camera", "group"), ("([0-9]{9})", "finds no camera")]
)
def test_a_camera_expression_that_does_not_work(call, expression, named):
    assert_one_sentence(call(camera_regex=expression), expression, named)


def test_cameras_by_expression(call, tmp_path):
    assert call(camera_regex=r"(.)")[0] == 0
    with open(tmp_path / "out" / "identities.csv", encoding="utf-8", newline="") as file:
        assert {row["camera"] for row in csv.DictReader(file)} == {"c", "a"}


def test_features_of_other_images(call, tmp_path):
    save_features(tmp_path / "features.npz", random_features(2), ["a<\nb.jpg", "/etc/hostname"])
    result = call(weights=None, features=tmp_path / "features.npz")
    assert_one_sentence(result, "2 of 2", "features.npz", "--root")


def test_an_eps_that_leaves_nothing_says_what_to_do(call):
    code, output, _ = call("--min-samples=100")
    assert code == 0 and "raise --eps" in output and "choose_eps" in output


def test_the_table_of_tracks_equals_a_slow_one(tmp_path):
    footage = Footage(people=6, cameras=2)
    footage.sightings[5] = footage.sightings[5]._replace(track="")
    paths = [f"{number}.jpg" for number in range(len(footage.sightings))]
    for path in paths:
        draw(tmp_path / "crops", path, size=(4, 8))
    crops = Crops(tmp_path / "crops", paths, footage.sightings, footage.features, [])
    found = write_identities(tmp_path, crops, PseudoLabeler(eps=0.6, k1=20))
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    identity, features = found.identity.numpy(), footage.features.double().numpy()
    assert [(row["camera"], row["track"]) for row in rows] == [(f"c{c}", f"{t}") for c in range(2) for t in range(6)]
    for row in rows:
        images = [number for number, seen in enumerate(footage.sightings) if seen[:2] == (row["camera"], row["track"])]
        (own,) = set(identity[images].tolist())
        frames = [footage.sightings[number].frame for number in images]
        assert (row["first_frame"], row["last_frame"]) == (str(min(frames)), str(max(frames)))
        assert (row["images"], row["identity"]) == (str(len(images)), str(own))
        mean = features[images].mean(0) / np.linalg.norm(features[images].mean(0))
        centroids = [features[identity == number].mean(0) for number in range(found.num_identities)]
        similar = [float(mean @ centroid / np.linalg.norm(centroid)) for centroid in centroids]
        assert float(row["similarity"]) == pytest.approx(similar[own], abs=6e-5)
        other = max((number for number in range(found.num_identities) if number != own), key=similar.__getitem__)
        assert int(row["runner_up"]) == other
        assert float(row["runner_up_similarity"]) == pytest.approx(similar[other], abs=6e-5)
    plain = crops._replace(sightings=[seen._replace(track="") for seen in footage.sightings])
    write_identities(tmp_path, plain, PseudoLabeler(eps=0.6, k1=20))
    assert not (tmp_path / "tracks.csv").exists()


def test_the_tools_see_the_tracks_of_a_folder(call, tmp_path, crops, capsys):
    names = ODD_PATHS[:-1]  # the last is no Unicode, and cannot be named in a table
    with open(crops / "crops.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "camera", "track", "frame"])
        writer.writerows([path, f"c{number % 2}", number // 4, number // 2] for number, path in enumerate(names))
    code, _, error = call("--eps=0.9", "--min-samples=2", "--k1=5", "--k2=1")
    assert code == 0, error
    with open(tmp_path / "out" / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(number % 2, number // 4) for number in range(len(names))})
    assert call("--tracks=off", "--eps=0.9", "--min-samples=2", "--k1=5", "--k2=1")[0] == 0
    features = tmp_path / "out" / "features.npz"
    assert choose_eps.main([f"--features={features}", f"--root={crops}", "--k1=5", "--eps", "0.5"]) == 0
    assert_one_sentence(call("--track-regex=("), "--track-regex")


@pytest.mark.parametrize("are_unlike", [True, False])
def test_the_tool_compares_by_camera_and_says_where_that_helps(call, tmp_path, are_unlike):
    root = tmp_path / "of two cameras"
    for number in range(70):
        camera = number % 2
        shade = 30 + 160 * camera if are_unlike else 30 + 3 * number // 2
        draw(root, f"c{camera}/{number}.jpg", colour=(shade, number, 255 - shade))
    options = {"root": root, "eps": 0.6, "k1": 5, "k2": 1}
    code, output, error = call(**options)
    assert code == 0, error
    assert ("--camera-bn 8 tells people apart better" in output) == are_unlike
    plain = load_features(tmp_path / "out" / "features.npz")
    code, output, error = call("--camera-bn=1", **options)
    assert code == 0, error
    assert "--camera-bn" not in output
    found = load_features(tmp_path / "out" / "features.npz")
    assert found.model == f"{plain.model} by camera" and not torch.allclose(found.features, plain.features, atol=1e-3)
    with pytest.raises(SystemExit):
        call("--camera-bn=1", weights=None, features=tmp_path / "out" / "features.npz", **options)


def test_track_files_carry_identities_that_are_the_same_at_all_cameras(tmp_path):
    footage = Footage(people=6, cameras=2)
    box = (3.0, 4.0, 10.0, 20.0)
    footage.sightings = [seen._replace(box=box) for seen in footage.sightings]
    paths = [f"{number}.jpg" for number in range(len(footage.sightings))]
    crops = Crops(tmp_path, paths, footage.sightings, footage.features, [])
    identity = torch.tensor(footage.people)
    identity[(identity == 5)] = -1
    found = compare_with_centroids(footage.features, identity)
    written = write_mot(tmp_path / "mot", crops, found)
    assert [path.name for path in written] == ["c0.txt", "c1.txt"]
    for camera, path in enumerate(written):
        lines = [line.split(",") for line in path.read_text().splitlines()]
        expected = sorted(
            (seen.frame, who + 1 if who < 5 else -1)
            for seen, who in zip(footage.sightings, footage.people.tolist(), strict=True)
            if seen.camera == f"c{camera}"
        )
        assert sorted((int(line[0]), int(line[1])) for line in lines) == expected
        assert {tuple(map(float, line[2:6])) for line in lines} == {box}
    # The tracker's own file has frames between the crops, and a track that changes its person at frame 6.
    footage.sightings = [Sighting("c0", "1", 2), Sighting("c0", "1", 6), Sighting("c1", "1", 2)]
    crops = Crops(tmp_path, paths[:3], footage.sightings, footage.features[:3], [])
    found = compare_with_centroids(footage.features[:3], torch.tensor([0, 1, 0]))
    with pytest.raises(InputError, match="track '1' of camera 'c0' has no box"):
        write_mot(tmp_path / "mot", crops, found)
    for camera in ("c0", "c1"):
        boxes = [f"{frame},{track},1,2,3,4,0.5" for frame in range(1, 9) for track in (1, 2)]
        (tmp_path / f"{camera}.tracks.txt").write_text("\n".join(boxes))
    first, second = (path.read_text().splitlines() for path in write_mot(tmp_path / "mot", crops, found))
    assert [int(line.split(",")[1]) for line in first if line.split(",")[1] != "-1"] == [1] * 5 + [2] * 3
    assert [int(line.split(",")[1]) for line in second if line.split(",")[1] != "-1"] == [1] * 8
    assert sum(line.split(",")[1] == "-1" for line in first) == 8
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "c0.txt").write_text("1,1,1,2,3,4,0.5")
    with pytest.raises(InputError, match=r"holds c0\.txt, which may be a tracker's"):
        write_mot(tmp_path / "trackers", crops, found)
    assert (tmp_path / "trackers" / "c0.txt").read_text() == "1,1,1,2,3,4,0.5"
    plain = crops._replace(sightings=[Sighting("c0")] * 3)
    with pytest.raises(InputError, match="no tracks are known"):
        write_mot(tmp_path / "mot", plain, found)
