"""The configuration: every setting is applied as it was meant, or refused in one sentence that names it."""

import inspect
import math
import os
from pathlib import Path

import list_settings
import pytest
import torchreid
import yaml

from hhcl_torchreid import HybridMemory, ImageHHCLEngine, config
from hhcl_torchreid.config import get_default_config, load_config, settings_without_effect
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.evaluation import RetrievalEngine
from hhcl_torchreid.settings import SETTINGS

REPOSITORY = Path(__file__).parents[1]

ODD_TEXTS = [
    *("None", "True", "0", "1", "-1", "7.5", "1e-3", "1e400", "nan", "-inf", "1j", "0x" + "f" * 5000, "1" * 5000),
    *("resnet50", "''", "a\0b", "bad\udcff", "b'x'", "{1}", "{'a': 1}", "[]", "[1]", "(0.4, 0.5, 0.6)", "[None]"),
    *("[[1]]", "['a']", "['a', 1]", "[True]", "['']", "['a\\0']", "[1e400]", "[" * 5000, "-" * 5000, "off"),
]
ODD_VALUES = [None, True, 10**400, 2**40, math.nan, math.inf, "", "a\0b", b"x", {}, [math.nan] * 3, (), {1}, object()]
ODD_YAML = [
    *("", "yes", "off", "-1", "1e-3", "1.5", ".nan", "-.inf", "1" * 5000, "2020-01-01", "2020-13-13", '"1"', '"a\\0b"'),
    *('"\\ud800"', "[]", "[1, 2, 3]", "[0.4, 0.5, 0.6]", "[[1]]", "[a]", "[~]", "{a: 1}", "!!set {a}", "!!int ''"),
    *("!!bool x", "!!timestamp x", "!!binary x", "!x y", "!!python/name:os.getcwd", "&a [*a]", "*a", "1:99:99.9"),
]


def value_of(cfg, key):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def assert_right(key, value):
    """The value is one that the row allows, told apart from how it was checked."""
    row = SETTINGS[key]
    if value is None:
        assert row.optional
        return
    is_list = type(value) is list
    assert is_list == (type(row.default) is list) or (key == "cluster.eps" and len(value) == 3)
    example = row.default[0] if type(row.default) is list else row.default
    for item in value if is_list else [value]:
        assert type(item) is (float if example is None else type(example))
        if type(item) in (int, float):
            assert math.isfinite(item) and abs(item) < 1e309
            assert item >= (-math.inf if row.least is None else row.least)
            assert item <= (math.inf if row.most is None else row.most)
            assert item > (-math.inf if row.above is None else row.above)
            assert item < (math.inf if row.below is None else row.below)
        if type(item) is str:
            assert "\0" not in item and item.encode() is not None
        assert not row.choices or item in row.choices
    assert value or value in (0, False) or row.may_be_empty


def refused_or_right(key, **arguments):
    """Whether the value is accepted; if so, a run's ``config.yaml`` gives it again."""
    try:
        cfg = load_config(**arguments)
    except InputError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1000 and not message.endswith(".")
        assert key in message or "path" in arguments, message
        return None
    assert_right(key, value_of(cfg, key))
    return cfg


@pytest.mark.parametrize("key", SETTINGS)
def test_odd_values_are_refused_or_right(key, tmp_path):
    *sections, name = key.split(".")
    file = tmp_path / "odd.txt"
    accepted = [refused_or_right(key, options=[key, text]) for text in ODD_TEXTS]
    accepted += [refused_or_right(key, overrides={key: value}) for value in ODD_VALUES]
    for value in ODD_YAML:
        file.write_text("".join(f"{section}: {{" for section in sections) + f"{name}: {value}" + "}" * len(sections))
        accepted.append(refused_or_right(key, path=str(file)))
    assert refused_or_right(key, options=[key, repr(SETTINGS[key].default)]) is not None
    for cfg in [cfg for cfg in accepted if cfg is not None][:1]:
        file.write_text(cfg.dump())
        assert load_config(str(file)) == cfg


@pytest.mark.parametrize("key", [key for key in SETTINGS if key not in ("hhcl.hard_weight", "hhcl.centroid_weight")])
def test_nothing_is_no_value(key, tmp_path):
    if key == "model.last_stride":
        assert load_config(options=[key, "None"]).model.last_stride is None
        return
    with pytest.raises(InputError, match=f"{key} is None: give "):
        load_config(options=[key, "None"])


