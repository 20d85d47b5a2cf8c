"""Batch augmentation: the same pixels as per-image transforms for given draws, and the distribution METHOD names."""

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import functional as TF

from hhcl_torchreid.data.images import DecodedImages, load_images
from hhcl_torchreid.data.transforms import AugmentationDraws, BatchAugmentation, draw_augmentation, normalize_images
from hhcl_torchreid.errors import InputError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
ALL = ("random_flip", "random_pad_crop", "random_erase")
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def random_images(count=12, height=64, width=32):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def one_by_one(image, flip, top, left, box):
    """METHOD's training transform on one PIL image, by torchvision."""
    picture = TF.to_pil_image(image)
    if flip:
        picture = TF.hflip(picture)
    picture = TF.crop(TF.pad(picture, 10, fill=0), top, left, picture.height, picture.width)
    tensor = TF.normalize(TF.to_tensor(picture), MEAN, STD)
    for channel, value in enumerate(MEAN):
        tensor[channel, box[0] : box[2], box[1] : box[3]] = value
    return tensor


@pytest.mark.parametrize("device", DEVICES)
def test_same_pixels_as_the_per_image_transforms_for_given_draws(device):
    images = random_images()
    draws = draw_augmentation(len(images), 64, 32, ALL, np.random.default_rng(0))
    assert draws.flip.any() and not draws.flip.all() and draws.erase.any()
    expected = torch.stack([one_by_one(image, *draw) for image, *draw in zip(images, *draws, strict=True)])
    augmented = BatchAugmentation(ALL, 64, 32, MEAN, STD).apply(images.to(device), draws)
    torch.testing.assert_close(augmented.cpu(), expected, atol=1e-6, rtol=0)


def test_draws_have_the_distribution_of_the_method():
    height, width, count = 256, 128, 20000
    flip, top, left, erase = draw_augmentation(count, height, width, ALL, np.random.default_rng(0))
    assert flip.mean() == pytest.approx(0.5, abs=0.02)
    for corner in (top, left):
        assert set(corner) == set(range(21))
        assert np.bincount(corner).std() / np.bincount(corner).mean() < 0.1
    box_heights, box_widths = erase[:, 2] - erase[:, 0], erase[:, 3] - erase[:, 1]
    erased = box_heights > 0
    assert erased.mean() == pytest.approx(0.5, abs=0.02)
    area = (box_heights * box_widths)[erased] / (height * width)
    assert area.min() > 0.018 and area.max() < 0.41
    assert (erase[erased][:, 2] <= height).all() and (erase[erased][:, 3] <= width).all()
    np.testing.assert_allclose(
        np.quantile(np.column_stack([area, (box_heights / box_widths.clip(1))[erased]]), [0.1, 0.5, 0.9], axis=0),
        np.quantile(slow_rectangles(height, width), [0.1, 0.5, 0.9], axis=0),
        rtol=0.06,
    )


def slow_rectangles(height, width, count=10000):
    """Area and aspect ratio of rectangles drawn one at a time, again where they do not fit."""
    generator, found = np.random.default_rng(1), []
    while len(found) < count:
        area, aspect = generator.uniform(0.02, 0.4) * height * width, generator.uniform(0.3, 1 / 0.3)
        box_height, box_width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if box_height < height and box_width < width:
            found.append((box_height * box_width / (height * width), box_height / box_width))
    return np.array(found)


def test_erasing_is_like_torchreids():
    """torchreid's RandomErasing has the same parameters; the erased area per image agrees on average."""
    transform = torchreid.data.transforms.RandomErasing(mean=MEAN)
    theirs = np.mean([(transform(torch.full((3, 64, 32), 9.0)) != 9).float().mean().item() for _ in range(4000)])
    boxes = draw_augmentation(4000, 64, 32, ALL, np.random.default_rng(0)).erase
    ours = np.mean((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])) / (64 * 32)
    assert ours == pytest.approx(theirs, abs=0.01)


def test_transforms_that_are_not_named_do_not_happen():
    images = random_images()
    for _ in range(5):
        plain = BatchAugmentation([], 64, 32, MEAN, STD)(images, np.random.default_rng())
        torch.testing.assert_close(plain, normalize_images(images, MEAN, STD))


def test_normalised_pixels_equal_torchvisions():
    images = random_images(3)
    transform = T.Compose([T.ToPILImage(), T.ToTensor(), T.Normalize(MEAN, STD)])
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(normalize_images(images, MEAN, STD), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["random_crop", "random_patch", "color_jitter"])
def test_torchreids_other_transforms_work_by_name(name):
    images = random_images(300)  # torchreid pastes no patch before it has gathered 100
    augmented = BatchAugmentation([name], 64, 32, MEAN, STD)(images, np.random.default_rng(0))
    assert augmented.shape == images.shape
    assert not torch.equal(augmented, normalize_images(images, MEAN, STD))


def test_unknown_transform_is_named():
    with pytest.raises(InputError, match="random_rotate"):
        BatchAugmentation(["random_rotate"], 64, 32, MEAN, STD)


def test_decoding_equals_pil_bicubic_whatever_the_workers(tmp_path):
    records = []
    for index, mode in enumerate(["RGB", "L", "RGBA", "P"]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (90, 40, 3), dtype=np.uint8)).convert(mode).save(
            path
        )
        records.append((str(path), 0, 0, 0))
    expected = [
        TF.pil_to_tensor(Image.open(path).convert("RGB").resize((32, 64), Image.Resampling.BICUBIC))
        for path, *_ in records
    ]
    for workers in (0, 2):
        assert torch.equal(load_images(DecodedImages(records, 64, 32), workers), torch.stack(expected))


def test_unreadable_images_are_named_and_counted(tmp_path):
    records = []
    for index in range(8):
        path = tmp_path / f"broken{index}.jpg"
        path.write_bytes(b"no image")
        records.append((str(path), 0, 0, 0))
    with pytest.raises(InputError, match=r"^8 unreadable.*broken0.jpg.*broken4.jpg, \.\.\.$"):
        load_images(DecodedImages(records, 64, 32), 0)


def test_draws_are_reproducible():
    first, second = (draw_augmentation(9, 64, 32, ALL, np.random.default_rng(4)) for _ in range(2))
    assert isinstance(first, AugmentationDraws)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
