"""Teaching a new part on a device, and the base bundle that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.alerts import FolderOption
from edgead.cli.console import echo
from edgead.cli.models import KeepOption, ModelsOption, WhoOption
from edgead.cli.options import CameraOption, ConfigOption, JsonOption, SetOption, load, write_json

if TYPE_CHECKING:
    from edgead.config.root import Config


def teach(
    base: Annotated[
        Path | None,
        typer.Option(help="Base bundle of `edgead export --base DIR`; default: that of the teaching in --out."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of good pictures, or a data set in a known layout.")] = None,
    camera: CameraOption = None,
    source: Annotated[
        str | None,
        typer.Option(help="Source of frames: an rtsp:// or http:// URL, csi:N, gst:LINE, a video or a folder."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of good parts to accept; default: 10 of a camera, all pictures of --data."),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0, help="Shortest time between two accepted frames of a camera, in seconds.")
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the teaching; an existing one gets a new version; default: a new one in ./runs."),
    ] = None,
    refine: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Teaching that more parts are added to; the same as --out RUN.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Picture of the teaching to leave out from now on, e.g. 0004.png; repeatable."
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Learn a new part on this machine from a few good pictures or a camera, without torch."""
    from edgead.commands.bundle import bundle_facts
    from edgead.commands.teach import TeachOptions
    from edgead.commands.teach import teach as run
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress, show_facts

    given = [
        name for name, value in (("--data", data), ("--camera", camera), ("--source", source)) if value is not None
    ]
    if len(given) > 1 or (not given and not drop):
        raise ConfigError(
            f"Teaching takes pictures from one place: --data, --camera or --source, got {' and '.join(given) or 'none'}.",
            hint="For example --camera 0.",
        )
    if out is not None and refine is not None and out != refine:
        raise ConfigError(
            "--refine adds to a teaching, and --out names one: give one of them.", hint="Leave out --out."
        )
    if refine is not None and not (refine / "teach.json").is_file():
        raise ConfigError(f"{refine} is no teaching: it has no teach.json.", hint="Name the folder of `edgead teach`.")
    address = f"camera:{camera}" if camera is not None and camera.isdigit() else camera or source
    options = TeachOptions(base, out or refine, data, address, count, every, tuple(drop or ()))
    with TerminalProgress() as progress:
        result = run(options, load(config, set_, {}), progress)
    show_facts(bundle_facts(result.bundle.path))
    for sentence in result.verdict.sentences():
        typer.echo(sentence)
    bundle = result.run / "bundle"
    typer.echo(f"Version {result.version}: {bundle}. Earlier versions stay in {result.run / 'versions'}.")
    typer.echo(
        f"Next: edgead stream {bundle} --camera 0; with more parts: edgead teach --refine {result.run} --camera 0"
    )


def learn(
    alert: Annotated[
        list[str] | None,
        typer.Argument(
            help="Id of an alert judged a false alarm; default: all of them, and frames judged good, that were not learned yet."
        ),
    ] = None,
    alerts: FolderOption = Path("alerts"),
    models: ModelsOption = Path("models"),
    sure: Annotated[
        bool, typer.Option("--sure", help="Learn pictures that look like a defect too; look at them first.")
    ] = False,
    activate: Annotated[
        bool, typer.Option("--activate/--no-activate", help="Make the new version the active model.")
    ] = True,
    keep: KeepOption = 3,
    who: WhoOption = None,
    json_output: JsonOption = False,
) -> None:
    """Learn false alarms at once, on this machine: the active model gets a new version that takes their pictures as good."""
    from edgead.commands.learn import LearnOptions
    from edgead.commands.learn import learn as run
    from edgead.errors import CheckFailed
    from edgead.line.model_store import ModelStore
    from edgead.terminal import TerminalProgress

    options = LearnOptions(tuple(alert or ()), sure=sure, activate=activate, keep=keep, who=who)
    with TerminalProgress() as progress:
        model, result = run(ModelStore(models), alerts, progress, options)
    if json_output:
        write_json(Path("-"), result.to_json(model))
    else:
        for line in result.lines(model, models, is_active=activate):
            echo(line)
    refused = [picture.alert for picture, outcome in result.outcomes if outcome.refusal not in (None, "silent")]
    if model is None and refused:
        raise CheckFailed(
            f"Nothing was learned: {', '.join(refused[:5])} {'was' if len(refused) == 1 else 'were'} refused.",
            hint="Look at the pictures. Good parts that look like a defect are learned with --sure; the others need a training: "
            "edgead train --from-dataset SET",
        )


def write_base_bundle(path: Path, run: Path | None, settings: Config) -> None:
    """Write a base bundle and show what it is: `edgead export --base DIR`."""
    from edgead.commands.export_base import export_base
    from edgead.errors import ConfigError
    from edgead.terminal import TerminalProgress, show_facts

    if run is not None:
        raise ConfigError(f"A base bundle is made from settings, not from a run, got {run}.", hint="Leave out the run.")
    with TerminalProgress() as progress:
        base = export_base(settings, path, progress)
    manifest = base.manifest
    show_facts(
        [
            ("base bundle", str(base.path)),
            ("backbone", manifest.backbone),
            ("input", f"{base.image_size[0]} x {base.image_size[1]} px"),
            ("forms", ", ".join(manifest.forms)),
            ("digest", base.digest),
        ]
    )
    typer.echo(f"Next: copy the folder to the device, then edgead teach --base {path} --camera 0")
