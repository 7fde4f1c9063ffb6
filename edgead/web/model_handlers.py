"""Handlers and models of the line's models: list, install, activate, roll back, learn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints
from starlette.responses import Response

from edgead.errors import ConfigError, EdgeadError
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.models import Answer, Asked, Text
from edgead.web.running_stream import ModelControl

Why = Annotated[Text, StringConstraints(max_length=500)]


class ModelPromise(Answer):
    """Shipped threshold of a kind of part on the model's engine."""

    part: str
    threshold: float = Field(description="Raw units.")
    false_alarm_rate: float = Field(description="Share of good pictures above it, 0..1.")
    certified: bool
    n_images: int = Field(description="Number of good pictures that the rate is known from.")


class ModelFacts(Answer):
    model_config = ConfigDict(protected_namespaces=())

    origin: str = Field(description="Where it comes from, in words.")
    learned: list[str] = Field(description="Alerts whose pictures it learned as good, oldest first.")
    promises: list[ModelPromise]
    has_threshold_images: bool = Field(
        description="Whether there is a picture of the good images that set the threshold."
    )


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
    facts: ModelFacts | None = Field(description="Null if the files of the model cannot be read.")


class ModelActivation(Answer):
    name: str
    at: str
    who: str
    why: str
    kind: str = Field(description="`activate` or `rollback`.")
    left: str = Field("", description="Model that the line left by itself because of its health; empty otherwise.")


class HealthWatch(Answer):
    """First minutes of the running model, after which it stays."""

    bundle: str = Field(description="Digest of the model.")
    seconds: float = Field(description="Watched so far.")
    of_s: float = Field(description="Time of the whole watch, in seconds.")
    alarms: int
    most_alarms: int | None = Field(description="More bring the model before back; null: any number is allowed.")


class Installation(Answer):
    bundle: str
    who: str
    started_at: str
    state: Literal["running", "done", "failed"]
    note: str = Field(description="Last line of its output.")
    error: str
    hint: str
    model: str | None = Field(description="Name of the installed model; null before the end, or after a failure.")


class LineModels(Answer):
    """Models of the line."""

    active: str | None = Field(description="Name of the active model; the running stream changes to it.")
    running: str = Field(description="Digest of the bundle that judges now.")
    running_engine: str = Field(description="Engine that judges now, `<backend>-<precision>`.")
    previous: str | None = Field(description="Model that a roll-back returns to; null if there is none.")
    installed: list[InstalledModel]
    changed: str | None = Field(description="Who made the active model so, when and why, in words.")
    activations: list[ModelActivation] = Field(description="Changes of the active model, oldest first.")
    watch: HealthWatch | None = Field(description="Null once the running model is settled, or where none is watched.")
    installation: Installation | None = Field(description="The last one over REST since the start of the stream.")
    installable: list[str] = Field(description="Bundles in the folder `incoming` of the model store, by name.")


class ActivateRequest(Asked):
    model: str = Field(min_length=1, max_length=64, description="Name of an installed model.")
    why: Why = ""


class RollBackRequest(Asked):
    why: Why = ""
    active: str | None = Field(
        None, max_length=64, description="Name of the model to leave; if another one is active, nothing is changed."
    )


class InstallRequest(Asked):
    bundle: str = Field(min_length=1, max_length=255, description="One of `installable`.")
    precision: Literal["fp32", "fp16", "int8"] | None = Field(
        None, description="Precision of the engine; default: that of the active model."
    )
    activate: bool = Field(False, description="Also make it the active model, when it is installed.")
    why: Why = ""


class LearnRequest(Asked):
    sure: bool = Field(False, description="Learn a picture that looks like a defect too, after a look at it.")


class LearnedAlert(Answer):
    alert: str
    learned: bool
    refusal: str | None = Field(
        description="`silent`: it raises no alarm any more; `defect-like` and `spread`: learned only with `sure`; `twins`, `gate`."
    )
    reason: str | None
    warning: str | None
    score: float
    score_after: float
    positions: int = Field(description="Positions of the map where the picture differs.")
    found_elsewhere: float = Field(
        description="Share of the places at which what looks like the learned pictures is found still."
    )


class ArtificialDefects(Answer):
    first: int = Field(description="Number that the first version finds.")
    lost: int = Field(description="Number of these that are found no longer.")


class Learned(Answer):
    """What came of learning a false alarm."""

    model: str | None = Field(description="Name of the new active model; null if nothing was learned.")
    alerts: list[LearnedAlert]
    artificial_defects: ArtificialDefects


def models(call: Call) -> LineModels:
    return _answer(call, _models(call))


def threshold_images(call: Call) -> Response:
    """The good images with the highest scores, the highest first, each above its heatmap."""
    try:
        content = _models(call).threshold_images(call.request.path_params["model"])
    except EdgeadError as error:
        raise Refusal(404, error.message, hint=error.hint) from error
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def install(call: Call) -> LineModels:
    """Start the installation of a bundle that lies on this device; `installation` of `GET /models` says how far it is."""
    store, asked = _models(call), call.body
    try:
        store.install(asked.bundle, call.who, asked.why, precision=asked.precision, activate=asked.activate)
    except ConfigError as error:
        raise Refusal(404, error.message, hint=error.hint) from error
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    return _answer(call, store)


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
        store.roll_back(call.who, call.body.why, call.body.active)
    except ConfigError as error:
        raise Refusal(409, error.message, hint=error.hint) from error
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    return _answer(call, store)


def learn(call: Call) -> Learned:
    """Teach the active model that an alert was false; answers when the new version is active, after seconds."""
    store, alert = _models(call), call.request.path_params["alert"]
    if call.stream.store.alert(alert) is None:
        raise Refusal(404, "No such alert.", hint="It may have been removed by the retention limits.")
    try:
        return Learned.model_validate(store.learn(alert, call.who, sure=call.body.sure))
    except ConfigError as error:
        raise Refusal(409, error.message, hint=error.hint) from error
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error


def _models(call: Call) -> ModelControl:
    if call.stream.models is None:
        raise Refusal(404, "This stream has no model store.", hint="Start it with `edgead stream --models DIR`.")
    return call.stream.models


def _answer(call: Call, store: ModelControl) -> LineModels:
    try:
        content = store.describe()
    except EdgeadError as error:
        raise Refusal(503, error.message, hint=error.hint, retry_s=5.0) from error
    facts = call.stream.facts
    return LineModels.model_validate({**content, "running": facts.bundle, "running_engine": facts.engine})
