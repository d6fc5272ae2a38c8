"""`python -m madlab`, the same as `madlab`."""

import sys

from madlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
