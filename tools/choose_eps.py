"""Shows what each eps of the clustering gives for the features of a folder's images: what ``hhcl choose-eps`` does."""

import sys

from hhcl_torchreid.commands import load

__all__ = ["main", "parse_arguments"]

command = load("choose-eps")
main, parse_arguments = command.main, command.parse_arguments

if __name__ == "__main__":
    sys.exit(main())
