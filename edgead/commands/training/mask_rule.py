"""Choice of the rule that marks regions, when a bundle is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgead.commands.training.known_choice import weight_of_known
from edgead.commands.training.known_defects import LEAST
from edgead.data.dataset import evenly_spaced
from edgead.evaluation.mask_rule import MaskExample, choose_mask_rule
from edgead.manifest import ClassThresholds, MaskRule
from edgead.progress import Progress
from edgead.runner import Runner

if TYPE_CHECKING:
    from edgead.commands.training.data import TrainingData

N_EXAMPLES = 64
# Tiles that are judged for the choice at most, of at least as many images.
N_TILES, LEAST_EXAMPLES = 1024, 8
# Shares of the image's shorter side; wider than elsewhere, because the extent of large defects counts too.
SIZES = (0.02, 0.25)


def fit_mask_rule(runner: Runner, data: TrainingData, thresholds: ClassThresholds, progress: Progress) -> MaskRule:
    """Choose the rule on pseudo-defects in good images, and on known defects with masks if there are five or more.

    A closed form was fitted to the originals of the pseudo-defects.

    Args:
        runner: Open engine of the new bundle.
        data: Images of the training.
        thresholds: Thresholds of all classes together.
        progress: Receives progress, and a note of the choice.
    """
    known = _known_examples(runner, data, progress)
    rule = choose_mask_rule(
        _examples(runner, data, progress),
        thresholds.heatmap_low,
        thresholds.threshold.value,
        known,
        weight_of_known(len(known)),
    )
    progress.note(
        f"Marks: regions of alarms above {rule.extent:.0%} of the way to the threshold, chosen on pseudo-defects"
        f"{f' and {len(known)} known ones with masks' if known else ''}; images below "
        f"the threshold have none, so at most {thresholds.threshold.false_alarm_rate:.2%} of good images show a mark."
    )
    return rule


def _examples(runner: Runner, data: TrainingData, progress: Progress) -> Iterator[MaskExample]:
    count = min(N_EXAMPLES, max(LEAST_EXAMPLES, N_TILES // data.n_tiles))
    samples = evenly_spaced(data.split.early_stop or data.split.threshold, count)
    donors = data.split.fit
    for i, sample in enumerate(samples):
        image, mask = data.read_pseudo_masked(sample, donors[i % len(donors)], (7, i), SIZES)
        outputs = runner.infer(image[None])
        yield MaskExample(outputs["anomaly_map"][0].copy(), float(outputs["pred_score"][0]), mask)
        progress.update("Marks", i + 1, len(samples))


def _known_examples(runner: Runner, data: TrainingData, progress: Progress) -> list[MaskExample]:
    """Known defects whose masks mark something; none if they are too few to decide."""
    samples = [sample for sample in data.known.samples if sample.mask is not None] if data.known is not None else []
    examples = []
    for done, sample in enumerate(samples, start=1):
        image, mask = data.read_masked(sample)
        outputs = runner.infer(image[None])
        if mask.any():
            examples.append(MaskExample(outputs["anomaly_map"][0].copy(), float(outputs["pred_score"][0]), mask))
        progress.update("Masks of known defects", done, len(samples))
    return examples if len(examples) >= LEAST else []
