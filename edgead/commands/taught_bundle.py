"""A taught model as a bundle: graph, check, thresholds, and the pictures it was taught."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.arrays import save_arrays
from edgead.builder.thresholds import summarise
from edgead.bundle import Bundle
from edgead.bundle_files import CALIBRATION, MODEL, REFERENCE, THRESHOLD_IMAGES, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.commands.training.runs import package_versions
from edgead.commands.training.threshold_images import QUALITY, draw_sheet
from edgead.config.root import Config
from edgead.data.dataset import evenly_spaced
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import CheckFailed
from edgead.evaluation.compare import compare_outputs, merge
from edgead.evaluation.mask_rule import MaskExample, choose_mask_rule
from edgead.evaluation.threshold import class_thresholds, smallest_rate
from edgead.imaging import Image, jpeg_from_rgb
from edgead.manifest import (
    POOLED,
    ClassThresholds,
    Cost,
    GraphIO,
    Manifest,
    Parity,
    Preprocessing,
    Provenance,
    TaughtRecord,
)
from edgead.progress import Progress
from edgead.runner import Outputs, Runner
from edgead.storage import scratch_folder, write_bytes
from edgead.teach.base import Base
from edgead.teach.graph import taught_weights, write_graph, write_weights
from edgead.teach.learning import outputs
from edgead.teach.run import TaughtRun, now
from edgead.teach.scoring import top_count
from edgead.teach.teacher import Taught

CLASS = "part"
MARK_EXAMPLES = 24
# Shares of the image's shorter side, as in a training.
MARK_SIZES = (0.02, 0.25)
Exact = Callable[[Image], Sequence[NDArray[np.float32]]]


@dataclass(frozen=True)
class Reference:
    """Pictures `(N, H, W, 3)` that every engine is compared on, and the outputs computed for them without the graph."""

    images: NDArray[np.uint8]
    outputs: Outputs


def reference_of(base: Base, taught: Taught, exact: Exact) -> Reference:
    """Reference of a taught model; `exact` gives the features of a picture at input size in float32."""
    images = _reference_images(taught)
    return Reference(images, outputs(base, taught.learnt, [exact(image) for image in images]))


def write_taught_bundle(
    run: TaughtRun, base: Base, taught: Taught, reference: Reference, *, origin: str, progress: Progress
) -> Bundle:
    """Write the next version of a teaching; the constants of `taught` move into its files.

    Args:
        run: Folder of the teaching.
        base: Base bundle.
        taught: Fitted model.
        reference: Result of `reference_of`.
        origin: Where the pictures come from, redacted.
        progress: Receives notes and progress.

    Raises:
        CheckFailed: If the graph does not give the scores that were computed without it.
        StorageError: If the disk is full; earlier versions are unchanged.
    """
    number = run.next_number
    path = run.version_path(number)
    with scratch_folder(path.parent, "teach") as folder:
        files = {name: folder / name for name in (MODEL, WEIGHTS, CALIBRATION, REFERENCE)}
        provenance = _provenance(run, base, taught, origin, number)
        write_weights(files[WEIGHTS], base, taught_weights(base, taught.learnt))
        cost = _write_graph(files[MODEL], base, taught)
        thresholds, images = taught_thresholds(taught), reference.images
        with OnnxRunner(files[MODEL], threads=0, engine_name="reference") as runner:
            parity, found = _check(runner, images, reference.outputs, thresholds.threshold.value)
            rule = choose_mask_rule(
                _examples(runner, taught.images, progress), thresholds.heatmap_low, thresholds.threshold.value
            )
        save_arrays(files[REFERENCE], {"images": images, **found})
        _save_pictures(files[CALIBRATION], taught)
        learnt, scale = taught.learnt, thresholds.heatmap_scale
        sheet = draw_sheet(
            taught.names, learnt.scores.tolist(), learnt.head.maps, scale, lambda index: taught.images[index]
        )
        files[THRESHOLD_IMAGES] = folder / THRESHOLD_IMAGES
        write_bytes(files[THRESHOLD_IMAGES], jpeg_from_rgb(sheet, QUALITY))
        chosen, record = taught.learnt.chosen, run.record
        manifest = Manifest(
            model="usf",
            classes=(CLASS,),
            preprocessing=Preprocessing.current(base.image_size, record.white_level, record.float_white_level),
            graph=GraphIO(
                map_size=base.manifest.map_size, top_positions=top_count(base.manifest.map_size, chosen.top_fraction)
            ),
            thresholds={POOLED: thresholds, CLASS: thresholds},
            mask_rule=rule,
            parity=parity,
            cost=cost,
            provenance=provenance,
            sha256={},
        )
        return write_bundle(path, manifest, files)


def taught_thresholds(taught: Taught) -> ClassThresholds:
    """Thresholds at the smallest false-alarm rate that the left-out scores of the pictures certify."""
    values = summarise(taught.learnt.scores, taught.learnt.head.maps)
    return class_thresholds(values[0], values[1], float(np.median(values[2])), smallest_rate(len(values[0])))


def _write_graph(path: Path, base: Base, taught: Taught) -> Cost:
    total = base.manifest.forms[taught.learnt.chosen.form].multiply_adds
    flow = 0
    for record, level in zip(base.manifest.levels, taught.learnt.levels, strict=True):
        positions = record.size[0] * record.size[1]
        flow += record.channels**2 * positions
        if "centres" in level.weights:
            wanted = Config.model_validate(base.manifest.config)
            count = wanted.model.centres or wanted.train.centres
            total -= (count - len(level.weights["centres"])) * record.channels * positions
    parameters = write_graph(path, base, taught.learnt)
    return Cost(
        multiply_adds=total, flow_multiply_adds_unfolded=flow, flow_multiply_adds_folded=flow, parameters=parameters
    )


def _reference_images(taught: Taught) -> NDArray[np.uint8]:
    """Pictures at input size, every other one with a pseudo-defect, so that both verdicts are compared."""
    n = len(taught.images)
    found = []
    for number, index in enumerate(evenly_spaced(range(n), 8)):
        image = taught.images[index]
        if number % 2:
            image = make_pseudo_defect(image, taught.images[(index + 1) % n], np.random.default_rng((number,)))[0]
        found.append(image)
    return np.stack(found)


def _check(
    runner: Runner, images: NDArray[np.uint8], reference: Outputs, threshold: float
) -> tuple[Parity, dict[str, NDArray[np.float32]]]:
    """Compare the graph with the scores computed without it, one picture at a time, which takes least memory."""
    found, compared = [], []
    for index in range(len(images)):
        one = runner.infer(images[index : index + 1])
        found.append({name: values.copy() for name, values in one.items()})
        compared.append(
            compare_outputs({name: reference[name][index : index + 1] for name in reference}, one, threshold)
        )
    result = merge(compared)
    if not result.is_parity:
        raise CheckFailed(
            f"The graph of the taught model does not give the scores that were computed without it: {result.describe()}.",
            hint="Check the memory of this machine (edgead doctor), and report this as a bug if it happens again.",
        )
    parity = Parity(
        folded_vs_unfolded=0.0,
        onnx_vs_unfolded=result.max_relative_difference,
        n_images=result.n_images,
        verdict_flips=result.verdict_flips,
        scores=result.score_relative_difference,
        peaks=result.peak_relative_difference,
    )
    return parity, {name: np.concatenate([one[name] for one in found]) for name in ("anomaly_map", "pred_score")}


def _examples(runner: Runner, images: Sequence[Image], progress: Progress) -> Iterator[MaskExample]:
    n = len(images)
    for number in range(MARK_EXAMPLES):
        image, donor = images[number % n], images[(number + 1) % n]
        changed, mask = make_pseudo_defect(image, donor, np.random.default_rng((7, number)), MARK_SIZES)
        found = runner.infer(changed[None])
        yield MaskExample(found["anomaly_map"][0].copy(), float(found["pred_score"][0]), mask)
        progress.update("Marks", number + 1, MARK_EXAMPLES)


def _save_pictures(path: Path, taught: Taught) -> None:
    """Write the pictures: those for INT8 ranges, and all of them with what leaving them out changes."""
    learnt, images = taught.learnt, np.stack(taught.images)
    arrays = {
        "images": images[np.asarray(evenly_spaced(range(len(images)), 64))],
        "held_out": images,
        "held_out_classes": np.zeros(len(images), np.int32),
        "map_corrections": (learnt.head.maps - learnt.head.fitted_maps).astype(np.float16),
        "score_corrections": (learnt.scores - learnt.fitted_scores).astype(np.float32),
    }
    save_arrays(path, arrays)


def _provenance(run: TaughtRun, base: Base, taught: Taught, origin: str, number: int) -> Provenance:
    n, chosen = len(taught.images), taught.learnt.chosen
    settings = Config.model_validate(base.manifest.config)
    centres = taught.learnt.levels[0].weights.get("centres")
    model = {
        "blocks": 0,
        "base": "normal",
        "positions": chosen.form == "positions",
        "centres": 0 if centres is None else len(centres),
        "top_fraction": chosen.top_fraction,
        "weights": None,
    }
    settings = settings.model_copy(update={"model": settings.model.model_copy(update=model)})
    digests = tuple(picture.digest for picture in run.record.pictures)
    return Provenance(
        created_at=now().isoformat(timespec="seconds"),
        data_root=origin,
        data_digest=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16],
        n_images={"fit": n, "threshold": n},
        seed=settings.train.seed,
        versions=package_versions(),
        config=settings.model_dump(mode="json"),
        metrics={"pseudo_defect_power": chosen.power, "pseudo_defect_auroc": chosen.separation},
        image_digests=digests,
        taught=TaughtRecord(
            base_digest=base.digest,
            base_created_at=base.manifest.created_at,
            host=platform.node() or "unknown",
            version=number,
            left_out=taught.left_out,
        ),
    )
