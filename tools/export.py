"""Writes a trained model for other programs: what ``hhcl export`` does."""

import sys

from hhcl_torchreid.commands.export import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
