"""A hand-over with something in every field; run as a program, this writes the format's file.

Process ids and descriptors are placeholders, since nothing is opened or signalled.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.life.kept_command import KeptCommand, KeptInput
from scriptservice.keeper.life.life import Life, Phase
from scriptservice.keeper.upgrade.handover import FORMAT, encode_state
from scriptservice.keeper.upgrade_state import (
    ChildProcessState,
    ChildSupervisorState,
    EndedIdsState,
    JournalState,
    KeeperState,
    PendingRecord,
    RemovalState,
    ScriptUserState,
    ServiceManagerState,
    SpawnerState,
    TreeState,
    UpgradeState,
)
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind
from scriptservice.server.startup.server_config import ServerConfig

HANDOVERS = Path(__file__).parents[1] / "keeper" / "handovers"

_IDS = [f"018f2d3e-0000-7000-8000-00000000000{number}" for number in range(8)]


def _command(number: int, life: Life, **more: Any) -> KeptCommand:
    return KeptCommand(
        id=_IDS[number],
        life=life._replace(grace_seconds=10.0, leftover_seconds=2.0),
        pid=1000 + number,
        start_ticks=10050,
        pipes=[7001, 7002],
        started=100.5,
        position=12,
        stream_bytes=[0, 7, 5],
        window_bytes=12,
        **more,
    )


def _commands() -> list[KeptCommand]:
    starting = _command(
        4,
        Life(Phase.STARTING, wake_at=101.5, decide_at=101.5, timeout_seconds=60.0),
        handle=26,
        status=27,
        streams=[[28, 1], [29, 2]],
        interpreter="/bin/bash",
        working_directory="/srv",
    )
    running = _command(
        0,
        Life(Phase.RUNNING, timeout_at=160.0, wake_at=160.0),
        handle=20,
        streams=[[21, 1], [22, 2]],
    )
    stopping = _command(
        1,
        Life(Phase.STOPPING, cause="stop", kill_at=110.0, wake_at=110.0),
        handle=23,
        streams=[[24, 1]],
        limit=1000,
        discarded=5,
        discard_news_at=101.0,
    )
    leftovers = _command(
        2,
        Life(Phase.LEFTOVERS, leftover_at=102.5, leftovers_signalled=True, wake_at=102.6),
        leftover_pids=[1010, 1011],
        leftovers_killed=2,
        streams=[[25, 2]],
    )
    removing = _command(
        3,
        Life(Phase.REMOVING, has_private_directory=True, wake_at=112.0),
        private_directory="/data/private/x",
    )
    interactive = _command(
        6,
        Life(Phase.RUNNING),
        handle=30,
        streams=[[31, 1], [32, 2]],
        input=KeptInput(33, accepted=7, ends=True, waiting="d2FpdHM="),
    )
    in_terminal = _command(
        7,
        Life(Phase.RUNNING),
        handle=34,
        streams=[[35, 1]],
        input=KeptInput(36, is_terminal=True, unwritten="aGVsZA=="),
    )
    return [starting, running, stopping, leftovers, removing, interactive, in_terminal]


def complete_state() -> KeeperState:
    """Return a state with something in each of its parts."""
    server = ServerConfig(
        data_dir="/data",
        database="sqlite:////data/scriptservice.db",
        migrate=False,
        start_queued=False,
        host_name="host",
        max_running=None,
        min_free_bytes=8 << 20,
        log_level="info",
        log_format="console",
    )
    config = KeeperConfig(
        data_dir="/data",
        listen_host="127.0.0.1",
        listen_port=8000,
        child_argv=["python", "-I", "-m", "scriptservice.server"],
        child_config=asdict(server),
    )
    return KeeperState(
        config=asdict(config),
        identity={"boot": "boot", "pid_namespace": 4026531836, "pid": 900, "start_ticks": 9000},
        lock=3,
        listener=4,
        spawner=SpawnerState(
            ScriptUserState(59999, 59999, [59999], "59999", None, changes=True), 1024, 4096, True, 6
        ),
        tree=TreeState(
            mode="walk",
            before=[(901, 9001)],
            seen={_IDS[2]: [(1010, 10100)]},
            sessions={_IDS[2]: [1010]},
            owners=[(1011, 10110, _IDS[2])],
        ),
        ledger=JournalState(
            journal="018f2d3e-0000-7000-8000-0000000000ff",
            end=123456,
            recorded=120000,
            pending=[PendingRecord(Kind.EXITED, _IDS[2], {"status": 0}, 12, 1_700_000_000_000_000)],
            told_full=True,
            consumer_acts=True,
        ),
        ended=EndedIdsState([_IDS[4], _IDS[5]], [(123000, _IDS[4])], [_IDS[5]], True),
        child=ChildSupervisorState(
            ChildProcessState(950, 23, 24, 99.0, "AQIDBA==", "", None), 2, 0
        ),
        commands=_commands(),
        waiting=[
            SpawnSpec("018f2d3e-0000-7000-8000-000000000010", "true", ["sh"]).fields(),
            SpawnSpec(
                "018f2d3e-0000-7000-8000-000000000011",
                "true",
                ["sh"],
                interactive=True,
                pty=[24, 80],
            ).fields(),
        ],
        removals=[RemovalState(1020, f"/data/private/{_IDS[3]}", 59999, 59999, [True, False])],
        manager=ServiceManagerState(is_ready=True, owed={"STATUS": "serving, 4 running"}),
        upgrade=UpgradeState(number=1, release="0.1.0", again=False, began_at=98.0),
        notes=["cut off 7 bytes"],
        child_was_ready=True,
        child_serves="serving",
        signals=[1],
    )


if __name__ == "__main__":
    import json

    HANDOVERS.mkdir(exist_ok=True)
    text = json.dumps(json.loads(encode_state(complete_state())), indent=1)
    with (HANDOVERS / f"format-{FORMAT}-input.json").open("x") as file:
        file.write(text + "\n")
