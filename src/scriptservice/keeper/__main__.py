"""The keeper's program.

- ``--config-fd N`` starts a keeper; ``scriptservice serve`` executes it in this form.
- ``--handover-fd N`` continues a keeper after an upgrade; the keeper executes it in this form.
- ``--check-handover N`` tells whether this program accepts the state of a keeper.
"""

import sys

from scriptservice.protocol.prctl import hide_from_ptrace

if __name__ == "__main__":
    # Call this first, while nothing secret is in the memory of this process.
    hide_from_ptrace()

    import os

    from scriptservice.keeper.config import KeeperConfig
    from scriptservice.keeper.keeper import main, resume
    from scriptservice.keeper.system.keeper_log import start_logging
    from scriptservice.keeper.upgrade.handover import read_state, run_check

    mode, number = sys.argv[1], int(sys.argv[2])
    if mode == "--check-handover":
        sys.exit(run_check(number))
    state = None
    if mode == "--handover-fd":
        state = read_state(number)
        os.close(number)
        config = KeeperConfig(**state.config)
    else:
        config = KeeperConfig.from_descriptor(number)
    start_logging(level=config.log_level, form=config.log_format, host=config.host_name)
    sys.exit(main(config) if state is None else resume(state))
