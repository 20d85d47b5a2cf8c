"""The configuration inside a checkpoint."""

import pytest
import yaml

from hhcl_torchreid.checkpoint import configuration_in
from hhcl_torchreid.config import get_default_config, load_config
from hhcl_torchreid.errors import InputError


def test_what_was_dumped_comes_back():
    cfg = load_config(overrides={"model.pooling": "gem", "cluster.eps": [0.4, 0.5, 0.6], "train.amp": "off"})
    assert configuration_in({"config": cfg.dump()}, "model.pth") == cfg


def test_the_rest_is_default_and_unknown_keys_do_not_matter():
    text = yaml.safe_dump({"data": {"height": 64, "colour": "red"}, "weather": {"rain": True}, 3: 4})
    expected = get_default_config()
    expected.data.height = 64
    assert configuration_in({"config": text}, "model.pth") == expected


@pytest.mark.parametrize("checkpoint", [{}, {"config": {"model": {"name": "resnet18"}}}, {"config": None}])
def test_a_checkpoint_without_one(checkpoint):
    assert configuration_in(checkpoint, "model.pth") is None


@pytest.mark.parametrize(
    "text",
    ["", "text", "model: [", "model: 3", "- model", "a: 2001-99-99", "&a [*a]", "[" * 5000, "!!python/name:os.system"],
)
def test_one_that_is_none_is_a_sentence(text):
    with pytest.raises(InputError, match=r"^the configuration in model\.pth cannot be read .*train_hhcl\.py wrote$"):
        configuration_in({"config": text}, "model.pth")
