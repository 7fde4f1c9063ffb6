"""`edgead collect`: pictures for training from a source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.console import echo
from edgead.cli.line import checked_camera
from edgead.cli.options import ConfigOption, EngineOption, JsonOption, RateOption, SetOption, load, write_json


def collect(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their index; an existing one is continued.")],
    camera: Annotated[
        str | None,
        typer.Option(metavar="N|PATH", callback=checked_camera, help="A camera of this machine, e.g. 0."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Another source of frames, as `edgead stream` takes it.")] = None,
    every: Annotated[
        float, typer.Option(min=0.0, help="Save at most one picture in this many seconds of the source's time.")
    ] = 2.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop when the folder has this many pictures.")] = None,
    max_mb: Annotated[
        float | None, typer.Option("--max-mb", min=1.0, help="Stop before the pictures take more than this.")
    ] = 2000.0,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that tells anomalous frames, which are left out; default: none.")
    ] = None,
    engine: EngineOption = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Class of the parts, for that bundle.")] = None,
    false_alarm_rate: RateOption = None,
    keep_near_copies: Annotated[
        bool, typer.Option("--keep-near-copies", help="Save pictures that look like one of the last ones too.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the camera, for the index.")] = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Save pictures losslessly, without camera faults, near-copies and anomalous frames; Ctrl+C ends it."""
    import dataclasses
    import threading
    from contextlib import ExitStack

    from edgead.cli.options import open_model
    from edgead.commands.collect import CollectOptions, CollectSummary
    from edgead.commands.collect import collect as run
    from edgead.commands.stream import stop_on_signals
    from edgead.errors import ConfigError

    if (camera is None) == (source is None):
        raise ConfigError(
            "collect takes one of --camera and --source.", hint="For example: edgead collect --camera 0 --out DIR"
        )
    if bundle is None and engine is not None:
        raise ConfigError("--engine is an engine of a bundle.", hint="Add --bundle DIR.")
    settings = load(config, set_, {})
    options = CollectOptions(every, limit, max_mb, keep_near_copies, name, class_name, false_alarm_rate)
    stop = threading.Event()

    def show(summary: CollectSummary) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{summary.n_saved} pictures saved of {summary.n_frames} frames ")

    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop))
        model = None
        if bundle is not None:
            opened = stack.enter_context(open_model(bundle, engine, settings, false_alarm_rate))
            model = (opened.bundle, opened.runner)
        uri = source if source is not None else f"camera:{camera}"
        summary = run(uri, out, options, config=settings, model=model, stop=stop, on_status=show)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if json_output:
        write_json(Path("-"), dataclasses.asdict(summary))
        return
    echo(f"Saved {summary.n_saved} pictures of {summary.n_frames} frames; {out} has {summary.n_pictures} "
         f"({summary.n_bytes / 1e6:.1f} MB).")  # fmt: skip
    faults = ", ".join(f"{kind} {number}" for kind, number in sorted(summary.faults.items()))
    echo(
        f"Left out: {summary.n_early} within {every:g} s of the last one, {summary.n_near_copies} near-copies, "
        f"{summary.n_anomalous} anomalous, {summary.n_faulty} with a camera fault{f' ({faults})' if faults else ''}."
    )
    ended = {"limit": f"--limit {limit} is reached", "max_mb": f"--max-mb {max_mb} is reached", "stop": "stopped"}
    echo(f"Ended: {ended.get(summary.ended_by, 'the source is over')}.")
