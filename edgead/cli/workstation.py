"""Verbs of a workstation beside training: eval, predict, export, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.options import (
    BadOption,
    BundleArgument,
    ConfidenceOption,
    ConfigOption,
    EngineOption,
    GoodOption,
    JsonFileOption,
    JsonOption,
    MasksOption,
    RateOption,
    SetOption,
    TestDataOption,
    folder_roles,
    load,
    open_model,
    write_json,
)
from edgead.cli.teaching import write_base_bundle
from edgead.config import defaults

if TYPE_CHECKING:
    from edgead.commands.scored_images import ClassMode
    from edgead.evaluation.segmentation import SegmentationKind


def evaluate(
    bundle: BundleArgument = None,
    data: TestDataOption = None,
    good: GoodOption = None,
    bad: BadOption = None,
    masks: MasksOption = None,
    engine: EngineOption = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with images into this folder.")] = None,
    false_alarm_rate: RateOption = None,
    confidence: ConfidenceOption = None,
    class_mode: Annotated[
        str,
        typer.Option(help="Class information for a model of several classes: none, given or predicted."),
    ] = "none",
    segmentation: Annotated[
        str | None,
        typer.Option(
            help="Marked regions to measure: threshold (map above the pixel threshold), or hysteresis or nfa where the "
            "bundle has it; default: those of the bundle."
        ),
    ] = None,
    alignment: Annotated[
        bool,
        typer.Option("--alignment", help="Also correlate likelihood and latent norm of the model; needs torch."),
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also measure copies changed in light, focus, compression and position: 11 changes in 5 strengths.",
        ),
    ] = False,
    robustness_images: Annotated[
        int,
        typer.Option(min=0, help="Most good and most defective images that --robustness changes; 0 = all."),
    ] = defaults.ROBUSTNESS_IMAGES,
    json_file: JsonFileOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Measure detection, localisation and false alarms on labelled images."""
    from edgead.api import evaluate as run
    from edgead.commands.evaluation_report import SEGMENTATIONS
    from edgead.commands.training.requirements import require_torch
    from edgead.evaluation.next_step import found_in_words, next_step
    from edgead.terminal import TerminalProgress, show_evaluation, show_robustness

    if alignment:
        require_torch("--alignment")
    settings = load(config, set_, {"data.root": data, **folder_roles(data, good, bad, masks)})
    with open_model(bundle, engine, settings, false_alarm_rate, confidence) as model, TerminalProgress() as progress:
        result = run(
            model, settings.data.root, report=report, class_mode=_class_mode(class_mode), alignment=alignment,
            segmentation=_segmentation(segmentation), good=settings.data.good, bad=settings.data.bad,
            masks=settings.data.masks, robustness_images=robustness_images if robustness else None, progress=progress,
        )  # fmt: skip
    if json_file is not None:
        write_json(json_file, result.to_json())
    if json_file is None or str(json_file) != "-":
        show_evaluation(result)
        if result.result.mean.marked_good_rate is not None or result.result.mean.mask_iou is not None:
            typer.echo(f"Marked regions: {SEGMENTATIONS[result.segmentation]} ({result.segmentation}).")
        if result.class_accuracy is not None:
            typer.echo(
                f"Class of the part predicted right: {result.class_accuracy:.1%} (class mode: {result.class_mode})."
            )
        if result.alignment is not None:
            typer.echo(result.alignment.describe())
        if result.robustness is not None:
            show_robustness(result.robustness)
        if result.report is not None:
            typer.echo(f"Report: {result.report}")
        typer.echo(found_in_words(result.result))
        typer.echo(
            next_step(result.result) + ("" if result.report else " edgead eval --report DIR shows the pictures.")
        )


def predict(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR", help="Pictures, or folders of pictures.", show_default=False)
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            help="Folder of the bundle, or of the run that made it; default: runs/latest/bundle.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Kind of part that the pictures show; default: unknown."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New or empty folder for heatmaps, JSON and CSV; default: predictions, or predictions-2 and so on."
        ),
    ] = None,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps/--no-heatmaps", help="Write a PNG of each picture with its heatmap.")
    ] = True,
    false_alarm_rate: RateOption = None,
    confidence: ConfidenceOption = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Judge pictures and write heatmaps, JSON and CSV."""
    from edgead.commands.predict import CSV_FILE, HEATMAPS, JSON_FILE, new_folder
    from edgead.commands.predict import predict as run
    from edgead.terminal import TerminalProgress, show_predictions

    settings, folder = load(config, set_, {}), out or new_folder()
    with open_model(bundle, engine, settings, false_alarm_rate, confidence) as model, TerminalProgress() as progress:
        found = run(model, pictures, progress, class_name=class_name, out=folder, heatmaps=heatmaps)
    if json_output:
        write_json(Path("-"), found.to_json())
        return
    show_predictions(found)
    written = [JSON_FILE, CSV_FILE, *([f"{HEATMAPS}/"] if heatmaps else [])]
    typer.echo(f"Written to {folder}: {', '.join(written)}")


def export(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run, or its bundle; default: runs/latest.", show_default=False)
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="DIR",
            help="Write a base bundle into this folder instead, from which `edgead teach` learns new parts; it needs no pictures.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help=f"Side of the square input of a base bundle, in px; default: {defaults.IMAGE_SIZE}."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Export the ONNX graph of a bundle again from its weights, folded and checked; or a base bundle."""
    if base is not None:
        write_base_bundle(base, run, load(config, set_, {"model.image_size": image_size}))
        return
    if image_size is not None or config is not None or set_:
        from edgead.errors import ConfigError

        raise ConfigError(
            "--image-size, --config and --set belong to a base bundle; a run is exported with its own settings.",
            hint="Add --base DIR, or leave them out.",
        )
    from edgead.commands.bundle import bundle_facts
    from edgead.commands.export import export as do
    from edgead.commands.training.runs import LATEST, RUNS
    from edgead.terminal import TerminalProgress, show_facts

    with TerminalProgress() as progress, progress.busy("Exporting"):
        result = do(run or RUNS / LATEST, progress)
    show_facts(bundle_facts(result.bundle.path))
    counts = ", ".join(f"{name} {count}" for name, count in sorted(result.operators.items()))
    typer.echo(f"Operators: {counts}.")


def _complete_part(incomplete: str) -> list[str]:
    from edgead.data.synthetic.parts import PARTS

    return [name for name in PARTS if name.startswith(incomplete)]


def demo(
    out: Annotated[Path, typer.Option(help="Output folder; it must be new or empty.")] = Path("edgead-demo"),
    part: Annotated[
        str, typer.Option(help="Generated part: disc, cap, fabric, board or tray.", autocompletion=_complete_part)
    ] = "disc",
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Run every step on generated parts: training, engine, report, annotated video and alerts."""
    from edgead.commands.demo import demo as run
    from edgead.terminal import TerminalProgress, show_evaluation, show_facts

    settings = load(config, set_, {})
    with TerminalProgress() as progress:
        result = run(settings, progress, out=out, part=part)
    show_evaluation(result.evaluation)
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
    typer.echo(
        f"Next: open {result.evaluation.report} in a browser and play {result.video}; then do the same with your own pictures:"
    )
    typer.echo("edgead train --data FOLDER, with at least twenty pictures of good parts.")


def _class_mode(value: str) -> ClassMode:
    from typing import get_args

    from edgead.commands.scored_images import ClassMode
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
