"""Models of the fake device: a store of two, whose changes a test lets the line follow or not."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from edgead.web.model_handlers import (
    HealthWatch,
    Installation,
    InstalledModel,
    LineModels,
    ModelActivation,
    ModelFacts,
    ModelPromise,
)

FIRST, SECOND = "a" * 12, "b" * 12


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class FakeModels:
    """Answers as `/api/v1/models` does.

    Attributes:
        running: Name of the model that judges; a test sets it, or calls `take_over`.
        asked: Requests that changed something, with who sent them.
        error: Message of a store that refuses every change.
    """

    def __init__(self) -> None:
        self.installed = [_model(FIRST, "onnxruntime-fp32", 0.005), _model(SECOND, "onnxruntime-int8", 0.25)]
        self.activations = [ModelActivation(name=FIRST, at=now(), who="Bob", why="first", kind="activate")]
        self.trail = [FIRST]
        self.running = FIRST
        self.watch: HealthWatch | None = None
        self.installation: Installation | None = None
        self.installable: list[str] = []
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.error = ""

    def answer(self) -> dict[str, Any]:
        running = next(one for one in self.installed if one.name == self.running)
        last = self.activations[-1]
        verb = "rolled back to it" if last.kind == "rollback" else "activated it"
        answer = LineModels(
            active=self.trail[-1], running=f"sha256:{running.digest}", running_engine=running.engine,
            previous=self.trail[-2] if len(self.trail) > 1 else None, installed=self.installed,
            changed=f"{last.who} {verb} at {last.at}{f': {last.why}' if last.why else ''}", activations=self.activations,
            watch=self.watch, installation=self.installation, installable=self.installable,
        )  # fmt: skip
        return answer.model_dump(mode="json")

    def post(self, what: str, body: dict[str, Any], who: str) -> tuple[int, str]:
        """Carry out a request; status and message of an error."""
        if self.error:
            return 503, self.error
        if body.get("active", self.trail[-1]) != self.trail[-1]:
            return 409, f"{self.trail[-1]} is active now and no longer {body['active']}: nothing was changed."
        self.asked.append((what, body, who))
        if what == "activate":
            self.activate(body["model"], who, body["why"])
        elif what == "rollback":
            self.trail.pop()
            self.activations.append(
                ModelActivation(name=self.trail[-1], at=now(), who=who, why=body["why"], kind="rollback")
            )
        else:
            self.installation = Installation(
                bundle=body["bundle"],
                who=who,
                started_at=now(),
                state="running",
                note="",
                error="",
                hint="",
                model=None,
            )
            return 202, ""
        return 200, ""

    def activate(self, name: str, who: str, why: str = "") -> None:
        self.trail = [*(one for one in self.trail if one != name), name]
        self.activations.append(ModelActivation(name=name, at=now(), who=who, why=why, kind="activate"))

    def learn(self, name: str, alert: str) -> None:
        """A new version of the active model, which judges at once."""
        model = _model(name, "onnxruntime-fp32", 0.005, learned=[alert], why=f"learned 1 false alarm: {alert}")
        self.installed = [*(one for one in self.installed if one.name != name), model]
        self.activate(name, "Ada", model.why)
        self.running = name

    def bring_back(self, why: str, *, left: str = "") -> None:
        """Make the model before the active one again, as edgead itself does."""
        self.trail.pop()
        self.activations.append(
            ModelActivation(name=self.trail[-1], at=now(), who="edgead", why=why, kind="rollback", left=left)
        )
        self.running = self.trail[-1]


def _model(
    name: str, engine: str, rate: float, *, learned: list[str] | None = None, why: str = "new lens"
) -> InstalledModel:
    promise = ModelPromise(part="washer", threshold=4.0, false_alarm_rate=rate, certified=True, n_images=209)
    return InstalledModel(
        name=name, digest=(name * 6)[:64], model="usf", classes=["washer"], trained_at=now(), engine=engine,
        installed_at=now(), who="Bob", why=why,
        facts=ModelFacts(origin="trained", learned=learned or [], promises=[promise], has_threshold_images=name == FIRST),
    )  # fmt: skip
