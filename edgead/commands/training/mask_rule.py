"""Choice of the rule that marks regions, when a bundle is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
    """Choose the rule on pseudo-defects in good images; a closed form was fitted to the originals.

    Args:
        runner: Open engine of the new bundle.
        data: Images of the training.
        thresholds: Thresholds of all classes together.
        progress: Receives progress, and a note of the choice.
    """
    rule = choose_mask_rule(_examples(runner, data, progress), thresholds.heatmap_low, thresholds.threshold.value)
    progress.note(
        f"Marks: regions of alarms above {rule.extent:.0%} of the way to the threshold, chosen on pseudo-defects; images below "
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
