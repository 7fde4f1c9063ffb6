"""Verbs that choose between models: compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.console import echo
from edgead.cli.options import (
    BadOption,
    ConfidenceOption,
    ConfigOption,
    GoodOption,
    RateOption,
    SetOption,
    folder_roles,
    load,
    open_model,
    write_json,
)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Bundle or run folder of the first model.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Bundle or run folder of the second model.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set with a test part, or a folder good/ beside folders of defects; default: ./data."),
    ] = None,
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
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results as JSON to this file; - is stdout.")
    ] = None,
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
