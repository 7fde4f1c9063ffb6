"""What a check says, and what all of them say together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "info", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis.

    Attributes:
        name: What was looked at.
        status: `failed` is what edgead cannot work with; `warning` what will disappoint.
        detail: What was seen, and what it means.
        advice: What to do; empty where there is nothing to do.
        group: The heading that it stands under.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""
    group: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Every check; `ok` unless one failed."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return not self.count("failed")

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(check.status == status for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `doctor --json`."""
        checks = [
            {"name": c.name, "status": c.status, "detail": c.detail, "advice": c.advice, "group": c.group}
            for c in self.checks
        ]
        return {"checks": checks, "ok": self.ok}
