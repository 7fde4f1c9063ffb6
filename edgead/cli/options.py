"""Options and helpers shared by several verbs: settings, engine, JSON output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli.console import echo

if TYPE_CHECKING:
    from edgead.config.root import Config
    from edgead.model import Model


def complete_engine(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the engines of the bundle that is named on the line so far, or of the newest run's."""
    from edgead.commands.training.runs import BUNDLE, default_bundle

    named = context.params.get("bundle")
    bundle = default_bundle() if named is None else Path(named)
    folders = [*bundle.glob("engines/*/"), *bundle.glob(f"{BUNDLE}/engines/*/")]
    names = ["reference", *sorted({folder.name for folder in folders if not folder.name.startswith(".")})]
    return [name for name in names if name.startswith(incomplete)]


def checked_camera(value: str | None) -> str | None:
    """Refuse a value of --camera that is neither a number nor a path."""
    if value is not None and not value.startswith("/") and not (value.isascii() and value.isdigit()):
        raise typer.BadParameter(f"a camera is a number, as 0, or a path, as /dev/v4l/by-id/NAME (got {value!r})")
    return value


ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings; default: ./edgead.yaml where it exists.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable.")
]
BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of the bundle, or of the run that made it; default: runs/latest/bundle.", show_default=False
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Engine to use: BACKEND-PRECISION, a path or `reference`; default: the best one built on this machine.",
        autocompletion=complete_engine,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write the results as JSON to this file; - is stdout.")
]
TestDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data set with a test part, or a folder good/ beside folders of defects; default: ./data."
    ),
]
CameraOption = Annotated[
    str | None,
    typer.Option(
        "--camera",
        metavar="N|PATH",
        callback=checked_camera,
        help="A camera of this machine: its index, e.g. 0, or its path, e.g. /dev/v4l/by-id/NAME.",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--false-alarm-rate",
        help="Use the threshold for this false-alarm rate, e.g. 0.001; default: the rate set in training.",
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        "--confidence",
        help="Use the threshold that keeps its false-alarm rate with this probability, e.g. 0.95; default: that set in "
        "training, or else the rate is kept on average over trainings.",
    ),
]
GoodOption = Annotated[
    list[Path] | None,
    typer.Option("--good", metavar="DIR", help="Folder of good images, whatever its name; repeatable."),
]
BadOption = Annotated[
    list[Path] | None,
    typer.Option("--bad", metavar="DIR", help="Folder of defective images, whatever its name; repeatable."),
]
MasksOption = Annotated[
    list[Path] | None,
    typer.Option("--masks", metavar="DIR", help="Folder of masks or annotations for --good and --bad; repeatable."),
]


def folder_roles(
    data: Path | None, good: list[Path] | None, bad: list[Path] | None, masks: list[Path] | None
) -> dict[str, Any]:
    """Settings of folders by their content; any of these options replaces all such folders of the settings file."""
    folders = {"data.good": good, "data.bad": bad, "data.masks": masks}
    if data is None and not any(folders.values()):
        return {}
    return {key: [str(path) for path in paths or ()] for key, paths in folders.items()}


def overrides_of(assignments: list[str] | None, options: dict[str, Any]) -> dict[str, Any]:
    """Value per dotted key that the command line asks for: `--set`, and the options that were given."""
    from edgead.config.file import parse_override

    overrides = dict(parse_override(text) for text in assignments or [])
    return overrides | {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items() if value is not None
    }


def load(path: Path | None, assignments: list[str] | None, options: dict[str, Any]) -> Config:
    from edgead.config.file import load_config

    return load_config(path, overrides_of(assignments, options))


def open_model(
    path: Path | None,
    engine: str | None,
    settings: Config,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
) -> Model:
    from edgead.commands.training.runs import default_bundle
    from edgead.model import load

    return load(
        path or default_bundle(), engine=engine, threads=settings.engine.threads, device=settings.engine.device,
        false_alarm_rate=false_alarm_rate, confidence=confidence, on_note=lambda text: echo(f"note: {text}", err=True),
    )  # fmt: skip


def write_json(path: Path, content: dict[str, Any]) -> None:
    import json

    if str(path) == "-":
        typer.echo(json.dumps(content, indent=2, allow_nan=False).replace("\x7f", "\\u007f"))
        return
    from edgead.storage import write_json

    write_json(path, content)
