"""`edgead train --each-class` on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from edgead.cli.console import echo
from edgead.cli.options import write_json


def train_classes(
    config: Path | None, asked: dict[str, Any], *, out: Path | None, jobs: int | None, launcher: str | None,
    dry_run: bool, json_output: bool,
) -> None:  # fmt: skip
    """Train every class that is not finished, and print a table or JSON; exit status 1 if one failed."""
    from edgead.commands.train_each import plan_each, train_each
    from edgead.terminal import TerminalProgress, show_class_states, show_class_trainings, show_facts

    with TerminalProgress() as progress:
        plan = plan_each(config, asked, progress, out=out, jobs=jobs, launcher=launcher or "local")
        if not dry_run:
            try:
                result = train_each(plan, progress)
            except KeyboardInterrupt:
                progress.finish()
                n_finished = sum(one.state == "finished" for one in plan.classes)
                echo(
                    f"Interrupted; {n_finished} of {len(plan.classes)} classes are finished. Continue: {plan.again}",
                    err=True,
                )
                raise
    if dry_run:
        if json_output:
            write_json(Path("-"), plan.to_json())
            return
        show_facts(plan.facts())
        show_class_states(plan)
        return
    if json_output:
        write_json(Path("-"), result.to_json())
    else:
        show_class_trainings(result)
        for one in result.failed:
            echo(f"{one.name} failed: {one.error}{f' ({one.hint})' if one.hint else ''}", err=True)
        if result.failed:
            echo(f"Try the failed ones again: {result.again}", err=True)
        else:
            echo(
                f"Next: edgead eval {result.results[0].run} on images with known defects, and the same with the others."
            )
    if result.failed:
        raise typer.Exit(1)
