"""The command line: signatures, help, rendering and exit codes; commands are imported when they run."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead import __version__
from edgead.errors import EdgeadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgead.bundle import Bundle
    from edgead.commands.evaluate import ClassMode
    from edgead.config import Config
    from edgead.evaluation.segmentation import SegmentationKind
    from edgead.runner import Runner

app = typer.Typer(
    name="edgead",
    help="From a folder of good images to a camera that shows heatmaps and raises alerts you can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
bundle_app = typer.Typer(help="Look into a bundle, check it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bundle_app, name="bundle")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings; ./edgead.yaml is read when present.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable.")
]
BundleArgument = Annotated[
    Path | None, typer.Argument(help="The bundle's folder; default: runs/latest/bundle.", show_default=False)
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="BACKEND-PRECISION, a path or `reference`; default: the best one built here."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--false-alarm-rate",
        help="Use the threshold for this share of false alarms, e.g. 0.001; default: the bundle's.",
    ),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"edgead {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
) -> None:
    pass


@app.command()
def train(
    data: Annotated[
        Path | None, typer.Option(help="Folder of good images, or a data set in a known layout; default: ./data.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="usf (default), fastflow, cflow, uflow, hgad or vae-usf.")] = None,
    coupling: Annotated[str | None, typer.Option(help="uniform or affine; default: the model's own.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Base distribution: normal (default), or altub, a learnable Gaussian.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Any timm model with feature maps; default: tf_efficientnet_lite0.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="lite0, timm or a .safetensors file; default: lite0 for its backbone, else timm.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the square input in px, a multiple of 32; default: 320.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Most passes over the images; default: 6.")] = None,
    device: Annotated[str | None, typer.Option(help="auto (default), cpu, cuda, cuda:N or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice; default: 0.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: a new one in ./runs.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run: --out, else the newest unfinished one.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the training would do and need, without doing it.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Learn from good images and write a bundle."""
    from edgead.commands.device import is_main_process
    from edgead.commands.runs import RUNS
    from edgead.commands.train import train as run
    from edgead.terminal import TerminalProgress, show_facts

    options = {
        "data.root": data, "model.name": model, "model.coupling": coupling, "model.base": base, "model.backbone": backbone,
        "model.weights": weights, "model.image_size": image_size, "train.epochs": epochs, "train.device": device,
        "train.seed": seed,
    }  # fmt: skip
    settings = _config(config, set_, options)
    if dry_run:
        _dry_run(settings, out)
        return
    with TerminalProgress() as progress:
        result = run(settings, progress, out=out, runs=RUNS, resume=resume)
    if not is_main_process():
        return
    from edgead.commands.bundle import bundle_facts

    show_facts(bundle_facts(result.bundle.path))
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    typer.echo(f"Took {sum(result.seconds.values()):.0f} s: {stages}.")
    typer.echo("Next: edgead build-engine, then edgead stream --camera 0")


