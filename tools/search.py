"""Ranks the images of a folder by their similarity to query images: what ``hhcl search`` does."""

import sys

from hhcl_torchreid.commands.search import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
