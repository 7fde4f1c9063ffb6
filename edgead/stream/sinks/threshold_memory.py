"""Thresholds that people set while a stream ran hold for the next one too."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.errors import StorageError
from edgead.storage import write_json
from edgead.stream.alarm_keeper import OWN_NAME
from edgead.stream.result import Notice
from edgead.stream.sinks.sink import Item

_LOG = logging.getLogger(__name__)

FILE = ".thresholds.json"
Place = tuple[str, str]


@dataclass(frozen=True)
class KeptThreshold:
    """A threshold, raw units, and who set it."""

    camera: str
    zone: str
    value: float
    who: str


class ThresholdMemory:
    """A sink that keeps the last threshold that a person set for each zone, for one bundle on one engine.

    Scores of another bundle or engine mean something else: what was set for those is forgotten. A threshold that edgead
    itself chooses afterwards takes the place of a person's.

    Args:
        folder: Of the alerts.
        bundle: Digest of the bundle.
        engine: `<backend>-<precision>`.
    """

    name = "thresholds"
    lossless = True

    def __init__(self, folder: Path, bundle: str, engine: str) -> None:
        self._path = folder / FILE
        self._judge = {"bundle": bundle, "engine": engine}
        self._kept = _read(self._path, self._judge)

    @property
    def kept(self) -> list[KeptThreshold]:
        """What people set in earlier streams, and in this one."""
        return list(self._kept.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def wants(self, item: Item) -> bool:
        return isinstance(item, Notice) and item.kind == "threshold_changed"

    def accept(self, item: Item) -> None:
        assert isinstance(item, Notice)
        values = dict(item.values)
        zone, who, value = str(values.get("zone")), str(values.get("who")), values.get("to")
        if who == OWN_NAME or not isinstance(value, float):
            self._kept.pop((item.camera, zone), None)
        else:
            self._kept[item.camera, zone] = KeptThreshold(item.camera, zone, value, who)
        try:
            write_json(self._path, {**self._judge, "thresholds": [asdict(one) for one in self._kept.values()]})
        except StorageError as error:
            _LOG.error("%s The threshold of %s holds until the stream ends.", error, item.camera)


def _read(path: Path, judge: dict[str, str]) -> dict[Place, KeptThreshold]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {key: content[key] for key in judge} != judge:
            return {}
        found = [KeptThreshold(**one) for one in content["thresholds"]]
        return {(one.camera, one.zone): one for one in found if math.isfinite(one.value)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.warning("%s cannot be read: thresholds set in earlier streams are forgotten", path)
        return {}
