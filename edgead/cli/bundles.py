"""`edgead bundle`: inspect and verify a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from edgead.cli.options import (
    BundleArgument,
)

if TYPE_CHECKING:
    pass


bundle_app = typer.Typer(help="Inspect and verify a bundle.", no_args_is_help=True, rich_markup_mode=None)


@bundle_app.command()
def info(bundle: BundleArgument = None) -> None:
    """Verify a bundle and show its content."""
    from edgead.commands.bundle import bundle_facts
    from edgead.commands.training.runs import default_bundle
    from edgead.terminal import show_facts

    show_facts(bundle_facts(bundle or default_bundle()))


@bundle_app.command()
def verify(bundle: BundleArgument = None) -> None:
    """Verify schema, file list, every digest and the thresholds of a bundle."""
    from edgead.commands.bundle import verify_bundle
    from edgead.commands.training.runs import default_bundle

    typer.echo(verify_bundle(bundle or default_bundle()))
