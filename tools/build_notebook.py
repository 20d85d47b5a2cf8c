"""Makes a notebook of an example whose cells are marked ``# %%``: ``python tools/build_notebook.py``."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.files import replacing

EXAMPLE, NOTEBOOK = Path("tests/examples/first_steps.py"), Path("docs/notebooks/first_steps.ipynb")


def notebook(source: str) -> str:
    """Gives the notebook, nbformat 4.4 as JSON, without outputs; the same source gives the same bytes.

    Args:
        source: cells of code, each below a line ``# %%``, and of text, each line a comment, below ``# %% [markdown]``.

    Raises:
        InputError: something stands above the first cell.
    """
    above, *parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)
    if above.strip() or not parts:
        raise InputError("the example does not begin with a cell: put '# %%' or '# %% [markdown]' above its first line")
    cells = [_cell(kind.strip(), text.strip("\n")) for kind, text in zip(parts[::2], parts[1::2], strict=True)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    made = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str) -> dict[str, Any]:
    if kind == "[markdown]":
        lines = re.sub(r"^# ?", "", text, flags=re.MULTILINE).splitlines(keepends=True)
        return {"cell_type": "markdown", "metadata": {}, "source": lines}
    lines = text.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


def main(arguments: list[str] | None = None) -> int:
    """Writes the notebook; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    return run_tool(write)


def write() -> None:
    """Writes the notebook to its place in a checkout."""
    made = notebook(EXAMPLE.read_text(encoding="utf-8"))
    NOTEBOOK.parent.mkdir(exist_ok=True)
    with replacing(NOTEBOOK) as file:
        file.write(made)


if __name__ == "__main__":
    sys.exit(main())
