"""Verbs of a production line: stream and service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli.console import echo
from edgead.cli.options import (
    BundleArgument,
    CameraOption,
    ConfidenceOption,
    ConfigOption,
    EngineOption,
    JsonOption,
    RateOption,
    SetOption,
    load,
    open_model,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgead.config.root import Config
    from edgead.config.stream import CameraConfig
    from edgead.errors import EdgeadError
    from edgead.line.model_store import Installed, ModelStore
    from edgead.model import Model
    from edgead.stream.monitoring.meter import StreamStatus, StreamSummary


def stream(
    bundle: BundleArgument = None,
    camera: CameraOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Source of frames: a video, a folder of images, an rtsp:// or http:// URL, csi:N, gst:LINE, watch:FOLDER or synthetic[:PART]."
        ),
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Begin a video file again at its end, until the stream is stopped.")
    ] = False,
    engine: EngineOption = None,
    models: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run the active model of this store, in place of a bundle and an engine."),
    ] = None,
    shadow: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Also judge a share of the frames with this bundle or installed model, and report what it would change.",
        ),
    ] = None,
    shadow_share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the frames that the shadow judges, e.g. 0.1.")
    ] = None,
    alerts: Annotated[Path, typer.Option(help="Folder for alert records and pictures.")] = Path("alerts"),
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Deliver events to this sink: mqtt(s)://, http(s):// or file:NAME.jsonl; repeatable."
        ),
    ] = None,
    web: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve the dashboard on this address, e.g. 127.0.0.1:8080.")
    ] = None,
    teach_base: Annotated[
        Path | None,
        typer.Option(
            metavar="BASE", help="Base bundle for teaching new parts on the dashboard; needs --web and --models."
        ),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Write an annotated video to this file, e.g. out.mp4.")] = None,
    display: Annotated[
        bool, typer.Option("--display", help="Show frames in a window; q or Esc stops the stream.")
    ] = False,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many judged frames, over all cameras.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class of the parts, for a bundle of several classes.")
    ] = None,
    false_alarm_rate: RateOption = None,
    confidence: ConfidenceOption = None,
    false_alarms_per_hour: Annotated[
        float | None,
        typer.Option(
            "--false-alarms-per-hour",
            help="Choose thresholds for at most this many false alarms per hour over all zones, at the measured frame rate.",
        ),
    ] = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Watch a camera, a video, a folder or a network stream and raise alerts."""
    import dataclasses

    from edgead.cli.systemd import ServiceManager
    from edgead.commands.stream import StreamOutputs
    from edgead.commands.stream import stream as run
    from edgead.line.model_changer import LineModels
    from edgead.storage import keep_files_private
    from edgead.stream.monitoring.status import StatusLine, status_line
    from edgead.terminal import TerminalProgress

    keep_files_private()
    manager = ServiceManager()
    given = {
        "web.address": web, "web.teach_base": teach_base, "stream.loop": loop or None, "shadow.share": shadow_share
    }  # fmt: skip
    settings = _with_sinks(load(config, set_, given), sink)
    cameras = _cameras(settings, camera, source, class_name)
    status = StatusLine(sys.stderr.write, is_terminal=sys.stderr.isatty())
    active = None if models is None else _active_model(models, bundle, engine)
    if active is not None:
        bundle, engine = active[0].path(active[1]), active[1].engine

    def open_other(path: Path, name: str) -> Model:
        from edgead.commands.model import require_reference

        other = open_model(path, name, settings, false_alarm_rate, confidence)
        return require_reference(other)

    with open_model(bundle, engine, settings, false_alarm_rate, confidence) as model, TerminalProgress() as progress:
        followed = None if active is None else LineModels(*active, open_other, model)

        def show(state: StreamStatus) -> None:
            progress.finish()
            manager.ready()
            manager.alive(status_line(state))
            status(state)

        try:
            summary = run(
                model.bundle, model.runner, cameras, StreamOutputs(alerts, record, display), config=settings,
                max_frames=max_frames, on_status=show, false_alarm_rate=model.false_alarm_rate,
                false_alarms_per_hour=_per_hour(false_alarms_per_hour, false_alarm_rate), progress=progress, models=followed,
                shadow=None if shadow is None else _shadow(shadow, None if active is None else active[0]),
            )  # fmt: skip
        finally:
            manager.stopping()
            status.finish()
    if json_output:
        write_json(Path("-"), dataclasses.asdict(summary))
    else:
        from edgead.stream.monitoring.status import summary_text

        echo(summary_text(summary))
        if summary.n_processed:
            echo(f"Alerts: {alerts}/" if summary.n_alerts else "No alert was raised.")
        if record is not None and summary.n_processed:
            echo(f"Video: {record}")
        if summary.shadow is not None:
            echo(summary.shadow["text"])
            if summary.shadow["differences"]:
                echo(f"Pictures: {summary.shadow['folder']}/")
    if summary.n_processed == 0:
        nothing = _nothing_judged(summary)
        if summary.ended_by != "stop" or summary.n_captured:
            raise nothing
        # a stop that was asked for while a camera is silent is no failure; systemd would call the unit failed
        echo(nothing.message, err=True)
    if any(one.failure for one in summary.cameras):
        raise typer.Exit(1)


