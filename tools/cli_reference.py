"""Write the command-line reference from the command line itself: `python tools/cli_reference.py`.

With `--check` it changes nothing and exits with 1 when `docs/cli.md` is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from edgead.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN, END = "<!-- command line: made by tools/cli_reference.py -->", "<!-- end of command line -->"


def main() -> int:
    """Rewrite or check the section."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{reference()}{END}{after}"
    if "--check" in sys.argv:
        return 0 if wanted == text else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


def reference() -> str:
    """Every verb with its sentence and a table of its arguments and options."""
    group: Any = typer.main.get_command(app)
    return "".join(_verb(f"edgead {name}", command) for name, command in group.commands.items())


def _verb(name: str, command: Any) -> str:  # Typer's own click classes are private
    if getattr(command, "commands", None):
        return "".join(_verb(f"{name} {child}", nested) for child, nested in command.commands.items())
    lines = [f"\n## `{name}`\n\n{command.help}\n"]
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        lines += ["\n| | |\n|---|---|\n", *rows]
    return "".join(lines)


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`[{parameter.name.upper()}]`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
        name = f"`{parameter.opts[0]}{value}`"
    default = parameter.default
    shown = "" if default is None or parameter.is_flag or callable(default) else f" [default: {default}]"
    return f"| {name} | {parameter.help}{shown} |\n"


if __name__ == "__main__":
    sys.exit(main())
