"""The door of labels: what a labeler is given, how one is found by its name, and what stands around all of them."""

import pytest
import torch

from hhcl_torchreid import PseudoLabeler, get_default_config, register_labeler
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels import LABELERS, Images, TrueLabels, build_labeler
from hhcl_torchreid.labels.epoch import label_epoch

IMAGES = Images.of_records([(f"{number}.jpg", 7, number % 2, 0) for number in range(6)])


class Fixed:
    def __init__(self, labels):
        self.labels, self.settings = torch.tensor(labels), {"size": 3}

    def __call__(self, features, images=None):
        return self.labels


@pytest.fixture
def fixed():
    register_labeler("fixed", lambda cfg: Fixed([0] * cfg.cluster.k1))
    yield
    del LABELERS["fixed"]


def test_cameras_of_one_data_set_keep_their_numbers_and_of_two_stay_apart():
    one = Images.of_records([("a", 0, 7, 0), ("b", 1, 3, 0)])
    assert one.cameras.tolist() == [7, 3] and one.datasets.tolist() == [0, 0]
    two = Images.of_records([("a", 0, 7, 0), ("b", 1, 7, 1), ("c", 1, 3, 1), ("d", 1, 7, 1), ("e", 2, -1, 1)])
    cameras = two.cameras.tolist()
    assert cameras[1] == cameras[3] and len({cameras[0], cameras[1], cameras[2], cameras[4]}) == 4
    assert cameras[4] == -1
    assert two.tracks.tolist() == two.frames.tolist() == [-1] * 5
    assert not hasattr(two, "identities")


def test_a_labeler_is_built_by_its_name(fixed):
    cfg = get_default_config()
    cfg.cluster.k1 = 5
    assert build_labeler("fixed", cfg)(torch.zeros(5, 2)).tolist() == [0] * 5
    assert build_labeler("clusters", cfg).settings == {"eps": (0.45,), "min_samples": 4, "k1": 5, "k2": 6}
    with pytest.raises(InputError, match=r"'fixd': choose one of .*fixed"):
        build_labeler("fixd", cfg)
    with pytest.raises(InputError, match="there is a labeler 'fixed' already"):
        register_labeler("fixed", PseudoLabeler)


def test_true_labels_number_the_identities_they_are_handed():
    labeler = TrueLabels()
    labeler.learn_from([40, 7, 7, 40, 9])
    assert labeler(torch.zeros(5, 2)).tolist() == [2, 0, 0, 2, 1]
    with pytest.raises(InputError, match="2 training images have no true label"):
        labeler.learn_from([1, -1, -5])


def test_what_is_found_is_counted_for_every_labeler():
    labels, found, sizes = label_epoch(Fixed([0, 1, 1, -1, 1, 0]), torch.zeros(6, 2), IMAGES, 1, None)
    assert sizes == {"clusters": 2, "outliers": 1, "largest_cluster": 3}
    assert torch.equal(labels, found)


@pytest.mark.parametrize(("labels", "found"), [([-1] * 6, "no cluster"), ([0] * 6, "a single cluster")])
def test_without_two_clusters_the_labels_before_serve_or_the_run_ends(labels, found):
    before = torch.tensor([0, 0, 0, 1, 1, 1])
    epoch = label_epoch(Fixed(labels), torch.zeros(6, 2), IMAGES, 2, before)
    assert torch.equal(epoch.labels, before) and epoch.found.tolist() == labels
    with pytest.raises(InputError, match=rf"epoch 3 found {found} in 6 images: change the settings .*'size': 3"):
        label_epoch(Fixed(labels), torch.zeros(6, 2), IMAGES, 3, None)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"eps": 0.0}, "cluster.eps is 0.0"),
        ({"eps": 1.0}, "cluster.eps is 1.0"),
        ({"eps": [0.4, 0.5]}, r"cluster.eps is \[0.4, 0.5\]"),
        ({"min_samples": 0}, "cluster.min_samples is 0"),
        ({"k1": 0}, "cluster.k1 is 0"),
        ({"k2": 1.5}, "cluster.k2 is 1.5"),
        ({"knn": "nope"}, "cluster.knn is 'nope'"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_work(settings, named):
    with pytest.raises(InputError, match=named):
        PseudoLabeler(**settings)
