"""Thresholds set by people at run time, kept for the next stream."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgead.contexts import OwnsNothing
from edgead.errors import StorageError
from edgead.storage import write_json
from edgead.stream.consumers.consumer import Item
from edgead.stream.control import OWN_NAME
from edgead.stream.notices import ThresholdChanged

_LOG = logging.getLogger(__name__)

FILE = ".thresholds.json"
Place = tuple[str, str]


@dataclass(frozen=True)
class KeptThreshold:
    """A threshold set by a person.

    Attributes:
        camera, zone: Camera and zone names.
        value: Threshold, raw units.
        who: Name of the person.
        alarms_per_hour: Alarm budget, if one was set; `value` is then the last threshold chosen for it.
        settings: Description of the zone's configured threshold at that time; None in files of earlier versions.
    """

    camera: str
    zone: str
    value: float
    who: str
    alarms_per_hour: float | None = None
    settings: str | None = None


class ThresholdMemory(OwnsNothing):
    """Consumer that stores the last threshold that a person set for each zone, for one bundle on one engine.

    Thresholds for another bundle or engine are discarded, because their scores differ. A threshold that edgead renews
    within a person's alarm budget still counts as that person's; any other threshold chosen by edgead replaces it.

    Args:
        folder: Alert folder.
        bundle: Digest of the bundle.
        engine: `<backend>-<precision>`.
        settings: Description of each zone's configured threshold, stored with it.
    """

    name = "thresholds"
    lossless = True

    def __init__(self, folder: Path, bundle: str, engine: str, settings: Mapping[Place, str]) -> None:
        self._path = folder / FILE
        self._judge = {"bundle": bundle, "engine": engine}
        self._settings = settings
        self._kept = _read(self._path, self._judge)

    @property
    def kept(self) -> list[KeptThreshold]:
        """Thresholds set by people, in this stream or earlier ones."""
        return list(self._kept.values())

    def forget(self, camera: str, zone: str) -> None:
        """Discard the threshold of a zone."""
        self._kept.pop((camera, zone), None)
        self._write(camera)

    def wants(self, item: Item) -> bool:
        return isinstance(item, ThresholdChanged)

    def accept(self, item: Item) -> None:
        assert isinstance(item, ThresholdChanged)
        place, value, per_hour = (item.camera, item.zone), item.after, item.alarms_per_hour
        before = self._kept.get(place)
        if item.who != OWN_NAME:
            self._kept[place] = KeptThreshold(*place, value, item.who, per_hour, self._settings.get(place))
        elif before is not None and per_hour is not None and before.alarms_per_hour == per_hour:
            self._kept[place] = replace(before, value=value)
        elif self._kept.pop(place, None) is None:
            return
        self._write(item.camera)

    def _write(self, camera: str) -> None:
        try:
            write_json(self._path, {**self._judge, "thresholds": [asdict(one) for one in self._kept.values()]})
        except StorageError as error:
            _LOG.error("%s The threshold set for %s is lost when the stream ends.", error, camera)


def _read(path: Path, judge: dict[str, str]) -> dict[Place, KeptThreshold]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {key: content[key] for key in judge} != judge:
            return {}
        found = [KeptThreshold(**one) for one in content["thresholds"]]
        return {(one.camera, one.zone): one for one in found if _is_sound(one)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.warning("%s cannot be read: thresholds set in earlier streams are discarded", path)
        return {}


def _is_sound(one: KeptThreshold) -> bool:
    per_hour = one.alarms_per_hour
    return math.isfinite(one.value) and (per_hour is None or (math.isfinite(per_hour) and per_hour > 0.0))