def _active_model(models: Path, bundle: Path | None, engine: str | None) -> tuple[ModelStore, Installed]:
    """A store and its active model; the log says which and why."""
    from edgead.errors import ConfigError
    from edgead.line.model_store import ModelStore

    if bundle is not None or engine is not None:
        raise ConfigError("--models names the bundle and the engine; leave out BUNDLE and --engine.")
    store = ModelStore(models)
    active, why = store.active()
    echo(f"Model {active.name} of {models} is active: {why.sentence}", err=True)
    return store, active


def _shadow(path: Path, store: ModelStore | None) -> tuple[Path, str | None]:
    """Bundle folder of a shadow and its engine; with a store, the name of an installed model does too."""
    from edgead.commands.compare import bundle_of

    installed = None if store is None or path.exists() else store.read().find(str(path))
    if store is None or installed is None:
        return bundle_of(path), None
    return store.path(installed), installed.engine


def _nothing_judged(summary: StreamSummary) -> EdgeadError:
    """Error of a stream that ended without a judged frame, which says nothing about the parts."""
    from edgead.errors import SourceError

    if summary.n_unjudged:
        seen = f"{summary.n_captured} frames came, and {summary.n_unjudged} were left out because of a camera fault"
        hint = "Look at the camera's picture (--web shows it); stream.check_pictures and the limits beside it decide what a fault is."
    elif summary.n_captured:
        seen = f"{summary.n_captured} frames came, and the stream ended before one was judged"
        hint = "Let it run longer."
    else:
        seen = {
            "source": "the source ended without one",
            "stop": "it was stopped before the first came",
            "max_frames": "none came",
        }[summary.ended_by]
        hint = "Check the source: a folder or video with frames, a camera that answers. `edgead doctor` lists cameras."
    failures = [f"{camera.name}: {camera.failure}" for camera in summary.cameras if camera.failure]
    return SourceError(f"No frame was judged: {'; '.join([seen, *failures])}.", hint=hint)


