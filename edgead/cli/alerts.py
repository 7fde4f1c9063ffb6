"""`edgead alerts`: alerts of a stream, while it runs and afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.console import echo
from edgead.cli.options import JsonOption, write_json
from edgead.printable import printable

alerts_app = typer.Typer(
    help="List, show, acknowledge, judge and export alerts.", no_args_is_help=True, rich_markup_mode=None
)

FolderOption = Annotated[Path, typer.Option("--alerts", help="Alert folder of the stream.")]
StateOption = Annotated[str | None, typer.Option(help="Only alerts in this state: open, held or closed.")]
CameraOption = Annotated[str | None, typer.Option(help="Only alerts of this camera.")]
JudgedOption = Annotated[
    str | None,
    typer.Option(
        "--judged",
        help="Only alerts judged as: defect, false-alarm or unsure; or: judged, unjudged.",
        show_default=False,
    ),
]


@alerts_app.command(name="list")
def list_(
    alerts: FolderOption = Path("alerts"),
    state: StateOption = None,
    camera: CameraOption = None,
    judged: JudgedOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many alerts.")] = 20,
    json_output: JsonOption = False,
) -> None:
    """List alerts, the last to arrive first, also when the clock was wrong."""
    from edgead.commands.alerts import list_alerts
    from edgead.terminal import show_alerts

    records = list_alerts(alerts, state=state, camera=camera, judged=judged, limit=limit)
    if json_output:
        write_json(Path("-"), {"alerts": records})
    else:
        show_alerts(records)


@alerts_app.command()
def show(
    alert: Annotated[str, typer.Argument(help="Id of the alert, as `edgead alerts list` shows it.")],
    alerts: FolderOption = Path("alerts"),
    json_output: JsonOption = False,
) -> None:
    """Show the record of an alert and where its pictures are."""
    from edgead.commands.alerts import show_alert
    from edgead.terminal import show_facts

    record = show_alert(alerts, alert)
    if json_output:
        write_json(Path("-"), record)
    else:
        show_facts([(key, str(value)) for key, value in record.items() if value not in (None, {}, [])])


@alerts_app.command()
def ack(
    alert: Annotated[str, typer.Argument(help="Id of the alert, as `edgead alerts list` shows it.")],
    alerts: FolderOption = Path("alerts"),
    note: Annotated[str, typer.Option(help="Note to store with the acknowledgement.")] = "",
    who: Annotated[str | None, typer.Option(help="Who acknowledges the alert; default: the current user.")] = None,
) -> None:
    """Acknowledge an alert; a held one closes, also in a running stream."""
    from edgead.commands.alerts import acknowledge

    record = acknowledge(alerts, alert, note=note, who=who)
    echo(f"{record['id']} was acknowledged by {printable(record['acknowledged_by'])} and is {record['state']}.")


@alerts_app.command()
def judge(
    alert: Annotated[str, typer.Argument(help="Id of the alert, as `edgead alerts list` shows it.")],
    judgement: Annotated[str, typer.Option("--as", help="Judgement: defect, false-alarm or unsure.")],
    alerts: FolderOption = Path("alerts"),
    kind: Annotated[str, typer.Option(help="Kind of defect or of false alarm, such as scratch.")] = "",
    note: Annotated[str, typer.Option(help="Note to store with the judgement.")] = "",
    who: Annotated[str | None, typer.Option(help="Who judges the alert; default: the current user.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier judgement.")] = False,
) -> None:
    """Say whether an alert was a defect, also while the stream runs; the sinks get an event."""
    from edgead.commands.alerts import judge as judge_alert

    record = judge_alert(alerts, alert, judgement, kind=kind, note=note, who=who, replace=replace)
    about = f" ({printable(record['judgement_kind'])})" if record["judgement_kind"] else ""
    echo(f"{record['id']} was judged {record['judgement']}{about} by {printable(record['judged_by'])}.")


@alerts_app.command()
def export(
    alerts: FolderOption = Path("alerts"),
    state: StateOption = None,
    camera: CameraOption = None,
    judged: JudgedOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only alerts opened at this time or later, e.g. 2026-11-23.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only alerts opened before this time, e.g. 2026-11-24T06:00.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the records to this file; default: stdout.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write the pictures to this folder, with an index and the records, instead.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Write everything stored of them into one ZIP file with a page to look at, instead.",
        ),
    ] = None,
) -> None:
    """Export every alert record as a line of JSON, oldest first, or the pictures of alerts as a folder or one archive."""
    from edgead.commands.alerts import export_alerts, export_pictures, list_alerts
    from edgead.errors import ConfigError
    from edgead.storage import atomic_path

    if sum(given is not None for given in (out, pictures, archive)) > 1:
        raise ConfigError(
            "export takes one of --out, --pictures and --archive.",
            hint="--pictures and --archive write the records too.",
        )
    records = list_alerts(alerts, state=state, camera=camera, judged=judged, since=since, until=until)
    if archive is not None:
        from edgead.commands.case_archive import write_case
        from edgead.commands.judged_frames import frames_of
        from edgead.terminal import TerminalProgress

        judged_frames = frames_of(alerts, state=state, camera=camera, judged=judged, since=since, until=until)
        with TerminalProgress() as progress:
            case = write_case(alerts, archive, records, judged_frames, progress)
        echo(f"Wrote {case.n_alerts} alerts and {case.n_frames} judged frames with {case.n_files} pictures and clips to "
             f"{archive}; {case.n_missing} are no longer stored.")  # fmt: skip
        return
    if pictures is not None:
        from edgead.commands.judged_frames import export_frames
        from edgead.terminal import TerminalProgress

        with TerminalProgress() as progress:
            done = export_pictures(alerts, pictures, records, progress)
        echo(f"Wrote {done.n_new} pictures of {done.n_alerts} alerts to {pictures}; {done.n_known} were there already, "
             f"{done.n_missing} are no longer stored.")  # fmt: skip
        frames = export_frames(alerts, pictures, state=state, camera=camera, judged=judged, since=since, until=until)
        if frames != type(frames)(0, 0, 0):
            echo(f"Wrote {frames.n_new} frames judged without an alert; {frames.n_known} were there already, "
                 f"{frames.n_missing} are no longer stored.")  # fmt: skip
        return
    if out is None:
        export_alerts(records, sys.stdout.write)
        return
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        export_alerts(records, file.write)
    echo(f"Wrote {len(records)} alert{'' if len(records) == 1 else 's'} to {out}.")
