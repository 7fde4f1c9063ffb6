"""`edgead alerts`: the alerts of a stream, while it runs and afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.options import JsonOption, write_json

alerts_app = typer.Typer(help="Look at alerts, acknowledge them.", no_args_is_help=True, rich_markup_mode=None)

FolderOption = Annotated[Path, typer.Option("--alerts", help="Folder of the stream's alerts.")]
StateOption = Annotated[str | None, typer.Option(help="Only those open, held or closed.")]
CameraOption = Annotated[str | None, typer.Option(help="Only those of this camera.")]


@alerts_app.command(name="list")
def list_(
    alerts: FolderOption = Path("alerts"),
    state: StateOption = None,
    camera: CameraOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json_output: JsonOption = False,
) -> None:
    """Name the newest alerts."""
    from edgead.commands.alerts import list_alerts
    from edgead.terminal import show_alerts

    records = list_alerts(alerts, state=state, camera=camera, limit=limit)
    if json_output:
        write_json(Path("-"), {"alerts": records})
    else:
        show_alerts(records)


@alerts_app.command()
def show(
    alert: Annotated[str, typer.Argument(help="The alert's id.")],
    alerts: FolderOption = Path("alerts"),
    json_output: JsonOption = False,
) -> None:
    """Say everything about an alert, and where its pictures are."""
    from edgead.commands.alerts import show_alert
    from edgead.terminal import show_facts

    record = show_alert(alerts, alert)
    if json_output:
        write_json(Path("-"), record)
    else:
        show_facts([(key, str(value)) for key, value in record.items() if value not in (None, {}, [])])


@alerts_app.command()
def ack(
    alert: Annotated[str, typer.Argument(help="The alert's id.")],
    alerts: FolderOption = Path("alerts"),
    note: Annotated[str, typer.Option(help="For the record.")] = "",
    who: Annotated[str | None, typer.Option(help="Whose word it is; default: the user at the terminal.")] = None,
) -> None:
    """Note that somebody has seen an alert; a held one closes. A stream that runs hears of it."""
    from edgead.commands.alerts import acknowledge

    record = acknowledge(alerts, alert, note=note, who=who)
    typer.echo(f"{record['id']} was acknowledged by {record['acknowledged_by']} and is {record['state']}.")


@alerts_app.command()
def export(
    alerts: FolderOption = Path("alerts"),
    state: StateOption = None,
    camera: CameraOption = None,
    out: Annotated[Path | None, typer.Option(help="Write it here; default: print it.")] = None,
) -> None:
    """Write every record as a line of JSON, oldest first."""
    from edgead.commands.alerts import export_alerts
    from edgead.storage import atomic_path

    if out is None:
        export_alerts(alerts, sys.stdout.write, state=state, camera=camera)
        return
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        n = export_alerts(alerts, file.write, state=state, camera=camera)
    typer.echo(f"Wrote {n} alert{'' if n == 1 else 's'} to {out}.")
