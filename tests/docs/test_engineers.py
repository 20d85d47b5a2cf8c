"""What docs/engineers.md says that the program says, it says; its script runs on features."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels import label_epoch

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "engineers.md").read_text(encoding="utf-8")


class Collapsed:
    """Finds the same everywhere."""

    def __init__(self, label):
        self.label = label
        self.settings = {"eps": 0.5, "min_samples": 4}

    def __call__(self, features, images=None):
        return torch.full((len(features),), self.label)


def test_every_message_is_one_of_the_program():
    files = (REPOSITORY / "hhcl_torchreid").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    # As printed: strings that are written in parts are one, and what they name is left open.
    said = re.sub(r'"\s*\n\s*f?"', "", text)
    for label in (0, -1):
        with pytest.raises(InputError) as error:
            label_epoch(Collapsed(label), torch.eye(3), None, 1, None)
        said += str(error.value)
    cells = re.findall(r"^\| ([^|]*)\|", PAGE.split("## When it fails")[1], re.MULTILINE)
    messages = [quoted for quoted in re.findall(r"`([^`]*)`", " ".join(cells)) if " " in quoted]
    assert len(messages) >= 10
    for message in messages:
        fragments = [part.strip() for part in message.split("…") if part.strip()]
        assert all(fragment in said for fragment in fragments), message


def test_the_script_counts_features_of_a_folder(tmp_path, monkeypatch, capsys):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    folder = tmp_path / "log" / "crops" / "identities"
    folder.mkdir(parents=True)
    people = np.repeat(np.arange(12), 16)
    points = torch.eye(16)[people] + 0.05 * torch.randn(len(people), 16)
    features = torch.nn.functional.normalize(points, dim=1).numpy()
    np.savez(folder / "features.npz", features=features, paths=[f"{number:04d}_c1.jpg" for number in people])
    monkeypatch.chdir(tmp_path)
    exec(compile(script.replace("range(5)", "range(1)"), "engineers.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14 and lines[-1] == "16 4 1.00 0%"
