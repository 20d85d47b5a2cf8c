"""Shows what each eps of the clustering gives for the features of a folder's images: what ``hhcl choose-eps`` does."""

import sys

from hhcl_torchreid.commands.choose_eps import main, parse_arguments

__all__ = ["main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
