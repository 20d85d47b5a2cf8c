"""Gives every image of a folder an identity, without training: what ``hhcl assign`` does."""

import sys

from hhcl_torchreid.commands.assign import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
