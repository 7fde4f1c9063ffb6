"""Origin of a trained bundle: images, settings, versions and figures of its training."""

from __future__ import annotations

import datetime

from edgead.commands.training.data import TrainingData
from edgead.commands.training.runs import package_versions
from edgead.config.root import Config
from edgead.data.copies import STORED_DIGITS
from edgead.manifest import Provenance


def provenance_of(config: Config, data: TrainingData, metrics: dict[str, float]) -> Provenance:
    """Origin of a bundle that was trained with these settings, images and results."""
    split = data.split
    return Provenance(
        created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        data_root=str(data.root),
        data_digest=data.digest,
        n_images={
            "fit": len(split.fit),
            "early_stop": len(split.early_stop),
            "threshold": len(split.threshold),
            "left_out": len(data.scan.broken) + len(data.scan.copies) + data.n_near_copies + data.n_without_part,
        },
        seed=config.train.seed,
        versions=package_versions(),
        config=config.model_dump(mode="json"),
        metrics=metrics,
        image_digests=tuple(sorted(digest[:STORED_DIGITS] for digest in set(data.scan.digests.values()))),
        dataset_snapshot=data.snapshot,
        known_digests=() if data.known is None else data.known.stored_digests,
    )
