"""A run goes on with the settings that it began with: a changed one is applied, refused or named."""

import pytest
from hostile import assert_one_sentence, call_train

from hhcl_torchreid.checkpoint import check_settings
from hhcl_torchreid.config import get_default_config, get_value, load_config, settings_without_effect
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.settings import SETTINGS

APPLIED = {
    *("use_gpu", "model.resume", "data.root", "data.save_dir", "data.workers", "data.cache", "train.max_epoch"),
    *("train.print_freq", "train.compile", "cuhk03.use_metric_cuhk03"),
}
OTHERS = [
    "other",
    "sgd",
    "cosine",
    "off",
    "ram",
    "bf16",
    "hard",
    "entropy",
    "identities",
    "cosine",
    "RandomDomainSampler",
]
OTHERS += [["other"], [0.25, 0.5, 0.75], [7], 3, 0.5, 0, 1, True, False]


def another_value(key):
    """A value that the table allows and that is not the default."""
    for value in OTHERS:
        try:
            cfg = load_config(overrides={key: value})
        except InputError:
            continue
        if get_value(cfg, key) != get_value(get_default_config(), key):
            return get_value(cfg, key)
    return None


@pytest.mark.parametrize("key", SETTINGS)
def test_every_changed_setting_is_applied_refused_or_named(key):
    value = another_value(key)
    if value is None:
        assert key in ("data.type", "data.k_tfm")  # there is no other value
        return
    began, now = get_default_config(), load_config(overrides={key: value})
    checkpoint = {"config": began.dump()}
    if key in ("model.pretrained", "model.load_weights"):
        assert check_settings(checkpoint, "last.pth", now) == {key: get_value(began, key)}
    elif key in APPLIED or key.startswith("test.") or key in settings_without_effect(now):
        assert check_settings(checkpoint, "last.pth", now) == {}
    else:
        with pytest.raises(InputError) as raised:
            check_settings(checkpoint, "last.pth", now)
        for part in (
            f"last.pth is of a run with {key} {get_value(began, key)!r} (now {value!r})",
            "model.load_weights",
        ):
            assert part in str(raised.value)


def test_what_is_switched_off_may_change_and_the_length_of_a_cosine_may_not():
    began = load_config(options=["sgd.momentum", "0.8", "train.lr_scheduler", "cosine"])
    same = load_config(options=["train.lr_scheduler", "cosine"])
    assert check_settings({"config": began.dump()}, "last.pth", same) == {}
    longer = load_config(options=["train.lr_scheduler", "cosine", "train.max_epoch", "70"])
    with pytest.raises(InputError, match=r"train.max_epoch 60 \(now 70\)"):
        check_settings({"config": began.dump()}, "last.pth", longer)


def test_a_test_may_be_of_another_data_set():
    cfg = load_config(options=["data.targets", "['msmt17']", "test.evaluate", "True"])
    assert check_settings({"config": get_default_config().dump()}, "last.pth", cfg) == {}


def test_settings_of_another_version_are_named(caplog):
    began = get_default_config().dump() + "future: {x: 3}\n"
    began = began.replace("cluster:\n", "cluster:\n  colour: red\n")
    assert check_settings({"config": began}, "last.pth", get_default_config()) == {}
    assert "last.pth is of another version" in caplog.text and "'cluster.colour, future'" in caplog.text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"train.lr": 0.00001, "model.pooling": "max"},
            ["train.lr 0.00035 (now 1e-05)", "model.pooling 'avg' (now 'max')"],
        ),
        ({"data.height": 48}, ["data.height 32 (now 48)"]),
        ({"train.staged_lr": True}, ["train.staged_lr False (now True)"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_run_with_other_settings_does_not_go_on(finished_run, data_root, capsys, settings, named):
    before = {
        path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file() and ".log-" not in path.name
    }
    settings = {"model.resume": "auto", "train.max_epoch": 2, **settings}
    code = call_train(data_root, finished_run, settings)
    assert_one_sentence(code, capsys.readouterr().err, *named)
    after = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file() and ".log-" not in path.name}
    assert {path.name for path in before if before[path] != after[path]} <= {".owner"}


def test_what_a_run_began_from_is_not_asked_for_again(finished_run, data_root, capsys):
    settings = {"model.resume": "auto", "model.load_weights": "gone.pth", "model.pretrained": True, "test.ranks": "[1]"}
    assert call_train(data_root, finished_run, settings) == 0
    assert (
        "The run began with model.load_weights '': 'gone.pth' has no effect on it any more" in capsys.readouterr().out
    )
    assert load_config(str(finished_run / "config.yaml")).model.load_weights == ""
