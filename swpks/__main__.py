"""`python -m swpks` is the `swpks` command."""

import sys

from swpks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
