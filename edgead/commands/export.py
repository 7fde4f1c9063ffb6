"""`edgead export`: export the model of a finished run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import ALIGNMENT, CALIBRATION, MODEL, REFERENCE, THRESHOLD_IMAGES, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.commands.training.bundle_writing import (
    check_parity,
    parity_text,
    save_reference,
    write_graph,
    write_weights,
)
from edgead.commands.training.requirements import require_torch
from edgead.progress import Progress
from edgead.storage import scratch_folder
from edgead.teach.probes import PROBES


@dataclass(frozen=True)
class ExportResult:
    """The exported bundle, and the number of operators of each type in its graph."""

    bundle: Bundle
    operators: dict[str, int]


def export(run: Path, progress: Progress) -> ExportResult:
    """Export the weights of a finished run's bundle again, with the parity check; thresholds stay.

    Args:
        run: Folder of the run, or its bundle.
        progress: Receives notes.

    Raises:
        BundleError: If the run has no usable bundle.
        CheckFailed: If the new graph does not reproduce the model's scores.
        MissingDependencyError: If torch is not installed.
    """
    require_torch("Exporting")
    import onnx

    from edgead.export.onnx_graph import DeployedModel, operator_counts
    from edgead.models.zoo import load_model

    old = open_bundle(run)
    path = old.path
    model = load_model(old)
    reference = old.reference()
    with scratch_folder(path.parent, "export") as folder:
        kept = (CALIBRATION, ALIGNMENT, THRESHOLD_IMAGES, PROBES)
        files = {name: old.path / name for name in kept if name in old.manifest.sha256}
        files[MODEL] = folder / MODEL
        deployed = DeployedModel(model)
        cost = write_graph(files[MODEL], deployed, old.image_size)
        files[WEIGHTS] = folder / WEIGHTS
        write_weights(files[WEIGHTS], model, files[MODEL])
        parity, outputs = check_parity(
            model, deployed, files[MODEL], reference["images"], old.thresholds().threshold.value
        )
        files[REFERENCE] = folder / REFERENCE
        save_reference(files[REFERENCE], reference["images"], outputs)
        manifest = old.manifest.model_copy(update={"parity": parity, "cost": cost})
        progress.note(parity_text(parity))
        bundle = write_bundle(path, manifest, files)
    operators = operator_counts(onnx.load(str(bundle.model_path)))
    return ExportResult(bundle, dict(operators))
