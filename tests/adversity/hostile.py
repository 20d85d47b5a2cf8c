"""What the tests of odd input share: the smallest run, and what one sentence is."""

import train_hhcl
from small_runs import SMALL, pairs

SMALLEST = {
    **SMALL,
    "data.height": 32,
    "data.width": 16,
    "data.sources": "['market1501']",
    "data.targets": "['market1501']",
}


def call_train(root, folder, settings):
    """Runs the training tool; its exit code."""
    return train_hhcl.main(["--root", str(root), *pairs({**SMALLEST, "data.save_dir": folder, **settings})])


def assert_one_sentence(code, error, *named):
    """The tool ended with 2 and a sentence that names some things."""
    assert code == 2, error
    lines = [line for line in error.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error and not lines[0].endswith(".")
    for name in named:
        assert str(name) in lines[0], lines[0]
