"""``python -m refnet`` is ``refnet``."""

import sys

from refnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
