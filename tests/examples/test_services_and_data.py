"""A search service, a data set of one's own and identities from Python do what they are for."""

import csv
import json
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import identities_from_python
import own_data_set
import pytest
import search_service
from crops import save_image, save_model
from small_runs import SMALL, pairs


@pytest.fixture
def crops(tmp_path):
    for number in range(8):
        save_image(tmp_path / "crops" / f"{number}.png", number // 2)
    return tmp_path / "crops"


@pytest.fixture
def model(tmp_path):
    return str(save_model(tmp_path / "model.pth", 0))


def test_the_service_finds_a_picture_and_refuses_what_is_none(model, crops):
    with search_service.make_server(model, crops, 0, "cpu") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/?topk=2"
        found = json.load(urlopen(url, (crops / "4.png").read_bytes()))
        with pytest.raises(HTTPError) as refusal:
            urlopen(url, b"no picture")
        server.shutdown()
    assert {match["path"] for match in found} == {str(crops / "4.png"), str(crops / "5.png")}
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert refusal.value.code == 400


def test_a_data_set_of_ones_own_is_trained_and_tested_on(data_root, tmp_path):
    images = data_root / "synthetic_market" / "Market-1501-v15.09.15"
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    (tmp_path / "tabled").mkdir()
    with open(tmp_path / "tabled" / "images.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("split", "path", "person", "camera"))
        for split, folder in folders.items():
            (tmp_path / "tabled" / folder).symlink_to(images / folder)
            people = sorted({path.name[:4] for path in (images / folder).glob("*.jpg")})
            for path in sorted((images / folder).glob("[0-9]*.jpg")):
                person = people.index(path.name[:4]) if split == "train" else int(path.name[:4])
                table.writerow((split, f"{folder}/{path.name}", person, int(path.name[6]) - 1))
    engine = own_data_set.train(str(tmp_path), str(tmp_path / "log"), pairs({**SMALL, "engine.iters": 1}))
    assert engine.history.last["clusters"] >= 2 and "mAP" in engine.results["tabled"]


def test_identities_are_written(model, crops, tmp_path):
    found = identities_from_python.identify(model, crops, tmp_path / "out", "cpu", min_samples=2, k1=3, k2=1)
    assert len(found) == 8
    assert (tmp_path / "out" / "index.html").exists() and (tmp_path / "out" / "identities.csv").exists()
