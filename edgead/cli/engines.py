"""Verbs about engines: build-engine, bench, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgead.cli.options import (
    BundleArgument,
    ConfigOption,
    EngineOption,
    JsonFileOption,
    JsonOption,
    SetOption,
    load,
    open_model,
    write_json,
)

if TYPE_CHECKING:
    from edgead.builder.choice import BackendName
    from edgead.engines.fingerprint import EngineRecord, Precision


def build_engine(
    bundle: BundleArgument = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="Build in full precision (default).")] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Build in half precision, where this machine supports it.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Build with 8-bit integers, where this machine supports it.")
    ] = False,
    backend: Annotated[str, typer.Option(help="Backend to build for: auto, tensorrt or onnxruntime.")] = "auto",
    device: Annotated[
        str, typer.Option(help="Device to run on: auto (the GPU where a backend can use it), cpu or cuda.")
    ] = "auto",
    calib: Annotated[
        Path | None, typer.Option(help="Folder of good images for the INT8 ranges; default: the images in the bundle.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled images for the accuracy gate; default: pseudo-defects on good images.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML file with INT8 settings; see calibration/ in the repository.")
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Largest allowed drop of the image AUROC, 0 to 1.")] = 0.01,
    batch: Annotated[str, typer.Option(help="TensorRT: images per call, N or MIN:USUAL:MAX.")] = "1",
    workspace_mb: Annotated[
        int | None,
        typer.Option(help="TensorRT: workspace in MB; default: a quarter of the GPU's memory, at most 2 GB."),
    ] = None,
    dla_core: Annotated[
        int | None, typer.Option(help="TensorRT: DLA core for the backbone, where the board has one.")
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="TensorRT: allow newer versions to load the engine; it can be slower."
        ),
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even if nothing has changed.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Build and check the best engine that this machine can run."""
    from edgead.api import build_engine as build
    from edgead.commands.build_engine import engine_options
    from edgead.commands.training.runs import default_bundle
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress, show_engine

    chosen = [name for name, flag in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if flag]
    if len(chosen) > 1:
        raise ConfigError(f"Choose one precision, got --{' --'.join(chosen)}.")
    if backend not in ("auto", "tensorrt", "onnxruntime"):
        raise ConfigError(f"--backend must be auto, tensorrt or onnxruntime, got {backend!r}.")
    options = engine_options(
        calib=calib, data=data, recipe=recipe, max_drop=max_drop, batch=batch, workspace_mb=workspace_mb,
        dla_core=dla_core, version_compatible=version_compatible, rebuild=rebuild, device=device,
    )  # fmt: skip
    with TerminalProgress() as progress, progress.busy("Building"):
        built = build(
            bundle or default_bundle(), cast("Precision", chosen[0] if chosen else "fp32"),
            backend=cast("BackendName", backend),
            options=options, progress=progress,
        )  # fmt: skip
    if json_output:
        write_json(Path("-"), built.to_json())
        return
    show_engine(built.record)
    record = built.record
    typer.echo(
        f"{'Kept' if built.reused else 'Built'} {built.name} for {record.fingerprint.device} in {record.build_s:.1f} s ({record.size_mb:.1f} MB): "
        f"{record.n_images} reference images, {_differences(record)}, {record.verdict_flips} verdicts flip."
    )
    typer.echo("Next: edgead eval --report report on images with known defects, or edgead stream --camera 0")


def _differences(record: EngineRecord) -> str:
    scores, peaks = record.score_relative_difference, record.peak_relative_difference
    if scores is None or peaks is None:
        return f"largest relative difference {record.max_relative_difference:.1e}"
    return f"scores differ by up to {scores:.1e} relative and maps by up to {peaks:.1e} of their peaks"


def bench(
    bundle: BundleArgument = None,
    engine: EngineOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Number of frames to measure.")] = 100,
    frame_size: Annotated[str, typer.Option(help="Size of the camera's frames, HEIGHTxWIDTH in px.")] = "480x640",
    operators: Annotated[bool, typer.Option("--operators", help="Also show the time spent in each operator.")] = False,
    cameras: Annotated[
        int, typer.Option(min=1, max=64, help="Also measure a stream of this many cameras on the engine.")
    ] = 1,
    roofline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also compare each layer with this processor's measured peak, predict Jetson boards, and draw it as .svg or .png; - for the table alone.",
        ),
    ] = None,
    json_file: JsonFileOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure the latency of a frame on this machine: the engine alone and end to end."""
    import re
    import time

    from edgead.commands.bench import bench as run
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress
    from edgead.terminal_bench import show_bench

    size = re.fullmatch(r"(\d+)x(\d+)", frame_size)
    if not size or min(int(size[1]), int(size[2])) < 16:
        raise ConfigError(f"--frame-size must be HEIGHTxWIDTH with sides of 16 px or more, got {frame_size!r}.")
    picture = None if roofline is None or str(roofline) == "-" else roofline
    if picture is not None:
        from edgead.commands.roofline_chart import draw_roofline, require_picture_name

        require_picture_name(picture)
    settings = load(config, set_, {})
    started = time.monotonic()
    with open_model(bundle, engine, settings) as model, TerminalProgress() as progress:
        startup_s = time.monotonic() - started
        result = run(
            model.bundle, model.runner, progress, n_frames=frames, frame_size=(int(size[1]), int(size[2])), startup_s=startup_s,
            operators=operators, n_cameras=cameras, with_roofline=roofline is not None, threads=settings.engine.threads,
        )  # fmt: skip
    if picture is not None and result.roofline is not None:
        draw_roofline(result.roofline, picture)
    if json_file is not None:
        write_json(json_file, result.to_json())
    if json_file is None or str(json_file) != "-":
        show_bench(result)


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
    """Check this machine, and whether the bundle's reference images score here as they should."""
    from edgead.commands.doctor import doctor as diagnose
    from edgead.commands.training.runs import default_bundle
    from edgead.terminal import TerminalProgress, show_diagnosis

    settings = load(config, set_, {})
    path = bundle or default_bundle()
    with TerminalProgress() as progress, progress.busy("Checking"):
        diagnosis = diagnose(path, bundle_named=bundle is not None, threads=settings.engine.threads)
    if json_output:
        write_json(Path("-"), diagnosis.to_json())
    else:
        show_diagnosis(diagnosis)
    if report is not None:
        from edgead.commands.doctor.report import write_report

        write_report(report, diagnosis, path)
        typer.echo(f"Report: {report}. Read it before you show it to others.", err=json_output)
    raise typer.Exit(0 if diagnosis.ok else 4)
