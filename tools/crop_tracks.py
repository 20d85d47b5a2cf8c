"""Cuts the people that a tracker has found out of a video: what ``hhcl crop-tracks`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("crop-tracks")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
