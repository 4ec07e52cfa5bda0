"""Which program runs a script: the interpreter field, else the script's first line, else bash."""

from collections.abc import Iterator

import pytest

from support.service import Service, running_service


@pytest.fixture(scope="module", params=["--use-launcher", "--no-use-launcher"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with each way to start scripts."""
    with running_service(request.param) as running:
        yield running


def output(service: Service, script: str, **fields: object) -> str:
    command = service.run(script, **fields)
    assert command["status"] == "succeeded", command
    return service.bytes_of(command["id"]).decode()


def failure(service: Service, script: str, **fields: object) -> str:
    """Return the reason why a script could not be started; assert that nothing ran."""
    command = service.run(script, **fields)
    assert command["status"] == "failed"
    assert command["output"]["bytes"] == 0
    for name in ("started_at", "exited_at", "exit_code", "signal"):
        assert command[name] is None, command
    assert command["finished_at"]
    return str(command["reason"])


def test_bash_is_the_default(service: Service) -> None:
    assert output(service, 'echo "${BASH_VERSION:+bash}"') == "bash\n"
    assert service.submit("true")["interpreter"] == ["/bin/bash"]


def test_the_first_line_names_another_interpreter(service: Service) -> None:
    script = "#!/usr/bin/python3\nimport sys\nprint(sys.argv[1:], sys.version_info.major)\n"
    command = service.submit(script, args=["a b", "c"])
    assert command["interpreter"] == ["/usr/bin/python3"]
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"['a b', 'c'] 3\n"


def test_perl_runs_a_script_with_arguments(service: Service) -> None:
    script = '#!/usr/bin/perl -w\nprint "perl @ARGV\\n";\n'
    assert output(service, script, args=["x", "y"]) == "perl x y\n"


def test_everything_after_the_interpreter_is_one_argument(service: Service) -> None:
    command = service.submit("#!/bin/echo  -n one  two \t\nignored\n", args=["arg"])
    assert command["interpreter"] == ["/bin/echo", "-n one  two"]
    service.wait(command["id"])
    assert service.bytes_of(command["id"]) == b"-n one  two /dev/fd/63 arg\n"


def test_env_splits_its_arguments(service: Service) -> None:
    script = "#!/usr/bin/env -S python3 -u -O\nprint(__debug__)\n"
    assert output(service, script) == "False\n"


def test_env_finds_the_interpreter_on_the_path(service: Service) -> None:
    assert output(service, "#!/usr/bin/env bash\necho found\n") == "found\n"


def test_a_blank_first_line_is_bash(service: Service) -> None:
    for line in ("#!", "#! ", "#!\t \t"):
        assert output(service, f"{line}\necho bash\n") == "bash\n"
        assert service.submit(f"{line}\n")["interpreter"] == ["/bin/bash"]


def test_blanks_before_the_interpreter_do_not_count(service: Service) -> None:
    assert output(service, "#! \t/bin/bash\t-e\nfalse || echo here\n") == "here\n"


def test_the_interpreter_field_overrides_the_first_line(service: Service) -> None:
    script = "#!/usr/bin/python3\necho bash\n"
    assert output(service, script, interpreter=["/bin/bash", "-eu"]) == "bash\n"
    assert output(service, "print(1)", interpreter=["python3"]) == "1\n"


def test_a_script_may_lack_a_final_newline(service: Service) -> None:
    command = service.run("#!/bin/true")
    assert (command["status"], command["interpreter"]) == ("succeeded", ["/bin/true"])


def test_an_interpreter_that_is_missing_is_named(service: Service) -> None:
    reason = failure(service, "true", interpreter=["/no/such/program"])
    assert reason == "cannot run /no/such/program: No such file or directory"
    assert "no-such-name" in failure(service, "true", interpreter=["no-such-name"])


def test_carriage_returns_are_part_of_the_name_as_in_linux(service: Service) -> None:
    assert "/bin/bash\r" in failure(service, "#!/bin/bash\r\necho\r\n")


def test_an_interpreter_that_is_not_executable_is_named(service: Service) -> None:
    assert failure(service, "true", interpreter=["/etc"]) == "cannot run /etc: Permission denied"
    assert "/etc/passwd" in failure(service, "true", interpreter=["/etc/passwd"])


def test_the_script_is_found_again_at_dollar_zero(service: Service) -> None:
    script = 'echo "$0"; [[ $1 ]] || bash "$0" again\n'
    assert output(service, script) == "/dev/fd/63\n/dev/fd/63\n"
