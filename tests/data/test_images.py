"""Opening image files: every mode becomes RGB and upright, and what is no image says so."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from hhcl_torchreid.data.images import UNREADABLE, open_image

HEIGHT, WIDTH = 40, 20


def random_pixels(channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8).squeeze()


def encode(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def decode(data):
    picture = open_image(io.BytesIO(data))
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_ordinary_files_keep_pils_pixels(form, tmp_path):
    data = encode(Image.fromarray(random_pixels()), form)
    path = tmp_path / "image with spaces"
    path.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data), expected)
    assert np.array_equal(np.asarray(open_image(path)), expected)
    assert np.array_equal(np.asarray(open_image(str(path))), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_keep_their_colours(mode):
    picture = Image.fromarray(random_pixels()).convert(mode)
    assert np.array_equal(decode(encode(picture, "PNG")), np.asarray(picture.convert("RGB")))


def test_grey_of_16_bits_keeps_its_upper_byte():
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH)).astype(np.uint16)
    expected = np.repeat((values // 256)[..., None], 3, axis=2)
    assert np.array_equal(decode(encode(Image.fromarray(values), "PNG")), expected)


def test_cmyk_is_converted_to_the_colours_it_means():
    red, white = (Image.new("RGB", (WIDTH, HEIGHT), colour).convert("CMYK") for colour in ("red", "white"))
    assert np.abs(decode(encode(red, "JPEG")).astype(int) - [255, 0, 0]).max() <= 2
    assert decode(encode(white, "JPEG")).min() >= 253


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_turns_black(mode):
    alpha = random_pixels(1, seed=1)
    alpha[0], alpha[1] = 0, 255
    colours = Image.fromarray(random_pixels()).convert(mode[:-1])
    picture = colours.copy()
    picture.putalpha(Image.fromarray(alpha))
    expected = np.asarray(colours.convert("RGB")) * (alpha[..., None] / 255)
    pixels = decode(encode(picture, "PNG"))
    assert np.abs(pixels - expected).max() <= 1
    assert (pixels[0] == 0).all() and np.array_equal(pixels[1], np.asarray(colours.convert("RGB"))[1])


def test_a_transparent_palette_entry_turns_black():
    picture = Image.fromarray(random_pixels()).convert("P")
    indices = np.asarray(picture)
    entry = int(indices[0, 0])
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[indices == entry] = 0
    assert np.array_equal(decode(encode(picture, "PNG", transparency=entry)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_rotation_in_exif_is_carried_out(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(random_pixels()), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected.size == ((HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT))
    assert np.array_equal(decode(data), np.asarray(expected))


def test_broken_exif_does_not_make_an_image_unreadable():
    data = encode(Image.fromarray(random_pixels()), "JPEG", exif=b"Exif\0\0II\x2a\0" + b"\xff" * 20)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_what_is_no_image_raises_what_is_documented(tmp_path):
    whole = encode(Image.fromarray(random_pixels()), "PNG")
    for data in (b"", b"no image", whole[: len(whole) // 2], b"<svg/>"):
        with pytest.raises(UNREADABLE):
            decode(data)
    with pytest.raises(UNREADABLE):
        open_image(tmp_path / "missing.jpg")
    with pytest.raises(UNREADABLE):
        open_image(tmp_path)


def test_damaged_files_raise_nothing_else():
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(random_pixels())
    files = [encode(picture, form, exif=exif) for form in ("JPEG", "PNG", "WEBP")] + [encode(picture, "BMP")]
    opened = 0
    for trial in range(600):
        data = bytearray(files[trial % len(files)])
        data[rng.integers(0, 60)] = rng.integers(0, 256)
        data = data[: rng.integers(1, len(data) + 1)] if trial % 2 else data
        try:
            decode(bytes(data))
            opened += 1
        except UNREADABLE:
            pass
    assert 0 < opened < 600
