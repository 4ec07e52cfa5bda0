"""Submitting commands: what is taken, what is refused, and what comes of it."""

from support.service import Service


def test_a_script_runs_and_its_output_and_exit_code_are_kept(service: Service) -> None:
    command = service.run("echo hello; echo oops >&2; exit 3")
    assert command["status"] == "failed"
    assert command["exit_code"] == 3
    assert command["reason"] == "it exited with code 3"
    assert service.bytes_of(command["id"], stream="stdout") == b"hello\n"
    assert service.bytes_of(command["id"], stream="stderr") == b"oops\n"
    assert command["output"] == {
        "bytes": 11,
        "stdout_bytes": 6,
        "stderr_bytes": 5,
        "discarded_bytes": 0,
    }
