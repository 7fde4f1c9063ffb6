"""Memory of the retained topics of a sink, so that those of cameras that are gone can be cleared."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from edgead.errors import StorageError
from edgead.storage import write_json

_LOG = logging.getLogger(__name__)


class RetainedTopics:
    """File with the topics that a sink has published as retained messages.

    Args:
        folder: Folder of the file; None remembers nothing.
        sink: Name of the sink.
    """

    def __init__(self, folder: Path | None, sink: str) -> None:
        name = f".mqtt-{hashlib.sha256(sink.encode()).hexdigest()[:12]}"
        self._path = None if folder is None else folder / name
        self.known = self._read()

    def keep(self, topics: Iterable[str]) -> None:
        """Replace the topics; a failing disk is logged, and the topics are known until the stream ends."""
        wanted = set(topics)
        if wanted == self.known:
            return
        self.known = wanted
        if self._path is None:
            return
        try:
            write_json(self._path, {"topics": sorted(wanted)})
        except StorageError as error:
            _LOG.debug("%s The retained topics are not remembered.", error)

    def _read(self) -> set[str]:
        if self._path is None:
            return set()
        try:
            return {str(topic) for topic in json.loads(self._path.read_text(encoding="utf-8"))["topics"]}
        except (OSError, ValueError, KeyError, TypeError):
            return set()
