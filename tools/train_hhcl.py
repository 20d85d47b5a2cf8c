"""Trains or tests a model: what ``hhcl train`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("train")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
