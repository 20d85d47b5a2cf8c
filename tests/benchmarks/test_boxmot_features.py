import boxmot_features as benchmark
import numpy as np
from PIL import Image


def test_a_picture_has_its_crops_where_it_says(tmp_path):
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (*size, 3), np.uint8) for size in ((20, 10), (16, 12), (30, 5))]
    benchmark.write_picture([Image.fromarray(array) for array in arrays], tmp_path, "0")
    picture = np.asarray(Image.open(tmp_path / "0.png"))
    for array, (left, top, right, bottom) in zip(arrays, np.load(tmp_path / "0.npy").astype(int), strict=True):
        np.testing.assert_array_equal(picture[top:bottom, left:right], array)


def test_a_cell_has_least_and_mean_cosine():
    ours = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert benchmark.cell([[1.0, 0.0], [0.8, 0.6]], ours) == "0.6000 (0.8000)"