@app.command(name="eval")
def evaluate(
    bundle: BundleArgument = None,
    data: Annotated[
        Path | None, typer.Option(help="Data set with a test part, or good/ beside defect folders; default: ./data.")
    ] = None,
    engine: EngineOption = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with pictures into this folder.")] = None,
    false_alarm_rate: RateOption = None,
    class_mode: Annotated[
        str,
        typer.Option(help="What a model of several classes is told of each image's class: none, given or predicted."),
    ] = "none",
    segmentation: Annotated[
        str | None,
        typer.Option(help="Measure the marked regions of threshold or nfa, where the bundle has it; default: its own."),
    ] = None,
    alignment: Annotated[
        bool,
        typer.Option("--alignment", help="Also correlate the model's likelihood with its latent norm; needs torch."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers as JSON to this file, - for stdout.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure detection, localisation and false alarms on labelled images."""
    from edgead.commands.evaluate import evaluate_bundle
    from edgead.terminal import TerminalProgress, show_evaluation

    settings = _config(config, set_, {"data.root": data})
    with _engine(bundle, engine, settings) as (opened, runner), TerminalProgress() as progress:
        result = evaluate_bundle(
            opened, runner, settings.data.root, progress,
            false_alarm_rate=_rate(false_alarm_rate), report=report, class_mode=_class_mode(class_mode),
            alignment=alignment, segmentation=_segmentation(segmentation),
        )  # fmt: skip
    if json_file is not None:
        _write_json(json_file, result.to_json())
    if json_file is None or str(json_file) != "-":
        show_evaluation(result.result)
        if result.result.mean.mask_iou is not None:
            typer.echo(f"Mask IoU {result.result.mean.mask_iou:.4f} (marked regions: {result.segmentation}).")
        if result.class_accuracy is not None:
            typer.echo(
                f"Class of the part predicted right: {result.class_accuracy:.1%} (class mode: {result.class_mode})."
            )
        if result.alignment is not None:
            typer.echo(result.alignment.describe())
        if result.report is not None:
            typer.echo(f"Report: {result.report}")


@app.command()
def export(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder or its bundle; default: runs/latest.", show_default=False)
    ] = None,
) -> None:
    """Write the bundle's ONNX graph anew from its weights, folded and checked."""
    from edgead.commands.bundle import bundle_facts
    from edgead.commands.export import export as do
    from edgead.commands.runs import LATEST, RUNS
    from edgead.terminal import TerminalProgress, show_facts

    with TerminalProgress() as progress:
        result = do(run or RUNS / LATEST, progress)
    show_facts(bundle_facts(result.bundle.path))
    counts = ", ".join(f"{name} {count}" for name, count in sorted(result.operators.items()))
    typer.echo(f"Operators: {counts}.")


@app.command(name="build-engine")
def build_engine(
    bundle: BundleArgument = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="Full precision (default).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision, where this machine has it.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, where this machine has it.")] = False,
    backend: Annotated[str, typer.Option(help="auto, tensorrt or onnxruntime.")] = "auto",
    device: Annotated[str, typer.Option(help="auto (the GPU where a backend can use it), cpu or cuda.")] = "auto",
    calib: Annotated[
        Path | None, typer.Option(help="Folder of good images for the INT8 ranges; default: those in the bundle.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled test images to judge by; default: pseudo-defects on good images.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML with INT8 settings; see calibration/.")] = None,
    max_drop: Annotated[float, typer.Option(help="Allowed drop of the image AUROC, 0 to 1.")] = 0.01,
    batch: Annotated[str, typer.Option(help="TensorRT: images per call, N or MIN:USUAL:MAX.")] = "1",
    workspace_mb: Annotated[
        int | None, typer.Option(help="TensorRT: scratch memory in MB; default: a quarter of the memory, at most 2 GB.")
    ] = None,
    dla_core: Annotated[
        int | None, typer.Option(help="TensorRT: DLA core for the backbone, where the board has one.")
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="TensorRT: let a newer TensorRT load the engine too; it can be slower."
        ),
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even if nothing changed.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Build and check the best engine that this machine can run."""
    from edgead.bundle import open_bundle
    from edgead.commands.build_engine import build_engine as build
    from edgead.commands.build_engine import engine_options
    from edgead.commands.runs import default_bundle
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress, err, show_engine

    chosen = [name for name, flag in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if flag]
    if len(chosen) > 1:
        raise ConfigError(f"Choose one precision, got --{' --'.join(chosen)}.")
    if backend not in ("auto", "tensorrt", "onnxruntime"):
        raise ConfigError(f"--backend must be auto, tensorrt or onnxruntime, got {backend!r}.")
    options = engine_options(
        calib=calib, data=data, recipe=recipe, max_drop=max_drop, batch=batch, workspace_mb=workspace_mb,
        dla_core=dla_core, version_compatible=version_compatible, rebuild=rebuild, device=device,
    )  # fmt: skip
    opened = open_bundle(bundle or default_bundle())
    with err.status("Building"), TerminalProgress() as progress:
        built = build(opened, chosen[0] if chosen else "fp32", backend, progress, options)  # type: ignore[arg-type]
    if json_output:
        _write_json(Path("-"), built.to_json())
        return
    show_engine(built.record)
    record = built.record
    typer.echo(
        f"{'Kept' if built.reused else 'Built'} {built.name} for {record.fingerprint.device} in {record.build_s:.1f} s ({record.size_mb:.1f} MB): "
        f"{record.n_images} reference images, largest relative difference {record.max_relative_difference:.1e}, "
        f"{record.verdict_flips} verdicts flip."
    )


@app.command()
def stream(
    bundle: BundleArgument = None,
    camera: Annotated[int | None, typer.Option(help="Number of a camera on this machine.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Video file, folder of pictures, rtsp:// or http:// URL, synthetic[:PART].")
    ] = None,
    engine: EngineOption = None,
    alerts: Annotated[Path, typer.Option(help="Folder for alert records and pictures.")] = Path("alerts"),
    record: Annotated[Path | None, typer.Option(help="Write an annotated video, e.g. out.mp4.")] = None,
    display: Annotated[bool, typer.Option("--display", help="Show a window; q or Esc ends.")] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Kind of part, for bundles of several.")] = None,
    false_alarm_rate: RateOption = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Watch a camera, a video, a folder or a network stream and raise alerts."""
    import dataclasses

    from edgead.commands.stream import StreamOutputs
    from edgead.commands.stream import stream as run
    from edgead.errors import ConfigError
    from edgead.stream.status import StatusLine

    if (camera is None) == (source is None):
        raise ConfigError(
            "stream needs one source: --camera N or --source URI.", hint="For example: edgead stream --camera 0"
        )
    settings = _config(config, set_, {})
    status = StatusLine(sys.stderr.write, is_terminal=sys.stderr.isatty())
    uri = source if source is not None else f"camera:{camera}"
    with _engine(bundle, engine, settings) as (opened, runner):
        try:
            summary = run(
                opened, runner, uri, StreamOutputs(alerts, record, display), config=settings.stream,
                alert_config=settings.alerts, class_name=class_name, max_frames=max_frames, on_status=status,
                false_alarm_rate=_rate(false_alarm_rate),
            )  # fmt: skip
        finally:
            status.finish()
    if json_output:
        _write_json(Path("-"), dataclasses.asdict(summary))
        return
    from edgead.stream.status import summary_text

    typer.echo(summary_text(summary))
    typer.echo(f"Alerts: {alerts}/" if summary.n_alerts else "No alert was raised.")
    if record is not None:
        typer.echo(f"Video: {record}")


@app.command()
def bench(
    bundle: BundleArgument = None,
    engine: EngineOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to measure.")] = 100,
    frame_size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the camera's pictures in px.")] = "480x640",
    operators: Annotated[bool, typer.Option("--operators", help="Also say which operators take the time.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers as JSON to this file, - for stdout.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure what a frame costs here: the engine alone and end to end."""
    import re
    import time

    from edgead.commands.bench import bench as run
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress, show_bench

    size = re.fullmatch(r"(\d+)x(\d+)", frame_size)
    if not size or min(int(size[1]), int(size[2])) < 16:
        raise ConfigError(f"--frame-size must be HEIGHTxWIDTH with sides of 16 px or more, got {frame_size!r}.")
    settings = _config(config, set_, {})
    started = time.monotonic()
    with _engine(bundle, engine, settings) as (opened, runner), TerminalProgress() as progress:
        startup_s = time.monotonic() - started
        result = run(
            opened, runner, progress, n_frames=frames, frame_size=(int(size[1]), int(size[2])), startup_s=startup_s,
            operators=operators,
        )  # fmt: skip
    if json_file is not None:
        _write_json(json_file, result.to_json())
    if json_file is None or str(json_file) != "-":
        show_bench(result)


@app.command()
def doctor(
    bundle: BundleArgument = None,
    json_output: JsonOption = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write a Markdown file for a bug report, without names, addresses and secrets."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Say what this machine has and whether the bundle's reference images score here as they should."""
    from edgead.commands.doctor import doctor as diagnose
    from edgead.commands.runs import default_bundle
    from edgead.terminal import show_diagnosis

    settings = _config(config, set_, {})
    path = bundle or default_bundle()
    diagnosis = diagnose(path, bundle_named=bundle is not None, threads=settings.engine.threads)
    if json_output:
        _write_json(Path("-"), diagnosis.to_json())
    else:
        show_diagnosis(diagnosis)
    if report is not None:
        from edgead.commands.doctor.report import write_report

        write_report(report, diagnosis, path)
        typer.echo(f"Report: {report}. Read it before you show it to others.", err=json_output)
    raise typer.Exit(0 if diagnosis.ok else 4)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("edgead-demo"),
    part: Annotated[str, typer.Option(help="disc, cap, fabric or board.")] = "disc",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Run the whole journey on generated parts: train, engine, report, annotated video and alerts."""
    from edgead.commands.demo import demo as run
    from edgead.terminal import TerminalProgress, show_evaluation, show_facts

    settings = _config(config, set_, {})
    with TerminalProgress() as progress:
        result = run(settings, progress, out=out, part=part)
    show_evaluation(result.evaluation.result)
    show_facts(
        [
            ("took", f"{result.seconds:.0f} s"),
            ("frames", f"{result.stream.n_processed}, {result.stream.n_alerts} alerts"),
            ("video", str(result.video)),
            ("alerts", str(result.alerts)),
            ("report", str(result.evaluation.report)),
            ("bundle", str(result.training.bundle.path)),
        ]
    )


@app.command(name="config")
def show_config() -> None:
    """List every setting with its default and meaning, for --set and YAML files."""
    from edgead.config import describe_config
    from edgead.terminal import show_facts

    show_facts([(key, f"{meaning} [default: {default}]") for key, default, meaning in describe_config()])


@bundle_app.command()
def info(bundle: BundleArgument = None) -> None:
    """Show what a bundle holds, after verifying it."""
    from edgead.commands.bundle import bundle_facts
    from edgead.commands.runs import default_bundle
    from edgead.terminal import show_facts

    show_facts(bundle_facts(bundle or default_bundle()))


@bundle_app.command()
def verify(bundle: BundleArgument = None) -> None:
    """Check schema, file list and every digest of a bundle."""
    from edgead.bundle import open_bundle
    from edgead.commands.runs import default_bundle

    opened = open_bundle(bundle or default_bundle())
    typer.echo(
        f"{opened.path}: schema {opened.manifest.schema_version}, {len(opened.manifest.sha256)} files, every digest right."
    )


def main() -> None:
    """Run the command line; the only place where errors become text and exit codes."""
    debug = "--debug" in sys.argv
    try:
        app()
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


def _report_bug(error: Exception) -> None:
    import platform
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="edgead-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(f"edgead {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n")
        traceback.print_exception(error, file=log)
    typer.echo(f"error: This is a bug in edgead: {type(error).__name__}: {error}", err=True)
    typer.echo(f"hint: Please report it with {log.name}", err=True)


def _dry_run(settings: Config, out: Path | None) -> None:
    from edgead.commands.device import is_main_process
    from edgead.commands.dry_run import dry_run
    from edgead.commands.runs import RUNS
    from edgead.terminal import TerminalProgress, show_facts

    if not is_main_process():
        return
    with TerminalProgress() as progress:
        plan = dry_run(settings, progress, out=out, runs=RUNS)
    show_facts(plan.facts)
    plan.check()


def _config(path: Path | None, assignments: list[str] | None, options: dict[str, Any]) -> Config:
    from edgead.config import load_config, parse_override

    overrides = dict(parse_override(text) for text in assignments or [])
    overrides |= {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items() if value is not None
    }
    return load_config(path, overrides)


@contextmanager
def _engine(path: Path | None, engine: str | None, settings: Config) -> Iterator[tuple[Bundle, Runner]]:
    from edgead.bundle import open_bundle
    from edgead.commands.runs import default_bundle
    from edgead.engines.build import open_calibrated

    opened, bundle = open_calibrated(
        open_bundle(path or default_bundle()), engine, threads=settings.engine.threads, device=settings.engine.device,
        on_note=lambda text: typer.echo(f"note: {text}", err=True),
    )  # fmt: skip
    with opened as runner:
        yield bundle, runner


def _rate(value: float | None) -> float | None:
    from edgead.errors import ConfigError

    if value is not None and not 0 < value < 0.5:
        raise ConfigError(f"--false-alarm-rate must be above 0 and below 0.5, got {value}.", hint="0.005 is 0.5 %.")
    return value


def _class_mode(value: str) -> ClassMode:
    from typing import get_args

    from edgead.commands.evaluate import ClassMode
    from edgead.errors import ConfigError

    for mode in get_args(ClassMode):
        if value == mode:
            return mode  # type: ignore[no-any-return]
    raise ConfigError(f"--class-mode must be one of {', '.join(get_args(ClassMode))}, got {value!r}.")


def _segmentation(value: str | None) -> SegmentationKind | None:
    from typing import get_args

    from edgead.errors import ConfigError
    from edgead.evaluation.segmentation import SegmentationKind

    if value is None:
        return None
    for kind in get_args(SegmentationKind):
        if value == kind:
            return kind  # type: ignore[no-any-return]
    raise ConfigError(f"--segmentation must be one of {', '.join(get_args(SegmentationKind))}, got {value!r}.")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    import json

    if str(path) == "-":
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    from edgead.storage import write_json

    write_json(path, content)


if __name__ == "__main__":
    main()
