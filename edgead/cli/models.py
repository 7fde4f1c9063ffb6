"""Verbs about the models of a line: compare, install, activate, roll back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgead.cli.console import echo
from edgead.cli.options import (
    BadOption,
    ConfidenceOption,
    ConfigOption,
    GoodOption,
    JsonFileOption,
    JsonOption,
    RateOption,
    SetOption,
    TestDataOption,
    folder_roles,
    load,
    open_model,
    write_json,
)

if TYPE_CHECKING:
    from edgead.engines.fingerprint import Precision


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Bundle or run folder of the first model.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Bundle or run folder of the second model.")],
    data: TestDataOption = None,
    good: GoodOption = None,
    bad: BadOption = None,
    engine_a: Annotated[
        str | None, typer.Option(help="Engine of the first model; default: the best one built on this machine.")
    ] = None,
    engine_b: Annotated[
        str | None, typer.Option(help="Engine of the second model; default: the best one built on this machine.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with both heatmaps of changed images into this folder.")
    ] = None,
    false_alarm_rate: RateOption = None,
    confidence: ConfidenceOption = None,
    json_file: JsonFileOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Compare two models on the same labelled images, both at the same promised false-alarm rate."""
    from edgead.commands.compare import Side, bundle_of
    from edgead.commands.compare import compare as run
    from edgead.data.chosen import FolderRoles
    from edgead.terminal import TerminalProgress

    settings = load(config, set_, {"data.root": data, **folder_roles(data, good, bad, None)})
    roles = FolderRoles(settings.data.good, settings.data.bad)
    with (
        open_model(bundle_of(a), engine_a, settings, false_alarm_rate, confidence) as first,
        open_model(bundle_of(b), engine_b, settings, false_alarm_rate, confidence) as second,
        TerminalProgress() as progress,
    ):
        result = run(
            Side(first.bundle, first.runner), Side(second.bundle, second.runner), settings.data.root, progress,
            false_alarm_rate=false_alarm_rate, confidence=confidence, report=report, roles=roles,
        )  # fmt: skip
    if json_file is not None:
        write_json(json_file, result.to_json())
    if json_file is None or str(json_file) != "-":
        for line in result.lines:
            echo(line)
        for change in result.changes:
            image = change.a.image
            echo(f"  {change.kind}: {image.image_path} (A {image.pred_score:.4g}, B {change.b.image.pred_score:.4g})")
        if result.page is not None:
            echo(f"Page: {result.page}")


model_app = typer.Typer(
    help="Install, activate and roll back the models of a line.", no_args_is_help=True, rich_markup_mode=None
)

ModelsOption = Annotated[Path, typer.Option("--models", metavar="DIR", help="Model store of the line.")]
WhoOption = Annotated[str | None, typer.Option(help="Name to record with the change; default: the current user.")]
KeepOption = Annotated[int, typer.Option(min=2, help="Number of models to keep; the oldest others are removed.")]
WhyOption = Annotated[str, typer.Option(help="Reason to record with the change.")]


@model_app.command()
def install(
    bundle: Annotated[Path, typer.Argument(help="Bundle or run folder to install.")],
    models: ModelsOption = Path("models"),
    activate: Annotated[
        bool, typer.Option("--activate", help="Also make it the active model; a running stream changes to it.")
    ] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Build the engine in full precision.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Build the engine in half precision.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Build the engine with 8-bit integers.")] = False,
    other_part: Annotated[
        bool,
        typer.Option(
            "--other-part", help="Accept a bundle for other parts, or another camera, than the active model's."
        ),
    ] = False,
    keep: KeepOption = 3,
    who: WhoOption = None,
    why: WhyOption = "",
    json_output: JsonOption = False,
) -> None:
    """Verify a bundle, build its engine in the precision of the active model, check both, and keep it in the store."""
    import dataclasses

    from edgead.commands.compare import bundle_of
    from edgead.commands.model import InstallOptions
    from edgead.commands.model import install as run
    from edgead.errors import ConfigError
    from edgead.line.model_store import ModelStore
    from edgead.terminal import TerminalProgress

    chosen = [name for name, flag in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if flag]
    if len(chosen) > 1:
        raise ConfigError(f"Choose one precision, got --{' --'.join(chosen)}.")
    precision = cast("Precision", chosen[0]) if chosen else None
    store = ModelStore(models)
    options = InstallOptions(precision, activate=activate, other_part=other_part, keep=keep, who=who, why=why)
    with TerminalProgress() as progress, progress.busy("Installing"):
        model = run(store, bundle_of(bundle), progress, options)
    if json_output:
        write_json(Path("-"), dataclasses.asdict(model))
        return
    is_active = store.read().active == model
    echo(f"Installed {model.name} with the engine {model.engine}; it is {'' if is_active else 'not '}active.")


@model_app.command()
def activate(
    model: Annotated[str, typer.Argument(help="Name of an installed model, as `edgead model list` shows it.")],
    models: ModelsOption = Path("models"),
    who: WhoOption = None,
    why: WhyOption = "",
) -> None:
    """Make an installed model the active one; a running stream changes to it between two frames."""
    from edgead.commands.model import user
    from edgead.line.model_store import ModelStore

    active = ModelStore(models).activate(model, who=who or user(), why=why)
    echo(f"{active.name} is active.")


@model_app.command()
def rollback(models: ModelsOption = Path("models"), who: WhoOption = None, why: WhyOption = "") -> None:
    """Make the model that was active before the active one again."""
    from edgead.commands.model import user
    from edgead.line.model_store import ModelStore

    active = ModelStore(models).roll_back(who=who or user(), why=why)
    echo(f"{active.name} is active again.")


@model_app.command(name="list")
def list_(models: ModelsOption = Path("models"), json_output: JsonOption = False) -> None:
    """List the installed models, with who activated which one, when and why."""
    from edgead.line.model_store import ModelStore

    state = ModelStore(models).read()
    if json_output:
        write_json(Path("-"), state.to_json())
        return
    if not state.installed:
        echo(f"No model is installed in {models}.")
    for one in state.installed:
        mark = "active  " if one == state.active else "previous" if one == state.previous else "        "
        echo(f"{mark}  {one.name}  {one.model}, trained {one.trained_at}, {one.engine}, installed by {one.who}")
    if state.why is not None:
        echo(f"{state.why.name}: {state.why.sentence}.")
