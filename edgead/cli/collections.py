"""`edgead collect` and `edgead dataset`: pictures for training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.console import echo
from edgead.cli.options import (
    CameraOption,
    ConfigOption,
    EngineOption,
    JsonOption,
    RateOption,
    SetOption,
    load,
    write_json,
)
from edgead.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgead.commands.dataset import Added

_NAMED = 5

dataset_app = typer.Typer(
    help="Keep, freeze and exchange judged pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the data set.")]


def collect(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their index; an existing one is continued.")],
    camera: CameraOption = None,
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
    from edgead.commands.collect import collect as run
    from edgead.commands.stream import stop_on_signals
    from edgead.errors import ConfigError
    from edgead.stream.collector import CollectOptions, CollectSummary

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


@dataset_app.command()
def add(
    dataset: DatasetArgument,
    pictures: Annotated[Path, typer.Argument(help="Folder of pictures, collected, exported from alerts, or plain.")],
    verdict: Annotated[
        str | None,
        typer.Option(
            "--as", help="Verdict of pictures that bring none: good, defect, false-alarm, unsure or unjudged."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="Kind of defect or of false alarm, for --as.")] = "",
) -> None:
    """Add the pictures of a folder, each once; the data set is made if it is not there."""
    from edgead.commands.dataset import add_pictures
    from edgead.terminal import TerminalProgress

    with TerminalProgress() as progress:
        added = add_pictures(dataset, pictures, verdict=verdict, kind=kind, progress=progress)
    _show_added(dataset, added)


@dataset_app.command(name="import")
def import_(
    dataset: DatasetArgument,
    source: Annotated[Path, typer.Argument(help="Labelled folder: MVTec AD and others, COCO, labelme, CVAT.")],
) -> None:
    """Add a labelled data set with its kinds of defects and masks."""
    from edgead.commands.dataset import import_dataset
    from edgead.terminal import TerminalProgress

    with TerminalProgress() as progress:
        added = import_dataset(dataset, source, progress)
    _show_added(dataset, added)


@dataset_app.command()
def export(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write; new or empty.")],
    form: Annotated[str, typer.Option("--format", help="Layout: folders, coco or labelme.")] = "folders",
) -> None:
    """Write the pictures judged good, false alarm or defect in a layout that other tools read."""
    from edgead.commands.dataset import export_dataset
    from edgead.terminal import TerminalProgress

    with TerminalProgress() as progress:
        n_written, n_left_out = export_dataset(dataset, out, form, progress)
    echo(f"Wrote {n_written} pictures to {out}; {n_left_out} unsure or unjudged ones are left out.")


@dataset_app.command()
def snapshot(dataset: DatasetArgument) -> None:
    """Freeze the judged pictures as they are now; the same content gives the same snapshot."""
    from edgead.commands.dataset import take_snapshot
    from edgead.terminal import TerminalProgress

    with TerminalProgress() as progress:
        taken = take_snapshot(dataset, progress)
    echo(f"{taken.name}: {taken.n_good} good images and {taken.n_defects} of defects, digest {taken.digest}.")
    echo(f"Train on it: edgead train --from-dataset {dataset}@{taken.name}")


@dataset_app.command(name="list")
def list_(dataset: DatasetArgument, json_output: JsonOption = False) -> None:
    """List the pictures by verdict and kind, and the snapshots."""
    from edgead.commands.dataset import count_pictures

    counts, taken = count_pictures(dataset)
    if json_output:
        pictures = [{"verdict": verdict, "kind": kind, "n": n} for (verdict, kind), n in sorted(counts.items())]
        frozen = [
            {"name": one.name, "digest": one.digest, "n_good": one.n_good, "n_defects": one.n_defects} for one in taken
        ]
        write_json(Path("-"), {"pictures": pictures, "snapshots": frozen})
        return
    echo(f"{sum(counts.values())} pictures")
    for (verdict, kind), n in sorted(counts.items()):
        echo(f"  {verdict}{f', {printable(kind)}' if kind else ''}: {n}")
    for one in taken:
        echo(f"snapshot {one.name}: {one.n_good} good, {one.n_defects} of defects")


@dataset_app.command()
def check(dataset: DatasetArgument) -> None:
    """Compare every picture, mask and snapshot with the index."""
    from edgead.commands.dataset import check_dataset
    from edgead.terminal import TerminalProgress

    with TerminalProgress() as progress:
        problems = check_dataset(dataset, progress)
    for problem in problems:
        echo(printable(problem))
    if problems:
        raise typer.Exit(4)
    echo("Every picture, mask and snapshot is as the index says.")


def snapshot_root(address: str, *, given: Sequence[object]) -> Path:
    """Folder to train on of a data set's snapshot, which is made if it is not named.

    Args:
        address: `DIR`, or `DIR@SNAPSHOT`.
        given: Other options that say what to train on.

    Raises:
        ConfigError: If one of those is given too, or several processes train together and no snapshot is named.
        DataError: If there is no such snapshot, or it is damaged.
    """
    from edgead.commands.dataset import snapshot_to_train
    from edgead.commands.training.device import is_launched_with_others, is_main_process
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress

    if any(given):
        raise ConfigError(
            "--from-dataset says which images are good and which are not; --data, --good, --bad and --masks would too.",
            hint="Give one of them.",
        )
    if is_launched_with_others() and ("@" not in address or Path(address).exists()):
        raise ConfigError(
            f"Several processes train together, and --from-dataset {address} names no snapshot: each would make one.",
            hint=f"Make it first (edgead dataset snapshot {address}), and give --from-dataset {address}@SNAPSHOT.",
        )
    with TerminalProgress() as progress:
        taken = snapshot_to_train(address, progress)
    if is_main_process():
        echo(f"Snapshot {taken.name}: {taken.n_good} good images and {taken.n_defects} of defects.")
    return taken.root


def _show_added(dataset: Path, added: Added) -> None:
    echo(f"{dataset}: {added.n_new} pictures are new, {added.n_known} were there already; {added.n_judged} of those are "
         f"judged now.")  # fmt: skip
    for name, problems in (("not changed", added.conflicts), ("not added", added.broken)):
        for problem in problems[:_NAMED]:
            echo(f"{name}: {printable(problem)}", err=True)
        if len(problems) > _NAMED:
            echo(f"{name}: {len(problems) - _NAMED} more", err=True)