@pytest.mark.parametrize("key", [key for key, row in SETTINGS.items() if row.type in (int, float)])
def test_ranges_end_where_the_table_says(key):
    row = SETTINGS[key]
    step = 1 if row.type is int else 1e-9

    def is_accepted(value):
        try:
            load_config(overrides={key: [value] * 3 if type(row.default) is list else value})
        except InputError:
            return False
        return True

    for limit, outside in ((row.least, -step), (row.most, step)):
        assert limit is None or (is_accepted(limit) and not is_accepted(limit + outside))
    for limit, inside in ((row.above, step), (row.below, -step)):
        assert limit is None or (is_accepted(limit + inside) and not is_accepted(limit))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["train.lr", "0"], "train.lr is 0: give a number above 0"),
        (["train.lr", "fast"], "train.lr is 'fast' (str, not float): give a number above 0"),
        (["data.sources", "market1501"], "data.sources is 'market1501' (str, not list): give a list of names"),
        (["model.dropout", "1"], "model.dropout is 1: give a number, 0 or more and below 1"),
        (["train.seed", "-1"], "train.seed is -1: give a whole number, 0 or more"),
        (
            ["engine.iters", "10_000_000_000"],
            "engine.iters is 10000000000: give at least one step per epoch, 2147483647 at most",
        ),
        (
            ["train.stepsize", "[5, 9876543210]"],
            "train.stepsize is [5, 9876543210]: give a list of whole numbers, 1 or more, 2",
        ),
        (["train.seed", str(2**32)], "train.seed is 4294967296: give a whole number from 0 to 4294967295"),
        (["train.compile", "1"], "train.compile is 1 (int, not bool): give True or False"),
        (["train.max_epoch", "True"], "train.max_epoch is True (bool, not int): give a whole number, 0 or more"),
        (["hhcl.hard_weight", "-1"], "hhcl.hard_weight is -1: give a number, 0 or more or None"),
        (["data.type", "video"], "data.type is 'video': give 'image', which is what HHCL learns from"),
        (["data.norm_std", "[1, 1]"], "data.norm_std is [1, 1]: give three numbers, 1e-06 or more"),
        (["test.ranks", "[]"], "test.ranks is empty: give a list of whole numbers, 1 or more"),
        (
            ["cluster.eps", "[0.5, 0.6]"],
            "cluster.eps is [0.5, 0.6]: give a number from 0 to 1 (both excluded), or three",
        ),
    ],
)
def test_a_sentence_names_the_key_the_value_and_what_to_give(options, sentence):
    with pytest.raises(InputError) as raised:
        load_config(options=options)
    assert str(raised.value).startswith(sentence)


def test_numbers_may_be_whole_and_lists_tuples():
    cfg = load_config(options=["train.lr", "1", "train.stepsize", "(10, 20)", "data.norm_mean", "[0, 0, 0]"])
    assert (type(cfg.train.lr), cfg.train.stepsize, type(cfg.train.stepsize)) == (float, [10, 20], list)
    assert [type(number) for number in cfg.data.norm_mean] == [float] * 3


def test_later_settings_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {seed: 2, max_epoch: 3, print_freq: 4}")
    cfg = load_config(str(file), {"train.max_epoch": 5, "train.print_freq": 6}, ["train.print_freq", "7"])
    assert (cfg.train.seed, cfg.train.max_epoch, cfg.train.print_freq) == (2, 5, 7)


def test_defaults_are_of_their_own():
    get_default_config().data.sources.append("msmt17")
    assert get_default_config().data.sources == ["market1501"]


