"""Thresholds set by people at run time, kept for the next stream."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgead.contexts import OwnsNothing
from edgead.errors import StorageError
from edgead.storage import write_json
from edgead.stream.consumers.consumer import Item
from edgead.stream.control import OWN_NAME
from edgead.stream.notices import ModelChanged, ThresholdChanged

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

    Thresholds for another bundle or engine are set aside, because their scores differ; they hold again when that bundle and
    engine are back. A threshold that edgead renews within a person's alarm budget still counts as that person's; any other
    threshold chosen by edgead replaces it.

    Args:
        folder: Alert folder.
        bundle: Digest of the bundle.
        engine: `<backend>-<precision>`.
        settings: Description of each zone's configured threshold, stored with it.
        writes: Whether changes are stored; a look at what would hold under another model stores nothing.
    """

    name = "thresholds"
    lossless = True

    def __init__(
        self, folder: Path, bundle: str, engine: str, settings: Mapping[Place, str], *, writes: bool = True
    ) -> None:
        self._path = folder / FILE
        self._settings = settings
        self._writes = writes
        self._read_for(bundle, engine)

    def _read_for(self, bundle: str, engine: str) -> None:
        self._judge = {"bundle": bundle, "engine": engine}
        folder = self._path.parent
        self._own_aside = _aside(folder, self._judge)
        self._others_aside: Path | None = None
        self._kept: dict[Place, KeptThreshold] = {}
        self.forgotten: list[str] = []
        found, judge = _read(self._path)
        if judge == self._judge:
            self._kept = found
            return
        if found and judge is not None:
            self._others_aside = _aside(folder, judge)
            self.forgotten = [
                f"{one.camera}, {one.zone}: the threshold {one.value:.4g} that {one.who} set on the dashboard is not used: it is "
                f"for bundle {judge['bundle'][:12]} with the engine {judge['engine']}, whose scores differ. It is kept in "
                f"{self._others_aside.name} and holds again with these; set it again for the new ones."
                for one in found.values()
            ]
        kept, judge = _read(self._own_aside)
        if judge == self._judge:
            self._kept = kept

    def settle(self) -> None:
        """Set thresholds of another bundle or engine aside in the folder, once the stream owns it."""
        try:
            if self._others_aside is not None:
                self._path.replace(self._others_aside)
                self._others_aside = None
            if self._own_aside.exists():
                write_json(self._path, self._content())
                self._own_aside.unlink()
        except (OSError, StorageError) as error:
            _LOG.error("%s cannot be set aside: %s", self._path, error)

    @property
    def kept(self) -> list[KeptThreshold]:
        """Thresholds set by people, in this stream or earlier ones."""
        return list(self._kept.values())

    def forget(self, camera: str, zone: str) -> None:
        """Discard the threshold of a zone."""
        self._kept.pop((camera, zone), None)
        self._write(camera)

    def wants(self, item: Item) -> bool:
        return isinstance(item, ThresholdChanged | ModelChanged)

    def accept(self, item: Item) -> None:
        if isinstance(item, ModelChanged):
            if item.after is not None:
                self._read_for(item.after.bundle, item.after.engine)
                self.settle()
            return
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

    def _content(self) -> dict[str, Any]:
        return {**self._judge, "thresholds": [asdict(one) for one in self._kept.values()]}

    def _write(self, camera: str) -> None:
        if not self._writes:
            return
        self.settle()
        try:
            write_json(self._path, self._content())
        except StorageError as error:
            _LOG.error("%s The threshold set for %s is lost when the stream ends.", error, camera)


def _aside(folder: Path, judge: Mapping[str, str]) -> Path:
    engine = re.sub(r"[^A-Za-z0-9_-]", "_", judge["engine"])
    return folder / f".thresholds-{judge['bundle'][:12]}-{engine}.json"


def _read(path: Path) -> tuple[dict[Place, KeptThreshold], dict[str, str] | None]:
    """Thresholds of a file, with the bundle and engine that they are for; None if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        judge = {key: str(content[key]) for key in ("bundle", "engine")}
        found = [KeptThreshold(**one) for one in content["thresholds"]]
        return {(one.camera, one.zone): one for one in found if _is_sound(one)}, judge
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.warning("%s cannot be read: thresholds set in earlier streams are discarded", path)
        return {}, None


def _is_sound(one: KeptThreshold) -> bool:
    per_hour = one.alarms_per_hour
    return math.isfinite(one.value) and (per_hour is None or (math.isfinite(per_hour) and per_hour > 0.0))
