"""Upgrades of files written by older versions of edgead: the only module with their old key names.

Each function takes parsed JSON or YAML and returns it in the current form. Content that is already current, or not a
mapping, is returned unchanged for the validation that follows. Files on disk are not rewritten: a bundle keeps its digest.
"""

from __future__ import annotations

from typing import Any

# settings: dotted key until schema 1 -> current dotted key
RENAMED_SETTINGS = {"data.calibration_fraction": "data.threshold_fraction"}


def upgrade_manifest(content: Any) -> Any:
    """Upgrade the content of a `bundle.json` to the current schema.

    Schema 1 (until 0.1.0) called the thresholds from held-out images `calibration`; the word now means INT8 ranges
    only. Schema 2 has no new rules of preprocessing: the defaults of the missing keys are the rules of before.
    """
    if not isinstance(content, dict) or content.get("schema_version") not in (1, 2):
        return content
    if content["schema_version"] == 2:
        return {**content, "schema_version": 3}
    upgraded = _renamed(content, "calibration", "thresholds")
    upgraded["schema_version"] = 3
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
    """Upgrade the key names of an `engine.json`, which has no schema version of its own."""
    if not isinstance(content, dict) or not isinstance(content.get("lower"), dict):
        return content
    lower = _renamed(content["lower"], "calibration", "thresholds")
    return {**content, "lower": {**lower, "nfa": _renamed(lower.get("nfa"), "calibration", "thresholds")}}


def upgrade_settings(values: Any) -> Any:
    """Rename settings that have a new name, unless the new name is present too."""
    for before, now in RENAMED_SETTINGS.items():
        section, name = before.split(".")
        if isinstance(values, dict) and isinstance(values.get(section), dict):
            values = {**values, section: _renamed(values[section], name, now.split(".")[1])}
    return values


def _renamed(content: Any, before: str, now: str) -> Any:
    """Copy in which the key `before` is renamed to `now`, in place; unchanged if both or neither are present."""
    if not isinstance(content, dict) or now in content:
        return content
    return {now if key == before else key: value for key, value in content.items()}