def deep(open_, close, depth=600):
    return open_ * depth + close * depth


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- a\n- b\n", "no section"),
        ("text", "no section"),
        ("train:\n", "train in"),
        ("train: null\n", "train in"),
        ("train: 3\n", "train in"),
        ("loss: {softmax: [1]}\n", "loss.softmax in"),
        ("1: 2\n", "'1'"),
        ("2020-01-01: 2\n", "'2020-01-01'"),
        ("? [a]\n: 2\n", "unknown configuration key"),
        ("train: {lr: 0.1}\n---\ntrain: {lr: 0.2}\n", "single document"),
        ("train: {seed: 1}\ntrain: {seed: 2}\n", "train stands twice"),
        ("train:\n  lr: 0.1\n  seed: 1\n  lr: 0.1\n", "train.lr stands twice"),
        ("train: {lr: 0.1, lr: 0.2}\n", "lines 1 and 1"),
        ("train: {lr: 0.1}\n\ntrain.lr: 0.2\n", "train.lr stands twice"),
        ("use_gpu: True\n# no\n'use_gpu': False\n", "lines 1 and 3"),
        ("loss:\n  softmax: {label_smooth: True}\n  softmax: {}\n", "loss.softmax stands twice"),
        ("train: {optim: {name: adam}}\n", "train.optim in"),
        ("train: &t {optim: *t}\n", "train.optim in"),
        ("data: {sources: &s [*s]}\n", "data.sources in"),
        ("loss: &l {softmax: *l}\n", "loss.softmax.softmax"),
        (LAUGHS + "data: {sources: *i}\n", "'a'"),
        ("data:\n  sources: " + LAUGHS.split("\n")[0][3:] + "\n  targets: [*a, *a]\n", "data.targets in"),
        (MERGES, "'a'"),
        ("train: {<<: {lr: 0.1}}\n", "train.<<"),
        (deep("[", "]"), "too deep"),
        (deep("{a: ", "}"), "too deep"),
        ("- " * 600, "too deep"),
        ("x" * 100_001, "100000 bytes"),
        ("# " + "x" * 10**7, "100000 bytes"),
        (b"train: {optim: '\xff'}", "UTF-8"),
        ("train: {lr: 0.1}".encode("utf-16"), "UTF-8"),
        ("\x00", "special characters"),
        ("\x07", "special characters"),
        ("%YAML 9.0\n---\n", "version"),
        ("train: {lr: [}", "cannot read"),
        ("cfg = {}", "no section"),
        ("!!python/object/apply:os.system ['false']", "no section"),
    ],
    ids=range(37),
)
def test_files_that_hold_no_settings(tmp_path, content, named):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as raised:
        load_config(str(file))
    assert named in str(raised.value) and len(str(raised.value)) < 1000


@pytest.mark.parametrize("suffix", ["yaml", "yml", "py", "txt"])
def test_any_suffix_is_yaml_and_none_is_run(tmp_path, suffix):
    file = tmp_path / f"mine.{suffix}"
    file.write_text("train: {seed: 5}")
    assert load_config(str(file)).train.seed == 5
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ncfg = {{}}")
    with pytest.raises(InputError, match=r"mine\."):
        load_config(str(file))
    assert not (tmp_path / "ran").exists()


def test_a_file_without_settings_changes_nothing(tmp_path):
    for content in ("", "# nothing yet\n", "\ufeff"):
        (tmp_path / "mine.yaml").write_text(content, encoding="utf-8")
        assert load_config(str(tmp_path / "mine.yaml")) == get_default_config()


def test_a_list_of_two_settings_may_be_one_in_the_file(tmp_path):
    names = ["market1501", "msmt17"]
    text = yaml.safe_dump({"data": {"sources": names, "targets": names}})
    assert "&" in text and "*" in text
    (tmp_path / "mine.yaml").write_text(text)
    assert load_config(str(tmp_path / "mine.yaml")).data.targets == names


def test_only_ordinary_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "zero", "folder", "nowhere", "nul\0"):
        with pytest.raises(InputError, match="no configuration file"):
            load_config(str(tmp_path / f"{name}.yaml"))


def test_unknown_keys_are_refused_wherever_they_stand(tmp_path):
    (tmp_path / "mine.yaml").write_text("cluster: {epss: 0.5}")
    for arguments in (
        {"path": str(tmp_path / "mine.yaml")},
        {"overrides": {"cluster.epss": 0.5}},
        {"options": ["cluster.epss", "0.5"]},
    ):
        with pytest.raises(InputError, match=r"cluster\.epss.*did you mean cluster\.eps"):
            load_config(**arguments)
    for key in ("train", "", "data.", "x" * 10**6, "loss.softmax", "cluster.eps.x"):
        with pytest.raises(InputError, match="unknown configuration key"):
            load_config(options=[key, "1"])


def test_settings_that_do_nothing_are_named():
    assert settings_without_effect(load_config()) == []
    options = ["loss.name", "triplet", "video.seq_len", "8", "sampler.num_cams", "2", "data.load_train_targets", "True"]
    names = ["data.load_train_targets", "video.seq_len", "sampler.num_cams", "loss.name"]
    assert settings_without_effect(load_config(options=options)) == names


@pytest.mark.parametrize(
    ("options", "switch"),
    [
        (["sgd.momentum", "0.8"], ["train.optim", "rmsprop"]),
        (["sgd.nesterov", "True"], ["train.optim", "sgd"]),
        (["adam.beta1", "0.8"], None),
        (["train.open_layers", "['backbone']"], ["train.fixbase_epoch", "2"]),
        (["train.base_lr_mult", "0.5"], ["train.staged_lr", "True"]),
        (["hhcl.camera_negatives", "5"], ["hhcl.camera_proxy", "0.5"]),
        (["test.visrank_topk", "5"], ["test.visrank", "True"]),
    ],
    ids=lambda value: value and value[0],
)
def test_settings_of_what_is_switched_off_are_named(options, switch):
    if switch:
        assert settings_without_effect(load_config(options=options)) == options[:1]
    assert settings_without_effect(load_config(options=[*options, *(switch or [])])) == []


