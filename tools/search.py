"""Ranks the images of a folder by their similarity to query images: what ``hhcl search`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("search")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
