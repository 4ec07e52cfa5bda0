"""``python -I -m scriptservice.keeper --config-fd N``: what ``scriptservice serve`` becomes."""

import sys

from scriptservice.keeper.linux import hide_from_ptrace

if __name__ == "__main__":
    # Before anything secret is in this process.
    hide_from_ptrace()

    from scriptservice.keeper.config import KeeperConfig
    from scriptservice.keeper.keeper import main
    from scriptservice.keeper.log import start_logging

    config = KeeperConfig.from_descriptor(int(sys.argv[sys.argv.index("--config-fd") + 1]))
    start_logging(level=config.log_level, form=config.log_format, host=config.host_name)
    sys.exit(main(config))
