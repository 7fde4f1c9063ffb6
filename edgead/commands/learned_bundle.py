"""Bundle of a model that has learned false alarms: what was learned of each picture, and the checked files of the new version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.arrays import save_arrays
from edgead.bundle import ALIGNMENT, CALIBRATION, MODEL, REFERENCE, WEIGHTS, Bundle, write_bundle
from edgead.commands.training.suspects import MIN_IMAGES, suspected_defects
from edgead.data.copies import STORED_DIGITS
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import CheckFailed
from edgead.evaluation.compare import compare_outputs, merge
from edgead.imaging import Image
from edgead.line.model_store import Installed
from edgead.manifest import POOLED, LearnedRecord, Manifest, Parity
from edgead.printable import printable
from edgead.progress import Progress
from edgead.runner import Outputs
from edgead.storage import require_free_space, scratch_folder
from edgead.teach.changed_files import LevelNet, write_changed_graph, write_changed_weights
from edgead.teach.closed_form import ClosedForm, open_closed_form
from edgead.teach.form import Floats
from edgead.teach.learner import Known, Learner, Outcome
from edgead.teach.probes import PROBES, Probes, load_probes, make_probes
from edgead.teach.run import now

# Share of the bundle's size that its changed copy and the graph with further outputs need.
_ROOM = 2.0
# Reference images on which the changed graph is compared with the scores computed without it, beside the learned pictures.
_COMPARED = 4


@dataclass(frozen=True)
class JudgedPicture:
    """Picture of a judged alert.

    Attributes:
        alert: Id of the alert, or another name.
        digest: Digest of its file as bundles store it; see `stored_digest`.
        image: The picture as the model judges it, `(h, w, 3)`, uint8 RGB, at input size.
        judged_by: Who judged it.
    """

    alert: str
    digest: str
    image: Image
    judged_by: str = ""


def stored_digest(content: bytes) -> str:
    """Digest of a file as bundles store it."""
    return hashlib.sha256(content).hexdigest()[:STORED_DIGITS]


@dataclass(frozen=True)
class LearnResult:
    """Result of `learn_pictures`.

    Attributes:
        bundle: Bundle of the new version; None if nothing was learned.
        outcomes: What came of each picture, in their order.
        lost: Artificial defects that the first version found and this one does not, and the number that it found.
    """

    bundle: Bundle | None
    outcomes: tuple[tuple[JudgedPicture, Outcome], ...]
    lost: tuple[int, int]

    def lines(self, model: Installed | None, folder: Path, *, is_active: bool = True) -> list[str]:
        """Lines for the user.

        Args:
            model: The installed model.
            folder: Folder of the model store.
            is_active: Whether the model was made the active one.
        """
        found = []
        for picture, outcome in self.outcomes:
            name = printable(picture.alert)
            if outcome.refusal is None:
                found.append(
                    f"{name}: learned, score {outcome.score:.3g} before and {outcome.score_after:.3g} now; it differs at "
                    f"{outcome.n_positions} positions."
                )
                if outcome.warning:
                    found.append(f"Warning: {outcome.warning}")
            else:
                found.append(
                    f"{name}: {'nothing to learn' if outcome.refusal == 'silent' else 'refused'}: {outcome.reason}"
                )
        if not self.outcomes:
            found.append("There is no false alarm that was not learned yet.")
        if model is not None:
            lost, first = self.lost
            least = min(outcome.elsewhere for _, outcome in self.outcomes if outcome.refusal is None)
            found += [
                f"Of {first} artificial defects that the first version finds, {first - lost} are found. What looks like the learned "
                f"pictures is found at {least:.0%} of the places at which it was found before.",
                f"{model.name} is active. To undo it: edgead model rollback --models {folder}"
                if is_active
                else f"Installed {model.name}. To use it: edgead model activate {model.name} --models {folder}",
            ]
        return found

    def to_json(self, model: Installed | None) -> dict[str, Any]:
        """The stable keys of `learn --json`.

        Args:
            model: The installed model.
        """
        outcomes = [
            {
                "alert": picture.alert,
                "learned": outcome.refusal is None,
                "refusal": outcome.refusal,
                "reason": outcome.reason or None,
                "warning": outcome.warning or None,
                "score": outcome.score,
                "score_after": outcome.score_after,
                "positions": outcome.n_positions,
                "found_elsewhere": outcome.elsewhere,
            }
            for picture, outcome in self.outcomes
        ]
        lost, first = self.lost
        return {
            "model": None if model is None else model.name,
            "alerts": outcomes,
            "artificial_defects": {"first": first, "lost": lost},
        }


def learn_pictures(
    bundle: Bundle,
    out: Path,
    pictures: Sequence[JudgedPicture],
    progress: Progress,
    *,
    defects: Iterable[JudgedPicture] = (),
    sure: bool = False,
    threads: int = 0,
) -> LearnResult:
    """Teach a model that pictures are good, one after the other, and write the new bundle.

    Args:
        bundle: Bundle with a closed-form model, which is not changed.
        out: Folder of the new bundle.
        pictures: Pictures that raised a false alarm.
        progress: Receives notes and progress.
        defects: Pictures judged a defect, which must be found as before.
        sure: Whether pictures that look like a defect are confirmed to be good.
        threads: CPU threads; 0 = one per core.

    Raises:
        ConfigError: If the model has no closed form.
        CheckFailed: If the changed graph does not give the scores that were computed without it.
        StorageError: If the disk is full.
    """
    model = open_closed_form(bundle)
    thresholds = bundle.manifest.thresholds[POOLED]
    threshold = thresholds.threshold.value
    size = sum((bundle.path / name).stat().st_size for name in bundle.manifest.sha256)
    require_free_space(out.parent, int(_ROOM * size), purpose="Learning a false alarm")
    with scratch_folder(out.parent, "learning") as scratch:
        with LevelNet(bundle, model, scratch, threads) as net:

            def inputs_of(image: Image) -> list[Floats]:
                return net(image)[0]

            probes = load_probes(bundle.path / PROBES, model)
            if probes is None:
                good = list(bundle.calibration_images())
                probes = make_probes(
                    model, inputs_of, good, threshold, lambda done, total: progress.update("Probes", done, total)
                )
            known = [Known(picture.alert, inputs_of(picture.image)) for picture in defects]
            learner = Learner(
                model, inputs_of, probes, threshold=threshold, ordinary=thresholds.heatmap_low,
                looks_defective=_Tail(thresholds.scores, probes, model, threshold),
            )  # fmt: skip
            outcomes = []
            for done, picture in enumerate(pictures, start=1):
                seed = int(picture.digest[:8], 16)
                outcomes.append((picture, learner.learn(picture.image, known, seed=seed, sure=sure)))
                progress.update("False alarms", done, len(pictures))
            learned = [(picture, outcome) for picture, outcome in outcomes if outcome.refusal is None]
            lost = learner.lost(), int(probes.first_found.sum())
            if not learned:
                return LearnResult(None, tuple(outcomes), lost)
            images = bundle.reference()["images"]
            compared = [*images[:_COMPARED], *(picture.image for picture, _ in learned[:_COMPARED])]
            expected = [_outputs(learner.model, inputs_of(image)) for image in compared]
            constants = net.constants
        files = {name: bundle.path / name for name in (CALIBRATION, ALIGNMENT) if (bundle.path / name).is_file()}
        files |= {name: scratch / name for name in (MODEL, WEIGHTS, REFERENCE, PROBES)}
        added = write_changed_graph(files[MODEL], bundle, learner.model, constants)
        write_changed_weights(files[WEIGHTS], bundle, learner.model)
        learner.probes.save(files[PROBES])
        with OnnxRunner(files[MODEL], threads=threads, engine_name="reference") as runner:

            def run(image: Image) -> Outputs:
                return {name: value.copy() for name, value in runner.infer(image[None]).items()}

            found = [run(image) for image in images]
            seen = [*found[:_COMPARED], *(run(image) for image in compared[len(images[:_COMPARED]) :])]
            parity = _check(seen, expected, threshold, bundle.manifest.parity)
        new = {name: np.concatenate([one[name] for one in found]) for name in bundle.reference_outputs}
        save_arrays(files[REFERENCE], {"images": images, **new})
        manifest = _manifest(bundle.manifest, learner.model, learned, parity, added)
        return LearnResult(write_bundle(out, manifest, files), tuple(outcomes), lost)


class _Tail:
    """Whether a score lies so far beyond those of good pictures that it looks like a defect.

    With 100 left-out scores the tail of these decides, as in a training; with fewer, the median of the artificial defects that
    the model finds.
    """

    def __init__(self, scores: Sequence[float], probes: Probes, model: ClosedForm, threshold: float) -> None:
        self._scores = scores
        self._limit = np.inf
        if len(scores) < MIN_IMAGES:
            of_defects = probes.scores(model)
            found = of_defects[of_defects > threshold]
            self._limit = float(np.median(found)) if len(found) else threshold

    def __call__(self, score: float) -> bool:
        if len(self._scores) < MIN_IMAGES:
            return score > self._limit
        return len(self._scores) in suspected_defects([*self._scores, score])


def _manifest(
    before: Manifest,
    model: ClosedForm,
    learned: Sequence[tuple[JudgedPicture, Outcome]],
    parity: Parity,
    added: int,
) -> Manifest:
    at = now().isoformat(timespec="seconds")
    records = tuple(
        LearnedRecord(
            digest=picture.digest, alert=picture.alert, score=outcome.score, positions=outcome.n_positions,
            judged_by=picture.judged_by, learned_at=at, warning=outcome.warning,
        )
        for picture, outcome in learned
    )  # fmt: skip
    provenance = before.provenance
    config = dict(provenance.config)
    centres = model.levels[0].centres
    if centres is not None:
        config["model"] = {**config["model"], "centres": len(centres)}
    provenance = provenance.model_copy(
        update={
            "config": config,
            "learned": (*provenance.learned, *records),
            "image_digests": (*provenance.image_digests, *(record.digest for record in records)),
        }
    )
    cost = before.cost.model_copy(update={"parameters": before.cost.parameters + added})
    return before.model_copy(update={"provenance": provenance, "parity": parity, "cost": cost, "sha256": {}})


def _outputs(model: ClosedForm, inputs: Sequence[Floats]) -> Outputs:
    energies = model.energies(inputs)
    return {"anomaly_map": model.maps(energies), "pred_score": model.scores(energies).astype(np.float32)}


def _check(
    found: Sequence[Outputs],
    expected: Sequence[Outputs],
    threshold: float,
    before: Parity,
) -> Parity:
    """Compare the outputs of the changed graph with those computed without it."""
    result = merge(compare_outputs(one, own, threshold) for one, own in zip(expected, found, strict=True))
    if not result.is_parity:
        raise CheckFailed(
            f"The changed graph does not give the scores that were computed without it: {result.describe()}.",
            hint="The model stays as it is. Check the memory of this machine (edgead doctor), and report this as a bug.",
        )
    return before.model_copy(
        update={
            "onnx_vs_unfolded": result.max_relative_difference,
            "n_images": result.n_images,
            "verdict_flips": result.verdict_flips,
            "scores": result.score_relative_difference,
            "peaks": result.peak_relative_difference,
        }
    )
