"""The verb `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgead.cli.collections import snapshot_root
from edgead.cli.console import echo
from edgead.cli.each_class import train_classes
from edgead.cli.options import (
    BadOption,
    ConfigOption,
    GoodOption,
    MasksOption,
    SetOption,
    folder_roles,
    overrides_of,
)
from edgead.config import defaults
from edgead.config.families import FAMILIES, default_text, names_text


def train(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="The same as --data, without its name.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder of good images, or a data set in a known layout; default: ./{defaults.DATA_ROOT}."),
    ] = None,
    from_dataset: Annotated[
        str | None,
        typer.Option(
            "--from-dataset",
            metavar="DIR[@SNAPSHOT]",
            help="Train on a data set that `edgead dataset add` made: its present content, or a snapshot of it.",
        ),
    ] = None,
    good: GoodOption = None,
    bad: BadOption = None,
    masks: MasksOption = None,
    known_defects: Annotated[
        list[Path] | None,
        typer.Option(
            "--known-defects",
            metavar="DIR",
            help="Folder of pictures with known defects, a folder for each kind: five or more help to choose the form of the model, never "
            "its thresholds; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Detector: {names_text(note=' (default)')}.",
            autocompletion=lambda incomplete: [name for name in FAMILIES if name.startswith(incomplete)],
        ),
    ] = None,
    coupling: Annotated[
        str | None, typer.Option(help="Coupling of the flow: uniform or affine; default: that of the model.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help=f"Base distribution: normal, or altub, a learnable Gaussian; default: {defaults.BASE}."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"Backbone: any timm model with feature maps; default: {defaults.BACKBONE}.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Backbone weights: lite0, lite1 or lite2 (packages), timm (hub) or a file (.safetensors, .pth, .bin); default: the installed package, else timm."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="NAME", help="Good image to leave out, by name or pattern; repeatable."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help=f"Side of the square input in px, made a multiple of the backbone's strides; default: {defaults.IMAGE_SIZE}."
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="off|auto|on",
            help="Move every frame so that its part lies as in a reference picture made of good images, for parts that do not "
            "lie still; auto: where that makes good images clearly more alike; default: off.",
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Part of every frame to judge: a box, or corners X,Y,X,Y,... of a polygon; as shares of the frame, or in pixels.",
        ),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNSxROWS",
            help="Cut every frame into tiles, each judged at the full input size, or `native`: at the frame's own scale; "
            "default: 1x1.",
        ),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Overlap of neighbouring tiles, as a share of a tile's side; default: 0.1.")
    ] = None,
    keep_aspect: Annotated[
        bool | None,
        typer.Option("--keep-aspect", help="Pad frames or tiles to a square instead of stretching them."),
    ] = None,
    composition: Annotated[
        bool | None,
        typer.Option(
            "--composition",
            help="Also raise an alarm where parts are missing, extra or swapped, wherever in the image they lie.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="fast|balanced|accurate",
            help=f"Inputs and backbones to try: fast 224 and 320 px, balanced 320 and 640 px, accurate also 448 px and a larger "
            f"backbone; default: {defaults.PRESET}.",
        ),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            help="Longest time of the backbone for a larger input or another backbone, in ms on this machine or the board of "
            "--budget-bench; default: any."
        ),
    ] = None,
    budget_bench: Annotated[
        list[Path] | None,
        typer.Option(
            help="Result of `edgead bench --json FILE` on the board, whose times then count in place of this machine's; may be repeated."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help=f"Maximum number of passes over the images; default: {default_text('epochs', defaults.EPOCHS)}."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help=f"Training device: auto, cpu, cuda, cuda:N or mps; default: {defaults.DEVICE}.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=f"Random seed; default: {defaults.SEED}.")] = None,
    add_to: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Add the classes of the new images to a model of hgad in closed form; its other classes stay as they are.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run, or of the runs of --each-class; default: a new one in ./runs, or ./runs/ and the name of DATA."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume an interrupted run with its own settings: the run in --out, else the newest unfinished one.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what the training would do and need, without training.")
    ] = False,
    each_class: Annotated[
        bool,
        typer.Option(
            "--each-class",
            help="Train a model of each folder in DATA by itself, in --out/CLASS; finished ones are skipped, interrupted ones "
            "resumed.",
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trainings of --each-class at a time; default: as many as the cores and the free memory allow.",
        ),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="local|ray",
            help="Where --each-class trains: processes of this machine, or the Ray cluster at RAY_ADDRESS; default: local.",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the result of --each-class as one JSON object on stdout.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Train on good images and write a bundle."""
    from edgead.api import train_bundle
    from edgead.commands.training.device import is_main_process
    from edgead.terminal import TerminalProgress, show_facts

    data = _one_folder(folder, data)
    if each_class and from_dataset is not None:
        from edgead.errors import ConfigError

        raise ConfigError(
            "--from-dataset names one data set, and --each-class a folder of several.", hint="Leave out one of them."
        )
    if from_dataset is not None:
        data = snapshot_root(from_dataset, given=[data, good, bad, masks])
    options = {
        "data.root": data, "model.name": model, "model.coupling": coupling, "model.base": base, "model.backbone": backbone,
        "model.weights": weights, "model.image_size": image_size, "train.epochs": epochs, "train.device": device,
        "train.seed": seed, "train.preset": preset, "train.budget_ms": budget_ms,
        "train.budget_bench": [str(path) for path in budget_bench or ()] or None, "train.add_to": add_to, "data.exclude": exclude or None,
        "data.crop": None if crop is None else _numbers("--crop", crop), "data.tiles": tiles, "data.align": align,
        "data.overlap": overlap, "data.keep_aspect": keep_aspect,
        "model.composition": defaults.COMPOSITION if composition else None,
        "data.known_defects": [str(path) for path in known_defects or ()] or None,
        **folder_roles(data, good, bad, masks),
    }  # fmt: skip
    asked = overrides_of(set_, options)
    if each_class:
        train_classes(config, asked, out=out, jobs=jobs, launcher=launcher, dry_run=dry_run, json_output=json_output)
        return
    if jobs is not None or launcher is not None or json_output:
        from edgead.errors import ConfigError

        raise ConfigError("--jobs, --launcher and --json belong to --each-class.", hint="Add it, or leave them out.")
    if dry_run:
        _dry_run(config, asked, out, resume)
        return
    with TerminalProgress() as progress:
        result = train_bundle(settings=asked, config=config, progress=progress, out=out, resume=resume)
    if not is_main_process():
        return
    from edgead.commands.bundle import bundle_facts, first_facts

    show_facts(first_facts(bundle_facts(result.bundle.path)))
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    typer.echo(f"Took {sum(result.seconds.values()):.0f} s: {stages}.")
    for line in result.verdict.lines() if result.verdict is not None else ():
        echo(line)
    typer.echo(
        "Next: edgead eval on images with known defects (edgead predict FILE shows single ones), then edgead build-engine and "
        "edgead stream --camera 0"
    )


def _one_folder(folder: Path | None, data: Path | None) -> Path | None:
    from edgead.errors import ConfigError

    if folder is not None and data is not None and folder != data:
        raise ConfigError(f"Name one folder of images, got {folder} and --data {data}.")
    return data if folder is None else folder


def _dry_run(config: Path | None, asked: dict[str, Any], out: Path | None, resume: bool) -> None:
    from edgead.commands.training.device import is_main_process
    from edgead.commands.training.dry_run import dry_run
    from edgead.commands.training.requirements import require_torch
    from edgead.commands.training.resume import resumed_config
    from edgead.commands.training.runs import RUNS
    from edgead.config.file import load_config
    from edgead.terminal import TerminalProgress, show_facts

    if not is_main_process():
        return
    require_torch("A dry run")
    with TerminalProgress() as progress:
        settings = resumed_config(config, asked, progress, out=out, runs=RUNS) if resume else load_config(config, asked)
        plan = dry_run(settings, progress, out=out, runs=RUNS)
    show_facts(plan.facts)
    plan.check()


def _numbers(option: str, text: str) -> list[float]:
    from edgead.errors import ConfigError

    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} takes numbers with commas between them, got {text!r}.", hint="For example 0.1,0.2,0.5,0.6."
        ) from None
