"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.cli.options import folder_roles, load


@pytest.mark.parametrize(
    ("data", "bad", "expected"),
    [
        (None, None, ((Path("a"),), ())),
        (Path("x"), None, ((), ())),
        (None, [Path("r"), Path("s")], ((), (Path("r"), Path("s")))),
    ],
)
def test_folders_of_the_command_line_replace_those_of_the_file(
    tmp_path: Path, data: Path | None, bad: list[Path] | None, expected: tuple[tuple[Path, ...], tuple[Path, ...]]
) -> None:
    """`--data` or `--bad` on the command line leave nothing of the folders that the settings file names."""
    (tmp_path / "edgead.yaml").write_text("data: {good: [a]}")
    settings = load(tmp_path / "edgead.yaml", None, {"data.root": data, **folder_roles(data, None, bad, None)})
    assert (settings.data.good, settings.data.bad) == expected