def service(
    config: Annotated[Path, typer.Option("--config", help="YAML file with the cameras.")] = Path("edgead.yaml"),
    folder: Annotated[
        Path, typer.Option(help="Working directory of the service, which it may write to; holds runs/ or the bundle.")
    ] = Path("."),
    user: Annotated[str, typer.Option(help="System user to run as.")] = "edgead",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Further argument of `edgead stream`, one word each; repeatable."),
    ] = None,
    writable: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Another folder that the service may write to; repeatable.")
    ] = None,
    environment_file: Annotated[
        Path | None, typer.Option(help="File with secrets as NAME=VALUE lines, readable by root only.")
    ] = None,
    memory_max: Annotated[
        str,
        typer.Option(help="Memory beyond which the kernel ends the stream: a share, bytes such as 3G, or infinity."),
    ] = "80%",
    watchdog_s: Annotated[
        int, typer.Option(min=10, max=3600, help="Restart after this many seconds without a heartbeat.")
    ] = 60,
    out: Annotated[Path | None, typer.Option(help="Write the unit to this file; default: print it.")] = None,
) -> None:
    """Make a systemd unit that starts the stream at boot and restarts it after a failure."""
    from edgead.commands.service import ServiceOptions, advice, service_unit, write_service
    from edgead.commands.service_site import lacking_here

    options = ServiceOptions(
        config, folder, user, tuple(option or ()), tuple(writable or ()), watchdog_s, environment_file, memory_max
    )  # fmt: skip
    text = service_unit(options)
    words = _words_of_stream(options.arguments)
    settings = _with_sinks(load(config, words.get("set_"), {}), words.get("sink"))
    _cameras(settings, words.get("camera"), words.get("source"), words.get("class_name"))
    for sentence in [*advice(options, settings), *lacking_here(options, settings, words, sys.executable)]:
        echo(f"Warning: {sentence}", err=True)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_service(out, text)
    echo(f"Wrote {out}. Its first lines say how to install it.")


def _words_of_stream(words: Sequence[str]) -> dict[str, Any]:
    """Parse arguments of `edgead stream`, so that a wrong one is found before the service is installed."""
    import click

    from edgead.errors import ConfigError

    app = typer.Typer(add_completion=False)
    app.command()(stream)
    try:
        return dict(typer.main.get_command(app).make_context("stream", list(words)).params)
    except click.ClickException as error:
        raise ConfigError(f"--option: {error.format_message()}", hint="`edgead stream --help` lists them.") from None


def _cameras(
    settings: Config, camera: str | None, source: str | None, class_name: str | None
) -> Sequence[CameraConfig]:
    """The cameras to watch; ambiguous addresses are refused before a model is loaded or anything is opened."""
    from edgead.redaction import check_address

    chosen = _chosen_cameras(settings, camera, source, class_name)
    for one in chosen:
        check_address(one.source)
    return chosen


def _chosen_cameras(
    settings: Config, camera: str | None, source: str | None, class_name: str | None
) -> Sequence[CameraConfig]:
    """The camera given by options, else the cameras of the configuration."""
    from edgead.config.stream import CameraConfig
    from edgead.errors import ConfigError

    hint = "For example: edgead stream --camera 0"
    if camera is None and source is None:
        if not settings.cameras:
            raise ConfigError(
                "stream needs a source: --camera N, --source URI or `cameras` in a configuration.", hint=hint
            )
        if class_name is not None:
            raise ConfigError("--class goes with --camera or --source; `cameras` in a configuration have `class`.")
        return settings.cameras
    if camera is not None and source is not None:
        raise ConfigError("stream takes one of --camera and --source, got both.", hint=hint)
    if settings.cameras:
        raise ConfigError(
            f"The configuration names {len(settings.cameras)} cameras already; --camera and --source would be one more.",
            hint="Leave the option out, or use a configuration without `cameras`.",
        )
    uri = source if source is not None else f"camera:{camera}"
    return [CameraConfig.model_validate({"name": "camera", "source": uri, "class": class_name})]


def _with_sinks(settings: Config, urls: list[str] | None) -> Config:
    from edgead.config.sinks import sink_from_url

    return settings.model_copy(update={"sinks": (*settings.sinks, *(sink_from_url(url) for url in urls or ()))})


def _per_hour(value: float | None, rate: float | None) -> float | None:
    from edgead.errors import ConfigError

    if value is not None and rate is not None:
        raise ConfigError("--false-alarms-per-hour and --false-alarm-rate both set the thresholds; give one of them.")
    if value is not None and not 0 < value <= 1e5:
        raise ConfigError(
            f"--false-alarms-per-hour must be above 0, got {value}.", hint="1 is one false alarm per hour."
        )
    return value
