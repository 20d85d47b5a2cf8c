"""``python -m hhcl_torchreid`` is the command ``hhcl``."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
