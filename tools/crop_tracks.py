"""Cuts the people that a tracker has found out of a video: what ``hhcl crop-tracks`` does."""

import sys

from hhcl_torchreid.commands.crop_tracks import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
