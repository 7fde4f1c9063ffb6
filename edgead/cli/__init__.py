"""The command line: signatures, help texts, output and exit codes; commands are imported when they run."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from typing import Annotated

import typer

from edgead import __version__
from edgead.cli.alerts import alerts_app
from edgead.cli.bundles import bundle_app
from edgead.cli.collections import collect, dataset_app
from edgead.cli.console import echo, prepare_streams, report_stdout, stdout_error
from edgead.cli.crash import report_bug
from edgead.cli.engines import bench, build_engine, doctor
from edgead.cli.line import service, stream
from edgead.cli.models import compare, model_app
from edgead.cli.teaching import learn, teach
from edgead.cli.training import train
from edgead.cli.workstation import demo, evaluate, export, predict
from edgead.commands.training.device import is_launched_with_others
from edgead.errors import EdgeadError

# The stream names the threads that read cameras so; importing that module here would slow down every verb.
CAPTURE_THREAD = "edgead capture"

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
app.command(name="eval", short_help="Measure detection, localisation and false alarms.")(evaluate)
app.command(short_help="Judge pictures and write heatmaps, JSON and CSV.")(predict)
app.command(short_help="Compare two models on the same images.")(compare)
app.command(short_help="Export the ONNX graph of a bundle again.")(export)
app.command(name="build-engine", short_help="Build and check an engine for this machine.")(build_engine)
app.command(short_help="Watch cameras, videos or folders and raise alerts.")(stream)
app.add_typer(alerts_app, name="alerts")
app.command(short_help="Save pictures of a camera or another source, for training.")(collect)
app.add_typer(dataset_app, name="dataset")
app.command(short_help="Make a systemd unit that starts the stream at boot.")(service)
app.command(short_help="Learn a new part on this machine.")(teach)
app.command(short_help="Teach the active model that false alarms are good.")(learn)
app.command(short_help="Measure the latency of a frame on this machine.")(bench)
app.command(short_help="Check this machine and the scores of a bundle here.")(doctor)
app.command(short_help="Run every step on generated parts.")(demo)
app.command(name="config", short_help="List every setting with its default and meaning.")(show_config)
app.add_typer(bundle_app, name="bundle")
app.add_typer(model_app, name="model")


def main() -> None:
    """Run the command line; the only place that turns errors into text and exit codes."""
    prepare_streams()
    debug = "--debug" in sys.argv
    code = 0
    try:
        app()
    except SystemExit as end:
        if end.code in (None, 0) and is_launched_with_others():
            _end_at_once(0)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except EdgeadError as error:
        if debug:
            raise
        echo(f"error: {error.message}", err=True)
        if error.hint:
            echo(f"hint: {error.hint}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        is_output = isinstance(error, OSError) and stdout_error() is not None
        if debug and not is_output:
            raise
        if not is_output:
            report_bug(error, sys.argv[1:])
            code = 3
    problem = stdout_error()
    if problem is not None:
        report_stdout(problem)
    # closing the terminal is a way to stop a stream, and no failure
    code = code or int(problem is not None and problem.errno != errno.EIO)
    if any(thread.name.startswith(CAPTURE_THREAD) for thread in threading.enumerate()):
        _end_at_once(code)
    sys.exit(code)


def _end_at_once(code: int) -> None:
    """Exit without the interpreter's clean-up, after everything was written.

    A thread inside a library of C++ that needs the interpreter during its shutdown aborts the process ("terminate called
    without an active exception"). A thread of torch.distributed was seen to do that, and a launcher reports the whole
    training as failed then; a thread that OpenCV keeps waiting for a camera could do the same.
    """
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            output.flush()
    os._exit(code)
