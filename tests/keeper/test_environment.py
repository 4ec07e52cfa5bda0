"""The environment of a process, in which the keeper finds the command of an orphan."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scriptservice.keeper.system.linux import environment_value, process_environment, process_stat
from support.service import eventually

READS = 1000
SEEN_UNDECIDED = 10  # As a rule some hundreds of reads are enough.
EXECS = 'exec /bin/bash -c "$PROGRAM"'
FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(3600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""

COVERS_IT = """
import ctypes, mmap, sys, time
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
page = ctypes.c_void_p(int(fields[47]) // 4096 * 4096)
program = open(sys.executable)
flags = mmap.MAP_PRIVATE | 0x10  # MAP_FIXED
ctypes.CDLL(None).mmap(page, 4096, mmap.PROT_READ, flags, program.fileno(), 0)
time.sleep(3600)
"""

Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program and return its process id; it is killed after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*program: str, **variables: str) -> int:
        started.append(subprocess.Popen(program, env=variables))
        return started[-1].pid

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_a_variable_is_found_by_its_whole_name(start: Start) -> None:
    pid = start("/bin/sleep", "3600", MARK="here", OTHER="there")
    found = eventually(lambda: process_environment(pid), "its environment")
    assert environment_value(found, b"MARK") == b"here"
    assert environment_value(found, b"ARK") is None
    assert environment_value(found, b"here") is None


def test_a_variable_is_found_while_bash_reads_it() -> None:
    assert environment_value(b"A=1\0MARK\0here\0B=2\0", b"MARK") == b"here"
    assert environment_value(b"A\x001\0MARK=here\0B=2\0", b"MARK") == b"here"


def test_an_environment_without_variables_is_empty(start: Start) -> None:
    pid = start("/bin/sleep", "3600")
    eventually(lambda: process_environment(pid) == b"", "an environment without a variable")


def test_a_process_that_is_gone_has_an_empty_one(start: Start) -> None:
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()
        assert process_environment(ended.pid) == b""


def test_it_is_never_read_as_empty_during_an_exec(start: Start) -> None:
    pid = start("/bin/bash", "-c", EXECS, PROGRAM=EXECS, MARK="here")
    eventually(lambda: b"MARK=here" in (process_environment(pid) or b""), "the first exec")
    undecided = 0

    def all_seen() -> bool:
        nonlocal undecided
        for _ in range(READS):
            found = process_environment(pid)
            undecided += found is None
            assert found is None or environment_value(found, b"MARK") == b"here"
        return undecided >= SEEN_UNDECIDED

    eventually(all_seen, "some reads that fall into an exec")


@pytest.mark.needs_root
def test_it_is_read_after_the_first_thread_has_ended(start: Start) -> None:
    pid = start(sys.executable, "-c", FIRST_THREAD_ENDS, MARK="here")

    def without_its_first() -> bool:
        stat = process_stat(pid)
        return stat is not None and stat.dead

    eventually(without_its_first, "its first thread to end")
    assert environment_value(process_environment(pid) or b"", b"MARK") == b"here"


def test_one_that_was_unmapped_is_empty(start: Start) -> None:
    pid = start(sys.executable, "-c", COVERS_IT, MARK="here" * 2000)
    eventually(lambda: process_environment(pid) == b"", "its environment to be gone")
