"""A model that is ready to take over the frames of a running stream."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgead.stream.camera import Camera
from edgead.stream.scorer import Scorer


@dataclass(frozen=True)
class TakeOver:
    """Request to judge by another model, carried out between two calls of the engine.

    Attributes:
        scorer: Scorer with an open runner that has run before.
        cameras: Every camera of the stream by name, with thresholds and rules for the new model; their sources are those
            that run.
        who, why: Person or program, and reason.
        values: Further values of the event.
        done: Set when the model has taken over; the runner of the one before is then used no more.
    """

    scorer: Scorer
    cameras: Mapping[str, Camera]
    who: str
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
