"""Handlers and models of the line's models: list, activate, roll back."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from edgead.errors import ConfigError, EdgeadError
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.models import Answer, Asked, Text
from edgead.web.running_stream import ModelControl

Why = Annotated[Text, StringConstraints(max_length=500)]


class InstalledModel(Answer):
    model_config = ConfigDict(protected_namespaces=())

    name: str
    digest: str
    model: str
    classes: list[str]
    trained_at: str
    engine: str
    installed_at: str
    who: str
    why: str


class ModelActivation(Answer):
    name: str
    at: str
    who: str
    why: str
    kind: str = Field(description="`activate` or `rollback`.")


class LineModels(Answer):
    """Models of the line."""

    active: str | None = Field(description="Name of the active model; the running stream changes to it.")
    running: str = Field(description="Digest of the bundle that judges now.")
    previous: str | None = Field(description="Model that a roll-back returns to; null if there is none.")
    installed: list[InstalledModel]
    activations: list[ModelActivation] = Field(description="Changes of the active model, oldest first.")


class ActivateRequest(Asked):
    model: str = Field(min_length=1, max_length=64, description="Name of an installed model.")
    why: Why = ""


class RollBackRequest(Asked):
    why: Why = ""


def models(call: Call) -> LineModels:
    return _answer(call, _models(call))


def activate(call: Call) -> LineModels:
    """Make an installed model the active one; the stream changes to it within seconds."""
    store = _models(call)
    try:
        store.activate(call.body.model, call.who, call.body.why)
    except ConfigError as error:
        raise Refusal(404, error.message, hint=error.hint) from error
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    return _answer(call, store)


def roll_back(call: Call) -> LineModels:
    store = _models(call)
    try:
        store.roll_back(call.who, call.body.why)
    except ConfigError as error:
        raise Refusal(409, error.message, hint=error.hint) from error
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    return _answer(call, store)


def _models(call: Call) -> ModelControl:
    if call.stream.models is None:
        raise Refusal(404, "This stream has no model store.", hint="Start it with `edgead stream --models DIR`.")
    return call.stream.models


def _answer(call: Call, store: ModelControl) -> LineModels:
    try:
        content = store.describe()
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    return LineModels.model_validate({**content, "running": call.stream.facts.bundle})
