"""The command line: signatures, help texts, output and exit codes; commands are imported when they run."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from edgead import __version__
from edgead.cli.alerts import alerts_app
from edgead.cli.bundles import bundle_app
from edgead.cli.engines import bench, build_engine, doctor
from edgead.cli.line import service, stream
from edgead.cli.workstation import demo, evaluate, export, train
from edgead.commands.training.device import is_launched_with_others
from edgead.errors import EdgeadError

app = typer.Typer(
    name="edgead",
    help="From a folder of good images to a camera that shows heatmaps and raises alerts you can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"edgead {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
) -> None:
    pass


def show_config() -> None:
    """List every setting with its default and meaning, for --set and YAML files."""
    from edgead.config.file import describe_config
    from edgead.terminal import show_facts

    show_facts([(key, f"{meaning} [default: {default}]") for key, default, meaning in describe_config()])


app.command()(train)
app.command(name="eval")(evaluate)
app.command()(export)
app.command(name="build-engine")(build_engine)
app.command()(stream)
app.add_typer(alerts_app, name="alerts")
app.command()(service)
app.command()(bench)
app.command()(doctor)
app.command()(demo)
app.command(name="config")(show_config)
app.add_typer(bundle_app, name="bundle")


def main() -> None:
    """Run the command line; the only place that turns errors into text and exit codes."""
    debug = "--debug" in sys.argv
    try:
        app()
    except SystemExit as end:
        if end.code in (None, 0) and is_launched_with_others():
            _end_at_once()
        raise
    except EdgeadError as error:
        if debug:
            raise
        typer.echo(f"error: {error.message}", err=True)
        if error.hint:
            typer.echo(f"hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _report_bug(error)
        sys.exit(3)


def _end_at_once() -> None:
    """Exit without the interpreter's clean-up.

    A thread of torch.distributed that needs the interpreter during its shutdown aborts the process ("terminate called
    without an active exception"; seen once, after everything was written), and the launcher would report the whole
    training as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _report_bug(error: Exception) -> None:
    import platform
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="edgead-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(f"edgead {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n")
        traceback.print_exception(error, file=log)
    typer.echo(f"error: This is a bug in edgead: {type(error).__name__}: {error}", err=True)
    typer.echo(f"hint: Please report it with {log.name}", err=True)
