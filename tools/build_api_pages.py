"""Builds the pages of the programming interface from the docstrings: ``python tools/build_api_pages.py --out site``."""

import argparse
import sys
import warnings
from pathlib import Path

import hhcl_torchreid
from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.errors import InputError

ROOMS = ("clustering", "data", "evaluation", "export", "features", "footage", "identities", "labels", "memory")
MODULES = ("hhcl_torchreid", *(f"hhcl_torchreid.{room}" for room in (*ROOMS, "models", "rendering", "search")))


def main(arguments: list[str] | None = None) -> int:
    """Builds the pages; the exit code is that of :func:`hhcl_torchreid.cli.run_tool`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("site"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    return run_tool(lambda: build(options.out))


def build(out: Path) -> None:
    """Writes a static site.

    Raises:
        InputError: pdoc is not there, or has something to warn of.
    """
    try:
        import pdoc
    except ImportError as error:
        raise InputError(f"{error}: install the pages' dependencies, pip install -e '.[docs]'") from None
    for name in hhcl_torchreid.__all__:
        getattr(hhcl_torchreid, name)  # pdoc looks at what has been imported
    pdoc.render.configure(docformat="google", math=False, show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pdoc.pdoc(*MODULES, output_directory=out)
        except UserWarning as warning:
            raise InputError(f"pdoc warns: {warning}; mend the docstring") from None
    print(f"Wrote {out / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
