"""Choice of the rules that mark regions, when a bundle is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import class_bias
from edgead.commands.training.known_choice import weight_of_known
from edgead.commands.training.known_defects import LEAST
from edgead.data.dataset import Sample, evenly_spaced
from edgead.evaluation.mask_rule import MaskExample, choose_mask_rule
from edgead.manifest import POOLED, ClassThresholds, Manifest, MaskRule
from edgead.progress import Progress, aside
from edgead.runner import Runner

if TYPE_CHECKING:
    from edgead.commands.training.data import TrainingData

N_EXAMPLES = 64
# Tiles that are judged for the choice at most, of at least as many images.
N_TILES, LEAST_EXAMPLES = 1024, 8
# Shares of the image's shorter side; wider than elsewhere, because the extent of large defects counts too.
SIZES = (0.02, 0.25)


@dataclass(frozen=True)
class MaskRules:
    """Rule of all classes together, and those of single ones in a model of several."""

    pooled: MaskRule
    by_class: Mapping[str, MaskRule]


def fit_mask_rules(
    runner: Runner,
    data: TrainingData,
    thresholds: Mapping[str, ClassThresholds],
    progress: Progress,
    *,
    knows_classes: bool,
    base: Manifest | None = None,
) -> MaskRules | None:
    """Choose the rules on pseudo-defects in good images, and on known defects with masks if there are five or more.

    Each of several classes gets the rule that a model of this class alone would get: on its own images, at its own thresholds, with
    the class given. A closed form was fitted to the originals of the pseudo-defects.

    Args:
        runner: Open engine of the new bundle.
        data: Images of the training; with `base`, those of the new classes.
        thresholds: Thresholds per class and pooled.
        progress: Receives progress, and a note of the choice.
        knows_classes: Whether the graph takes `class_bias`.
        base: Manifest of the bundle that got more classes, whose own rules stay; None = a new model.

    Returns:
        None if `base` has no rule.
    """
    choice = _Choice(runner, data, progress, knows_classes)
    kept: dict[str, MaskRule] = {}
    if base is None:
        pooled, known = choice.rule(thresholds[POOLED], None), choice.n_known
        new = data.classes if len(data.classes) > 1 else ()
    elif base.mask_rule is not None:
        pooled, known = base.mask_rule, 0
        new = tuple(name for name in data.classes if name not in base.classes)
        # the rule of a single class is that of the class
        kept = {base.classes[0]: pooled} if len(base.classes) == 1 else base.class_mask_rules
    else:
        return None
    fitted = {name: choice.rule(thresholds[name], name) for name in new}
    own = ", ".join(f"{name} {rule.extent:.0%}" for name, rule in fitted.items())
    aside(
        progress,
        f"Marks: regions of alarms above {f'a share ({own})' if own else f'{pooled.extent:.0%}'} of the way to the threshold, "
        f"chosen on pseudo-defects{' of each class' if own else ''}{f' and {known} known ones with masks' if known else ''}; "
        f"images below the threshold have none, so at most {thresholds[POOLED].threshold.false_alarm_rate:.2%} of good images "
        "show a mark.",
    )
    return MaskRules(pooled, {**kept, **fitted})


class _Choice:
    """Choice of the rule of one class after the other; class None = all of them together, with the class unknown."""

    def __init__(self, runner: Runner, data: TrainingData, progress: Progress, knows_classes: bool) -> None:
        self._runner, self._data, self._progress = runner, data, progress
        self._knows_classes = knows_classes
        self.n_known = 0

    def rule(self, thresholds: ClassThresholds, name: str | None) -> MaskRule:
        """Rule at the thresholds of a class; `n_known` known defects took part."""
        known = self._known_examples(name)
        self.n_known = len(known)
        ordinary, threshold = thresholds.heatmap_low, thresholds.threshold.value
        return choose_mask_rule(self._examples(name), ordinary, threshold, known, weight_of_known(len(known)))

    def _examples(self, name: str | None) -> Iterator[MaskExample]:
        data, split = self._data, self._data.split
        count = min(N_EXAMPLES, max(LEAST_EXAMPLES, N_TILES // data.n_tiles))
        samples = evenly_spaced(_of_class(split.early_stop, name) or _of_class(split.threshold, name), count)
        donors = _of_class(split.fit, name)
        task = "Marks" if name is None else f"Marks of {name}"
        for i, sample in enumerate(samples):
            image, mask = data.read_pseudo_masked(sample, donors[i % len(donors)], (7, i), SIZES)
            yield self._example(image, mask, name)
            self._progress.update(task, i + 1, len(samples))

    def _known_examples(self, name: str | None) -> list[MaskExample]:
        """Known defects whose masks mark something; none if they are too few to decide."""
        known = self._data.known
        samples = [] if known is None else [s for s in _of_class(known.samples, name) if s.mask is not None]
        examples = []
        for done, sample in enumerate(samples, start=1):
            image, mask = self._data.read_masked(sample)
            if mask.any():
                examples.append(self._example(image, mask, name))
            self._progress.update("Masks of known defects", done, len(samples))
        return examples if len(examples) >= LEAST else []

    def _example(self, image: NDArray[np.uint8], mask: NDArray[np.bool_], name: str | None) -> MaskExample:
        bias = class_bias(self._data.classes, [name]) if self._knows_classes and name is not None else None
        outputs = self._runner.infer(image[None], bias)
        return MaskExample(outputs["anomaly_map"][0].copy(), float(outputs["pred_score"][0]), mask)


def _of_class(samples: Sequence[Sample], name: str | None) -> list[Sample]:
    return [sample for sample in samples if name in (None, sample.class_name)]
