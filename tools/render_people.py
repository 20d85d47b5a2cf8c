"""Renders people in Market-1501's layout, as a contact sheet, or as footage with tracks: what ``hhcl render`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("render")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
