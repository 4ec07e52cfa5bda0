"""``scriptservice``: finds the verb, and imports only what that verb needs."""

import sys

_USAGE = """\
usage: scriptservice VERB ...

  serve     run the service

  run       submit a script, follow it, exit as it does
  list      list commands
  show      show one command
  logs      print what a command has printed
  stop      stop commands
  rerun     submit the same again
  delete    delete finished commands

  upgrade   let the running service go on as the installed release
  backup    copy the SQLite database while it is in use
  migrate   bring a database to the schema of this release
  version   print the version

scriptservice VERB --help says more.
"""
_CLIENT_VERBS = {"run", "list", "show", "logs", "stop", "rerun", "delete"}
_COMPLETION = {"--install-completion", "--show-completion"}


def main(words: list[str] | None = None) -> int:
    """Run the verb that the command line names; return the exit code.

    Args:
        words: the arguments; None for the process's own.
    """
    words = sys.argv[1:] if words is None else words
    match words:
        case ["version" | "--version"]:
            from scriptservice.version import __version__

            print(__version__)
            return 0
        case ["serve", *rest]:
            from scriptservice.cli.serve import serve

            return serve(rest)
        case ["upgrade" | "migrate" | "backup" as verb, *rest]:
            return _operate(verb, rest)
        case [] | ["--help" | "-h" | "help"] if not _completing():
            print(_USAGE, end="")
            return 0
        case [verb, *_] if verb not in _CLIENT_VERBS | _COMPLETION:
            print(
                f"scriptservice: cannot {verb}: there is no such verb\n{_USAGE}",
                end="",
                file=sys.stderr,
            )
            return 2
    from scriptservice.cli.app import app

    app(words, prog_name="scriptservice")
    return 0


def _operate(verb: str, words: list[str]) -> int:
    """Run a verb that works on a data directory or a database of this machine."""
    if verb == "upgrade":
        from scriptservice.cli.upgrade import upgrade

        return upgrade(words)
    from scriptservice.cli import database

    return database.migrate(words) if verb == "migrate" else database.backup(words)


def _completing() -> bool:
    """Whether the shell asks what could come next."""
    import os

    return "_SCRIPTSERVICE_COMPLETE" in os.environ
