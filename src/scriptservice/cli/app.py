"""The client verbs as one Typer application; ``main`` imports it only when one is asked for."""

from typing import Annotated

import typer

from scriptservice.cli import change, run, show

app = typer.Typer(
    name="scriptservice",
    help="Runs bash scripts, keeps every byte they print, and tells how they ended.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run", no_args_is_help=True)(run.run)
app.command("list")(show.list_commands)
app.command("show", no_args_is_help=True)(show.show)
app.command("logs", no_args_is_help=True)(show.logs)
app.command("stop", no_args_is_help=True)(change.stop)
app.command("rerun", no_args_is_help=True)(change.rerun)
app.command("delete", no_args_is_help=True)(change.delete)


@app.command("serve", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def serve(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Run the service; serve --help lists its settings."""
    from scriptservice.cli.serve import serve as become_keeper

    raise typer.Exit(become_keeper(words or []))


@app.command("version")
def version() -> None:
    """Print the version."""
    from scriptservice.version import __version__

    typer.echo(__version__)
