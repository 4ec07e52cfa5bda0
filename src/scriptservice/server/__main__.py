"""``python -I -m scriptservice.server``: the keeper's child; its arguments are descriptors."""

import sys

from scriptservice.keeper.linux import hide_from_ptrace

if __name__ == "__main__":
    # Before anything secret is in this process.
    hide_from_ptrace()

    from scriptservice.server.process import main

    numbers = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    sys.exit(
        main(
            keeper=numbers["--keeper-fd"],
            listener=numbers["--listen-fd"],
            config=numbers["--config-fd"],
        )
    )
