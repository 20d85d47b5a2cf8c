"""Writes a trained model for other programs: what ``hhcl export`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("export")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
