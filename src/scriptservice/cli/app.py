"""The command line as one Typer application. It declares all verbs without importing them.

A verb's module is imported when the verb is called, or when a shell completes the verb's options.
So no module is imported to print the list of verbs, and the client's verbs work where the service
is not installed. To add a verb, write the verb's function and add a row to `SECTIONS`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from scriptservice.cli.exit_codes import USAGE, fail
from scriptservice.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: what the user types.
        summary: one line for the list of verbs.
        function: ``MODULE.FUNCTION`` in this package. The function's parameters are the verb's
            options, and the function's docstring is the verb's help text.
        needs_server: whether the verb needs the extra ``server``. A usage error of such a verb
            prints one line without a hint at ``--help``, because a service manager may log it.
        no_args_is_help: whether the verb shows its help text when it gets no argument.
    """

    name: str
    summary: str
    function: str
    needs_server: bool = False
    no_args_is_help: bool = False

    def load(self) -> TyperCommand:
        """Import the verb's module, and return the verb as a Typer command."""
        module, _, name = self.function.partition(".")
        function = getattr(import_module(f"scriptservice.cli.{module}"), name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(self.name, no_args_is_help=self.no_args_is_help)(function)
        command = get_command(single)
        assert isinstance(command, TyperCommand)  # noqa: S101 - for the type checker
        return command


SECTIONS = (
    (Verb("serve", "run the service", "serve.serve", needs_server=True),),
    (
        Verb(
            "run",
            "run a script on the service, and exit with its exit code",
            "run.run",
            no_args_is_help=True,
        ),
        Verb("list", "list commands", "list.list_commands"),
        Verb("show", "show one command", "show.show", no_args_is_help=True),
        Verb("logs", "print the output of a command", "logs.logs", no_args_is_help=True),
        Verb("wait", "wait until commands have finished", "wait.wait", no_args_is_help=True),
        Verb(
            "attach",
            "connect this terminal with an interactive command",
            "attach.attach",
            no_args_is_help=True,
        ),
        Verb("send", "send input to an interactive command", "send.send", no_args_is_help=True),
        Verb(
            "signal",
            "send a signal to a command",
            "send_signal.send_signal",
            no_args_is_help=True,
        ),
        Verb("stop", "stop commands", "stop.stop", no_args_is_help=True),
        Verb("rerun", "submit a command again", "rerun.rerun", no_args_is_help=True),
        Verb("delete", "delete finished commands", "delete.delete", no_args_is_help=True),
        Verb("hosts", "list the machines that run commands", "hosts.hosts"),
        Verb("login", "ask for the token of a service and keep it", "login.login"),
    ),
    (
        Verb(
            "upgrade",
            "upgrade the running service to the installed release",
            "upgrade_request.upgrade",
            needs_server=True,
        ),
        Verb(
            "backup",
            "copy the SQLite database while it is in use",
            "database.backup",
            needs_server=True,
        ),
        Verb(
            "migrate",
            "bring a database to the schema of this release",
            "database.migrate",
            needs_server=True,
        ),
        Verb(
            "vacuum",
            "make the SQLite database smaller while the service is stopped",
            "database.vacuum",
            needs_server=True,
        ),
        Verb("version", "print the version", "main.version"),
    ),
)
"""All verbs, in the order and the groups in which ``--help`` lists them."""

VERBS = tuple(verb for section in SECTIONS for verb in section)


def usage() -> str:
    """Return the list of verbs, as ``--help`` shows it."""
    sections = ("".join(f"  {verb.name:<10}{verb.summary}\n" for verb in each) for each in SECTIONS)
    return "\n".join(
        [
            "Usage: scriptservice COMMAND [OPTIONS] [ARGUMENTS]\n",
            *sections,
            "'scriptservice COMMAND --help' shows the options of a command.\n",
        ]
    )


def _unknown_verb(name: str) -> str:
    """Return the message for a verb that does not exist; it suggests the nearest one."""
    from difflib import get_close_matches

    near = get_close_matches(name, [verb.name for verb in VERBS], n=1)
    hint = f"Did you mean '{near[0]}'?" if near else "'scriptservice --help' lists all commands."
    return f"Unknown command '{name}'. {hint}"


class LazyCommand(TyperCommand):
    """A verb whose module is imported only when its arguments are parsed."""

    def __init__(self, verb: Verb) -> None:
        super().__init__(verb.name, short_help=verb.summary, rich_markup_mode=None)
        self._verb = verb

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Import the verb and parse its arguments; return the context of the imported verb."""
        if not self._verb.needs_server:
            return self._verb.load().make_context(info_name, args, parent, **extra)
        from scriptservice.cli.extras import require_server

        try:
            require_server(self._verb.name)
        except ConfigurationError as error:
            if extra.get("resilient_parsing"):  # a completion: offer nothing
                return super().make_context(info_name, args, parent, **extra)
            raise fail(str(error)) from error
        try:
            return self._verb.load().make_context(info_name, args, parent, **extra)
        except typer.TyperException as error:
            raise fail(error.format_message(), USAGE) from error


class VerbGroup(TyperGroup):
    """The group of all verbs. It lists the verbs and completes their names without an import."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for verb in VERBS:
            self.add_command(LazyCommand(verb))

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Write the list of verbs."""
        formatter.write(usage())

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that the first argument names.

        Raises:
            typer.Exit: there is no such verb.
        """
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise fail(_unknown_verb(args[0]), USAGE)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="scriptservice",
    cls=VerbGroup,
    # A user may type an unknown option in place of the verb. Without this setting, Typer would
    # report that option. With this setting, `resolve_command` reports it as an unknown verb.
    context_settings={"ignore_unknown_options": True},
    rich_markup_mode=None,
)


@app.callback()
def _every_verb() -> None:
    """Make Typer build a group. Typer refuses an application without a command and a callback."""


def run_verb(words: list[str]) -> int:
    """Run a verb, and return the exit code.

    Args:
        words: the verb and its arguments.
    """
    try:
        get_command(app).main(words, prog_name="scriptservice")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
