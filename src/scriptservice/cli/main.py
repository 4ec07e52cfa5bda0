"""``scriptservice``: finds the verb, and imports only what that verb needs."""

import sys

_USAGE = """\
usage: scriptservice VERB ...

  serve     run the service
  version   print the version

scriptservice VERB --help says more.
"""


def main(words: list[str] | None = None) -> int:
    """Run the verb that the command line names; return the exit code.

    Args:
        words: the arguments; None for the process's own.
    """
    words = sys.argv[1:] if words is None else words
    match words:
        case ["version" | "--version"]:
            from scriptservice import __version__

            print(__version__)
            return 0
        case ["serve", *rest]:
            from scriptservice.cli.serve import serve

            return serve(rest)
        case [] | ["--help" | "-h" | "help"]:
            print(_USAGE, end="")
            return 0
    print(
        f"scriptservice: cannot {words[0]}: there is no such verb\n{_USAGE}",
        end="",
        file=sys.stderr,
    )
    return 2
