"""The image store: the same pixels wherever they stay, and a choice of where that says why."""

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from hhcl_torchreid.data.images import DecodedImages
from hhcl_torchreid.data.loader import TestBatches
from hhcl_torchreid.data.store import ImageStore, choose_cache, free_memory
from hhcl_torchreid.data.transforms import normalize_images
from hhcl_torchreid.errors import InputError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CPU = torch.device("cpu")
MORE_THAN_THERE_IS = 10**18
# (cache, workers, device of the batches)
PLACES = [("ram", 0, "cpu"), ("auto", 2, "cpu"), ("off", 0, "cpu"), ("off", 2, "cpu")]
if torch.cuda.is_available():
    PLACES += [(cache, 0, "cuda") for cache in ("gpu", "ram", "off")]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    records = []
    for index in range(7):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        records.append((str(folder / f"{index}.png"), 10 + index, index % 3, 0))
    return records


def make_store(records, *args):
    return ImageStore(DecodedImages(records, 64, 32), *args)


@pytest.mark.parametrize(("cache", "workers", "device"), PLACES)
def test_pixels_are_those_of_the_test_transform_wherever_they_stay(records, cache, workers, device):
    store = make_store(records, cache, workers, device)
    resize = T.Resize((64, 32), interpolation=T.InterpolationMode.BICUBIC)
    transform = T.Compose([resize, T.ToTensor(), T.Normalize(MEAN, STD)])
    for _ in range(2):  # decoding now, and what was decoded before
        batches = list(store.batches([[3, 0, 3], [6]]))
        assert [len(batch) for batch in batches] == [3, 1]
        for batch, indices in zip(batches, ([3, 0, 3], [6]), strict=True):
            assert batch.device.type == device and batch.dtype == torch.uint8
            expected = torch.stack([transform(Image.open(records[index][0])) for index in indices])
            torch.testing.assert_close(normalize_images(batch, MEAN, STD).cpu(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("cache", ["ram", "off"])
def test_test_batches_are_torchreids_with_every_image_once(records, cache):
    batches = list(TestBatches(make_store(records, cache), 3))
    assert len(batches) == len(TestBatches(make_store(records, cache), 3)) == 3
    rows = [
        (path, int(pid), int(camera), int(dataset))
        for batch in batches
        for path, pid, camera, dataset in zip(
            batch["impath"], batch["pid"], batch["camid"], batch["dsetid"], strict=True
        )
    ]
    assert rows == records
    (expected,) = make_store(records, cache).batches([range(7)])
    assert torch.equal(torch.cat([batch["img"] for batch in batches]), expected)


def test_loading_draws_nothing_from_the_generator_that_training_depends_on(records):
    states = []
    for cache in ("ram", "off"):
        torch.manual_seed(5)
        list(make_store(records, cache).batches([[0], [1]]))
        states.append(torch.get_rng_state())
    torch.manual_seed(5)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)


@pytest.mark.parametrize(("num_bytes", "chosen"), [(1, "ram"), (MORE_THAN_THERE_IS, "off")])
def test_auto_measures_and_says_what_it_chose(num_bytes, chosen, capsys):
    assert choose_cache("auto", num_bytes, CPU, "training images") == chosen
    said = capsys.readouterr().out
    assert {"ram": "kept in RAM", "off": "decoded anew for every batch"}[chosen] in said
    assert "training images" in said and "MB free in RAM" in said


def test_a_place_without_room_is_refused_in_a_sentence():
    with pytest.raises(InputError, match=r"data.cache is 'ram'.*training images need .* set it to off"):
        choose_cache("ram", MORE_THAN_THERE_IS, CPU, "training images")


@pytest.mark.parametrize(("cache", "named"), [("gpu", "uses none"), ("disk", "'disk'")])
def test_a_cache_that_is_not_there_is_refused(records, cache, named):
    with pytest.raises(InputError, match=named):
        make_store(records, cache)


def test_free_memory_is_at_most_what_the_machine_has_left():
    assert 0 < free_memory("ram", CPU) <= psutil.virtual_memory().total
    assert free_memory("gpu", CPU) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_prefers_the_gpu():
    assert choose_cache("auto", 1, torch.device("cuda"), "images") == "gpu"
    assert choose_cache("auto", free_memory("gpu", torch.device("cuda")), torch.device("cuda"), "images") != "gpu"


@pytest.mark.parametrize("cache", ["ram", "off"])
def test_unreadable_images_are_named(records, cache, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    store = make_store([*records, (str(tmp_path / "broken.jpg"), 0, 0, 0)], cache)
    with pytest.raises(InputError, match=r"1 unreadable.*broken.jpg"):
        list(store.batches([range(8)]))
