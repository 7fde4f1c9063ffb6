"""Settings of a tiny run that trains in seconds."""

from __future__ import annotations

from pathlib import Path

from edgead.config.file import load_config
from edgead.config.root import Config

SIDE = 128


def tiny_config(data: Path, **overrides: object) -> Config:
    """Settings that train in seconds."""
    values: dict[str, object] = {
        "data.root": str(data),
        "model.image_size": SIDE,
        "model.levels": ["16:24+32:8"],
        "train.epochs": 2,
        "train.device": "cpu",
        "train.pseudo_defects": 4,
        "train.variation": 0.0,
        "model.couplings": "always",
    }
    values.update({name.replace("__", "."): value for name, value in overrides.items()})
    return load_config(None, values)
