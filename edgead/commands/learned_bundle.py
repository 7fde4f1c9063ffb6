"""Bundle of a model that has learned false alarms: what was learned of each picture, and the checked files of the new version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.arrays import save_arrays
from edgead.bundle import Bundle
from edgead.bundle_files import ALIGNMENT, CALIBRATION, MODEL, REFERENCE, THRESHOLD_IMAGES, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.commands.training.suspects import MIN_IMAGES, suspected_defects
from edgead.data.copies import STORED_DIGITS
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import BundleError, CheckFailed, ConfigError
from edgead.evaluation.compare import compare_outputs
from edgead.imaging import Image
from edgead.line.model_store import Installed
from edgead.manifest import POOLED, LearnedRecord, Manifest, Parity
from edgead.printable import printable
from edgead.progress import Progress
from edgead.runner import REFERENCE as GRAPH
from edgead.runner import Outputs
from edgead.storage import atomic_path, require_free_space, scratch_folder
from edgead.teach.changed_files import LevelNet, write_changed_graph, write_changed_weights
from edgead.teach.closed_form import ClosedForm, open_closed_form
from edgead.teach.form import Floats
from edgead.teach.learner import Known, Learner, Outcome
from edgead.teach.probes import PROBES, Probes, load_probes, make_probes
from edgead.teach.run import now

# Share of the size of the bundle that its changed files and their copy in the new one need.
_ROOM = 2.0
# Learned pictures on which the changed graph is compared with the scores computed without it, beside the reference images.
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
    size = sum((bundle.path / name).stat().st_size for name in bundle.manifest.sha256)
    require_free_space(out.parent, int(_ROOM * size), purpose="Learning a false alarm")
    threshold = bundle.manifest.thresholds[POOLED].threshold.value
    with scratch_folder(out.parent, "learning") as scratch:
        files = {name: scratch / name for name in (MODEL, WEIGHTS, REFERENCE, PROBES)}
        changed = _change(bundle, pictures, defects, files, progress, sure=sure, threads=threads)
        if changed.expected is None:
            return LearnResult(None, changed.outcomes, changed.lost)
        found = _run(files[MODEL], changed.images, threads)
        parity = _check(found, changed.expected, threshold, bundle.manifest.parity)
        images = bundle.reference()["images"]
        new = {name: found[name][: len(images)] for name in bundle.reference_outputs}
        save_arrays(files[REFERENCE], {"images": images, **new}, level=1)
        manifest = _manifest(bundle.manifest, changed, parity)
        kept = (CALIBRATION, ALIGNMENT, THRESHOLD_IMAGES)
        same = {name: bundle.path / name for name in kept if name in bundle.manifest.sha256}
        return LearnResult(write_bundle(out, manifest, {**same, **files}), changed.outcomes, changed.lost)


def prepare_learning(bundle: Bundle, progress: Progress, *, threads: int = 0) -> bool:
    """Make the probes of an installed bundle beside its engines, so that the first learned picture takes no longer than others.

    Args:
        bundle: Installed bundle.
        progress: Receives progress.
        threads: CPU threads; 0 = one per core.

    Returns:
        Whether the model can learn pictures.

    Raises:
        StorageError: If the disk is full.
    """
    try:
        model = open_closed_form(bundle)
    except (BundleError, ConfigError):  # trained couplings, several classes, tiles, or weights of another form
        return False
    if not (bundle.path / PROBES).is_file():
        with LevelNet(bundle, model, threads) as net, atomic_path(bundle.engines_path / PROBES) as temporary:
            with temporary.open("wb") as file:
                _probes(bundle, model, net, bundle.reference()["images"], progress).save(file)
    return True


@dataclass(frozen=True)
class _Changed:
    """Facts of the changed model without its arrays, which give way before its graph is opened.

    Attributes:
        outcomes, lost: As in `LearnResult`.
        images: The reference images and some of the learned pictures, `(h, w, 3)` each.
        expected: Outputs of the changed model for them; None if nothing was learned.
        added: Number of float values that its graph has more.
        n_centres: Number of its centres; None for a map per position.
    """

    outcomes: tuple[tuple[JudgedPicture, Outcome], ...]
    lost: tuple[int, int]
    images: Sequence[Image] = ()
    expected: Outputs | None = None
    added: int = 0
    n_centres: int | None = None

    @property
    def learned(self) -> list[tuple[JudgedPicture, Outcome]]:
        """Pictures that were learned."""
        return [(picture, outcome) for picture, outcome in self.outcomes if outcome.refusal is None]


def _change(
    bundle: Bundle,
    pictures: Sequence[JudgedPicture],
    defects: Iterable[JudgedPicture],
    files: Mapping[str, Path],
    progress: Progress,
    *,
    sure: bool,
    threads: int,
) -> _Changed:
    """Learn pictures one after the other, and write graph, weights and probes of the changed model."""
    model = open_closed_form(bundle)
    thresholds = bundle.manifest.thresholds[POOLED]
    threshold = thresholds.threshold.value
    images = bundle.reference()["images"]
    with LevelNet(bundle, model, threads) as net:
        probes = _probes(bundle, model, net, images, progress)
        known = [Known(picture.alert, net(picture.image)) for picture in defects]
        learner = Learner(
            model, net, probes, threshold=threshold, ordinary=thresholds.heatmap_low,
            looks_defective=_Tail(thresholds.scores, probes, model, threshold),
        )  # fmt: skip
        outcomes = []
        for done, picture in enumerate(pictures, start=1):
            seed = int(picture.digest[:8], 16)
            outcomes.append((picture, learner.learn(picture.image, known, seed=seed, sure=sure)))
            progress.update("False alarms", done, len(pictures))
        constants = net.constants
    found = _Changed(tuple(outcomes), (learner.lost(), int(probes.first_found.sum())))
    if not found.learned:
        return found
    added = write_changed_graph(files[MODEL], bundle, learner.model, constants)
    write_changed_weights(files[WEIGHTS], bundle, learner.model)
    learner.probes.save(files[PROBES])
    inputs = [np.concatenate(one) for one in zip(learner.probes.reference, *learner.learned[:_COMPARED], strict=True)]
    centres = learner.model.levels[0].centres
    return replace(
        found,
        images=[*images, *(picture.image for picture, _ in found.learned[:_COMPARED])],
        expected=_outputs(learner.model, inputs),
        added=added,
        n_centres=None if centres is None else len(centres),
    )


def _probes(
    bundle: Bundle, model: ClosedForm, net: LevelNet, reference: NDArray[np.uint8], progress: Progress
) -> Probes:
    """Probes of a bundle: its own, those that its installation made, or else new ones."""
    probes = load_probes(bundle.path / PROBES, model) or load_probes(bundle.engines_path / PROBES, model)
    if probes is None:
        good = list(bundle.calibration_images())
        threshold = bundle.manifest.thresholds[POOLED].threshold.value
        probes = make_probes(model, net, good, threshold, lambda done, total: progress.update("Probes", done, total))
    if len(probes.reference[0]) != len(reference):
        inputs = [net(image) for image in reference]
        probes = replace(probes, reference=[np.concatenate(one) for one in zip(*inputs, strict=True)])
    return probes


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


def _manifest(before: Manifest, changed: _Changed, parity: Parity) -> Manifest:
    at = now().isoformat(timespec="seconds")
    records = tuple(
        LearnedRecord(
            digest=picture.digest, alert=picture.alert, score=outcome.score, positions=outcome.n_positions,
            judged_by=picture.judged_by, learned_at=at, warning=outcome.warning,
        )
        for picture, outcome in changed.learned
    )  # fmt: skip
    provenance = before.provenance
    config = dict(provenance.config)
    if changed.n_centres is not None:
        config["model"] = {**config["model"], "centres": changed.n_centres}
    provenance = provenance.model_copy(
        update={
            "config": config,
            "learned": (*provenance.learned, *records),
            "image_digests": (*provenance.image_digests, *(record.digest for record in records)),
        }
    )
    cost = before.cost.model_copy(update={"parameters": before.cost.parameters + changed.added})
    return before.model_copy(update={"provenance": provenance, "parity": parity, "cost": cost, "sha256": {}})


def _outputs(model: ClosedForm, inputs: Sequence[Floats]) -> Outputs:
    energies = model.energies(inputs)
    return {"anomaly_map": model.maps(energies), "pred_score": model.scores(energies).astype(np.float32)}


def _run(graph: Path, images: Sequence[Image], threads: int) -> Outputs:
    """Outputs of a graph for images, which it judges one at a time."""
    with OnnxRunner(graph, threads=threads, engine_name=GRAPH) as runner:
        found = [{name: value.copy() for name, value in runner.infer(image[None]).items()} for image in images]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _check(found: Outputs, expected: Outputs, threshold: float, before: Parity) -> Parity:
    """Compare the outputs of the changed graph with those computed without it."""
    result = compare_outputs(expected, found, threshold)
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
