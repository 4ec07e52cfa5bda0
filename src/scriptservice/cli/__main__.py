"""``python -m scriptservice.cli``: the command line where its script is not on the path."""

import sys

from scriptservice.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
