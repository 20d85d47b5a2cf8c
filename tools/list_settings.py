"""Lists every configuration key, as the table of docs/configuration.md: ``python tools/list_settings.py``."""

import argparse
import sys

from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.files import replacing
from hhcl_torchreid.settings import SETTINGS

INTRODUCTION = """\
# Configuration

A YAML file (`--config-file`) is read over the defaults below, then `KEY VALUE` pairs on the command line over both:

    python tools/train_hhcl.py --config-file configs/hhcl_r50_market.yaml --root DIR cluster.eps 0.5 train.seed 2

Keys that torchreid has keep its names and meanings, so its own files load; where nothing is said about one, see
torchreid. This table is written by `python tools/list_settings.py`.

| key | default | values | meaning |
|---|---|---|---|
"""


def table() -> str:
    """The page."""
    lines = []
    for key, setting in SETTINGS.items():
        meaning = "; ".join(filter(None, [setting.comment, "" if setting.has_effect else "no effect on HHCL"]))
        lines.append(f"| `{key}` | `{setting.default!r}` | {setting.describe_values()} | {meaning} |\n")
    return INTRODUCTION + "".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="docs/configuration.md")
    output = parser.parse_args(arguments).output
    return run_tool(lambda: write(output))


def write(output: str) -> None:
    """Writes the page to a file."""
    with replacing(output, option="--output") as file:
        file.write(table())


if __name__ == "__main__":
    sys.exit(main())
