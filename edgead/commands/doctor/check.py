"""Result of one check, and of all checks together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "info", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis.

    Attributes:
        name: Subject of the check.
        status: `failed` = edgead cannot work; `warning` = works, but slower or with restrictions.
        detail: Finding and its meaning.
        advice: Recommended action; empty if there is nothing to do.
        group: Heading for the display.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""
    group: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All checks; `ok` unless one failed."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return not self.count("failed")

    def count(self, status: Status) -> int:
        """Number of checks with this status."""
        return sum(check.status == status for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `doctor --json`."""
        checks = [
            {"name": c.name, "status": c.status, "detail": c.detail, "advice": c.advice, "group": c.group}
            for c in self.checks
        ]
        return {"checks": checks, "ok": self.ok}
