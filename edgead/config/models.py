"""Settings about the models of a running line: the shadow, and the first minutes of a model that took over."""

from __future__ import annotations

from pydantic import Field

from edgead.config.section import Section


class ShadowConfig(Section):
    """Another model that judges a share of the frames and changes nothing."""

    share: float = Field(0.1, gt=0, le=1, description="Share of the frames that the shadow of --shadow judges.")
    max_slowdown: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Added median latency of the active model, as a share, at which the shadow's share is halved.",
    )
    pictures: int = Field(
        12, ge=0, le=1000, description="Pictures kept of each kind of different verdict; 0: none are."
    )


class ModelHealthConfig(Section):
    """Limits whose violation in the first minutes brings back the model before; for a stream with a model store."""

    watch_s: float = Field(
        300.0, ge=0, le=86400, description="Time for which a model is watched after it took over, in seconds; 0: never."
    )
    max_latency_ratio: float = Field(
        2.0, gt=1, le=100, description="Allowed median latency per frame, as a multiple of that of the model before."
    )
    alarms: bool = Field(
        True,
        description="Whether alarms outside the interval that a shadow, or else the model before, lets expect bring it back.",
    )
