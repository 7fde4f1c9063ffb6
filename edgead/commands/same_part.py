"""The check that a bundle is for the parts and the camera of a line: names of its classes, and good images of one side."""

from __future__ import annotations

from edgead.bundle import Bundle
from edgead.data.dataset import evenly_spaced
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import ConfigError
from edgead.imaging import resize
from edgead.line.model_store import Installed
from edgead.runner import REFERENCE

# Good images of one side that the other one judges.
COMPARED = 8
_HINT = "Check which bundle you copied; --other-part installs it nevertheless."


def require_same_part(given: Bundle, active: Installed, active_bundle: Bundle | None, *, threads: int = 0) -> None:
    """Refuse a bundle that looks like one for another part or camera than the active model's.

    Its classes have to include those of the active model. Names alone do not tell two lines apart: every model that was
    taught on a device judges `part`. So good images that one bundle carries have to look good to the other one; the one
    with the smaller input judges. Bundles that align, or cut frames in different ways, are compared by their names alone.

    Args:
        given: Bundle to install.
        active: The active model.
        active_bundle: Its bundle; None = compare the names alone.
        threads: CPU threads; 0 = one per core.

    Raises:
        ConfigError: If a class of the active model is missing, or more than half of the good images are anomalous.
    """
    missing = [name for name in active.classes if name not in given.manifest.classes]
    if missing:
        raise ConfigError(
            f"{given.path} judges {', '.join(given.manifest.classes)}, and the active model {active.name} judges "
            f"{', '.join(active.classes)}: this bundle looks like one for another part or camera.",
            hint=_HINT,
        )
    if active_bundle is None or not _see_alike(given, active_bundle):
        return
    if given.image_size <= active_bundle.image_size:
        n_over, n = _anomalous(given, active_bundle, threads)
        found = f"{n_over} of {n} good images of the active model {active.name} are anomalous to {given.path}"
    else:
        n_over, n = _anomalous(active_bundle, given, threads)
        found = f"{n_over} of {n} good images of {given.path} are anomalous to the active model {active.name}"
    if 2 * n_over > n:
        raise ConfigError(f"{found}: this bundle looks like one for another part or camera.", hint=_HINT)


def _see_alike(one: Bundle, other: Bundle) -> bool:
    """Whether the inputs of both show the same of a frame."""
    first, second = one.manifest.preprocessing, other.manifest.preprocessing
    if first.alignment is not None or second.alignment is not None:
        return False
    # tiles of another input size show another part of the frame
    return first.views == second.views and (first.views is None or one.image_size == other.image_size)


def _anomalous(judge: Bundle, carrier: Bundle, threads: int) -> tuple[int, int]:
    """Number of good images of `carrier` that are anomalous to `judge`, and of all that it judged."""
    images = evenly_spaced(list(carrier.calibration_images()), COMPARED)
    rule, limit = judge.manifest.preprocessing.resize, judge.thresholds().threshold.value
    n_over = 0
    with OnnxRunner(judge.model_path, threads=threads, engine_name=REFERENCE) as runner:
        for image in images:
            sized = resize(image, judge.image_size, rule)
            n_over += bool(runner.infer(sized[None], judge.class_bias([None]))["pred_score"][0] > limit)
    return n_over, len(images)