def names_of(*functions):
    """All that functions take by name; the later ones what the first hands on to them."""
    parameters = [parameter for function in functions for parameter in inspect.signature(function).parameters.values()]
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD} - {"self"}


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        (
            config.engine_kwargs,
            names_of(ImageHHCLEngine, HybridMemory)
            - {"datamanager", "model", "optimizer", "scheduler", "labeler", "labels", "num_clusters", "num_features"},
        ),
        (
            config.engine_run_kwargs,
            names_of(ImageHHCLEngine.run, RetrievalEngine.test, torchreid.engine.Engine.test) - {"callbacks"},
        ),
        (config.imagedata_kwargs, names_of(torchreid.data.ImageDataManager) - {"k_tfm"}),
        (config.optimizer_kwargs, names_of(torchreid.optim.build_optimizer) - {"model"}),
        (config.lr_scheduler_kwargs, names_of(torchreid.optim.build_lr_scheduler) - {"optimizer"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_arguments_are_complete(arguments, taken):
    assert set(arguments(load_config())) == taken


def test_arguments_of_the_engine_are_those_of_the_configuration():
    options = ["cluster.k2", "2", "hhcl.mode", "hard", "train.seed", "9"]
    given = config.engine_kwargs(load_config(options=options))
    assert (given["mode"], given["seed"]) == ("hard", 9)
    assert yaml.safe_load(given["description"]["config"])["cluster"]["k2"] == 2


def test_every_configuration_that_comes_along_loads():
    files = sorted((REPOSITORY / "configs").glob("*.yaml"))
    assert len(files) >= 12
    for file in files:
        load_config(str(file))


def test_the_papers_settings():
    cfg = load_config(str(REPOSITORY / "configs" / "hhcl_r50_market.yaml"))
    assert (cfg.model.name, cfg.model.pooling, cfg.model.last_stride) == ("resnet50", "avg", 1)
    assert (cfg.data.height, cfg.data.width) == (256, 128)
    assert (cfg.train.batch_size, cfg.sampler.num_instances, cfg.engine.iters) == (256, 16, 200)
    assert (cfg.train.max_epoch, cfg.train.stepsize, cfg.train.gamma) == (60, [20], 0.1)
    assert (cfg.train.optim, cfg.train.lr, cfg.train.weight_decay) == ("adam", 0.00035, 0.0005)
    assert (cfg.cluster.eps, cfg.cluster.min_samples, cfg.cluster.k1, cfg.cluster.k2) == (0.45, 4, 30, 6)
    assert (cfg.hhcl.mode, cfg.hhcl.temperature, cfg.hhcl.momentum) == ("hybrid", 0.05, 0.1)
    assert (cfg.train.seed, cfg.train.bn_groups, cfg.test.eval_freq) == (1, 4, 10)


def test_eps_may_be_a_number_or_a_list():
    assert load_config(options=["cluster.eps", "0.6"]).cluster.eps == 0.6
    assert load_config(options=["cluster.eps", "[0.4, 0.45, 0.5]"]).cluster.eps == [0.4, 0.45, 0.5]
    assert load_config().cluster.eps == get_default_config().cluster.eps == 0.45


def test_off_needs_no_quotes_in_yaml_and_survives_being_written(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data:\n  cache: off\ntrain:\n  amp: off\n")
    cfg = load_config(str(file))
    assert (cfg.data.cache, cfg.train.amp) == ("off", "off")
    file.write_text(cfg.dump())
    assert load_config(str(file)).train.amp == "off"
    assert load_config(options=["train.amp", "off"]).train.amp == "off"
    assert load_config().train.amp == "auto"


def test_the_page_of_settings_is_up_to_date():
    assert (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8") == list_settings.table()


@pytest.mark.parametrize("others", [[], ["train.seed", "2"]])
def test_a_key_and_its_value_in_one_word(others):
    for options in (["train.lr=0.1", *others], [*others, "train.lr=0.1", "train.seed=3"]):
        with pytest.raises(InputError, match=r"'train.lr=0.1' on the command line is one word: write train.lr '0.1'"):
            load_config(options=options)
    assert load_config(options=["data.root", "train.lr=0.1"]).data.root == "train.lr=0.1"
