"""``python -m scriptservice.cli``: for machines where ``scriptservice`` is not on the PATH."""

import sys

from scriptservice.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
