"""Upgrades of files written by an older edgead: the only place that knows their names.

Each function takes parsed JSON or YAML and returns it in today's form; what is already in that form, or is no mapping
at all, comes back as it was, for the validation that follows. Nothing on disk is rewritten: a bundle keeps its digest.
"""

from __future__ import annotations

from typing import Any

# settings: dotted key until schema 1 -> today's
RENAMED_SETTINGS = {"data.calibration_fraction": "data.threshold_fraction"}


def upgrade_manifest(content: Any) -> Any:
    """Bring the content of a `bundle.json` to today's schema.

    Schema 1 (until 0.1.0) called the thresholds from held-out images `calibration`, a word that now means INT8 ranges
    alone.
    """
    if not isinstance(content, dict) or content.get("schema_version") != 1:
        return content
    upgraded = _renamed(content, "calibration", "thresholds")
    upgraded["schema_version"] = 2
    upgraded["nfa"] = _renamed(upgraded.get("nfa"), "calibration", "thresholds")
    provenance = upgraded.get("provenance")
    if isinstance(provenance, dict):
        upgraded["provenance"] = {
            **provenance,
            "n_images": _renamed(provenance.get("n_images"), "calibration", "threshold"),
            "config": upgrade_settings(provenance.get("config")),
        }
    return upgraded


def upgrade_engine_record(content: Any) -> Any:
    """Bring the content of an `engine.json` to today's names, which it has none of its own schema version for."""
    if not isinstance(content, dict) or not isinstance(content.get("lower"), dict):
        return content
    lower = _renamed(content["lower"], "calibration", "thresholds")
    return {**content, "lower": {**lower, "nfa": _renamed(lower.get("nfa"), "calibration", "thresholds")}}


def upgrade_settings(values: Any) -> Any:
    """Give settings that were renamed their new names, unless the new one is there too."""
    for before, now in RENAMED_SETTINGS.items():
        section, name = before.split(".")
        if isinstance(values, dict) and isinstance(values.get(section), dict):
            values = {**values, section: _renamed(values[section], name, now.split(".")[1])}
    return values


def _renamed(content: Any, before: str, now: str) -> Any:
    """A copy in which the key `before` is called `now`, at its old place; unchanged where both are there, or neither."""
    if not isinstance(content, dict) or now in content:
        return content
    return {now if key == before else key: value for key, value in content.items()}
