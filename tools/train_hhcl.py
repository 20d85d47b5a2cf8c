"""Trains or tests a model: what ``hhcl train`` does."""

import sys

from hhcl_torchreid.commands.train import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
