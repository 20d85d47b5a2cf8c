"""The README's Python example runs, word for word but for the size of the data and the model."""

import re
from pathlib import Path

from hhcl_torchreid.commands import COMMANDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

SMALLER = {
    'root="reid-data"': "root={root!r}, height=64, width=32, workers=0",
    "batch_size_train=256": "batch_size_train=32",
    '"resnet50"': '"shufflenet_v2_x0_5", pretrained=False',
    "bn_groups=4": "bn_groups=2, num_instances=4, iters=2",
    '"log/hhcl"': "{log!r}",
    "max_epoch=60": "max_epoch=1",
}


def test_the_python_example_runs(data_root, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for ours, smaller in SMALLER.items():
        assert ours in example
        example = example.replace(ours, smaller.format(root=str(data_root), log=str(tmp_path)))
    assert len(example.strip().splitlines()) <= 10
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "metrics.csv").exists()
    assert (tmp_path / "model" / "model-last.pth.tar").exists()


def test_every_configuration_that_readme_and_usage_name_exists():
    root = Path(__file__).parents[2]
    names = re.findall(r"`(\w+\.yaml)`", README + (root / "docs" / "usage.md").read_text(encoding="utf-8"))
    assert set(names) - {"config.yaml"} == {path.name for path in (root / "configs").glob("*.yaml")}


def test_usage_has_a_row_for_each_command():
    usage = (Path(__file__).parents[2] / "docs" / "usage.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `hhcl ([a-z-]+)` \|", usage, re.MULTILINE)) == sorted(COMMANDS)
