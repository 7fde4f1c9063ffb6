"""Model store as the web server of a running stream sees it."""

from __future__ import annotations

from typing import Any

from edgead.line.model_store import ModelStore


class StoreControl:
    """Lists, activates and rolls back the models of a store."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def describe(self) -> dict[str, Any]:
        return self._store.read().to_json()

    def activate(self, name: str, who: str, why: str) -> None:
        self._store.activate(name, who=who, why=why)

    def roll_back(self, who: str, why: str) -> None:
        self._store.roll_back(who=who, why=why)
