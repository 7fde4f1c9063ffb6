"""Origin and promises of an installed model, for people who choose between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.bundle_files import ENGINES, THRESHOLD_IMAGES, read_manifest
from edgead.engines.fingerprint import read_record
from edgead.errors import EdgeadError
from edgead.line.model_store import Installed
from edgead.manifest import POOLED, ClassThresholds, Manifest
from edgead.runner import REFERENCE


@dataclass(frozen=True)
class ModelPromise:
    """Shipped threshold of a kind of part on the model's engine.

    Attributes:
        part: Kind of part.
        threshold: Score threshold, raw units.
        false_alarm_rate: Share of good pictures above it, 0..1.
        certified: Whether the held-out good pictures certify the rate; otherwise it is extrapolated from them.
        n_images: Number of these pictures.
    """

    part: str
    threshold: float
    false_alarm_rate: float
    certified: bool
    n_images: int


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model from its manifest and the record of its engine.

    Attributes:
        origin: Where it comes from, in words.
        learned: Alerts whose pictures it learned as good, oldest first.
        promises: One promise for each kind of part.
        has_threshold_images: Whether the bundle has a picture of the good images that set the threshold.
    """

    origin: str
    learned: tuple[str, ...]
    promises: tuple[ModelPromise, ...]
    has_threshold_images: bool


def model_facts(path: Path, model: Installed) -> dict[str, Any] | None:
    """`ModelFacts` of an installed model as JSON; None if its files cannot be read.

    Args:
        path: Bundle folder in the store.
        model: The model.
    """
    try:
        manifest = read_manifest(path)
        thresholds: Mapping[str, ClassThresholds] = manifest.thresholds
        if model.engine != REFERENCE:
            lower = read_record(path / ENGINES / model.engine).lower
            thresholds = thresholds if lower is None else lower.thresholds
    except (EdgeadError, OSError):
        return None
    parts = manifest.classes if len(manifest.classes) > 1 else (POOLED,)
    promises = []
    for name in parts:
        record = thresholds[name].threshold
        promises.append(
            ModelPromise(
                manifest.classes[0] if name == POOLED else name, record.value, record.false_alarm_rate,
                record.certified, record.n_images,
            )
        )  # fmt: skip
    learned = tuple(one.alert for one in manifest.provenance.learned)
    return asdict(ModelFacts(_origin(manifest), learned, tuple(promises), THRESHOLD_IMAGES in manifest.sha256))


def _origin(manifest: Manifest) -> str:
    provenance = manifest.provenance
    taught = provenance.taught
    words = "trained" if taught is None else f"taught on {taught.host}"
    n = len(provenance.learned)
    return words if not n else f"{words}; has learned {n} false alarm{'' if n == 1 else 's'} since"
