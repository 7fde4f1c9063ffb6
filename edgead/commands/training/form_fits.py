"""Fits of one form of a closed-form model, and the left-out scores of the good images under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgead.commands.training.best_form import BestForm
from edgead.commands.training.form_choice import CENTRES, Choice
from edgead.config.root import Config
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Energies, LeftOutScores, Rows


class FormFits:
    """Fits of forms with the settings of a training.

    Args:
        config: All settings.
        tiles: Number of inputs of an image.
        progress: Receiver of progress.
    """

    def __init__(self, config: Config, tiles: int, progress: Progress) -> None:
        self.config, self.tiles, self.progress = config, tiles, progress

    def scores(self, choice: Choice, best: BestForm, rows: Rows) -> LeftOutScores:
        """Left-out scores of the best form's model, fitted as a choice says; of few images by fits on other images alone."""
        from edgead.train.cross_fit import has_few_groups

        found = self.fast_scores(choice, best, rows)
        if not has_few_groups(rows):
            return found
        return self.by_others(choice, best.model, best.store, rows, (choice.top_fraction,))

    def fast_scores(self, choice: Choice, best: BestForm, rows: Rows) -> LeftOutScores:
        """Left-out scores of the best form's model from one fit on all images."""
        from edgead.train.left_out import standardise

        best.model.head.weights = choice.level_weights or best.model.head.weights
        energies = self._energies(choice, best.model, best.store, rows)
        return standardise(best.model.head, energies, (choice.top_fraction,), self.tiles)

    def by_others(
        self, choice: Choice, model: Detector, store: FeatureStore, rows: Rows, fractions: Sequence[float]
    ) -> LeftOutScores:
        """Left-out scores of few images, each under a fit on other images alone."""
        from edgead.train.cross_fit import cross_fit
        from edgead.train.start import fit_projections

        def fit(others: Rows) -> list[Energies]:
            for level in model.levels:
                fit_projections(level, store, others.good)
            return self._energies(choice, model, store, others)

        return cross_fit(
            list(model.levels),
            model.head,
            store,
            rows,
            fit,
            fractions,
            tiles=self.tiles,
            progress=lambda done, total: self.progress.update("Each image by the others", done, total),
        )

    def _energies(self, choice: Choice, model: Detector, store: FeatureStore, rows: Rows) -> list[Energies]:
        """Energies of each level, fitted as a choice says."""
        amounts = [choice.shrinkage or 0.0]
        ((_, energies),) = self.fitted(choice.form, model, store, rows, amounts, choice.variation)
        return energies

    def fitted(
        self,
        form: str,
        model: Detector,
        store: FeatureStore,
        rows: Rows,
        amounts: Sequence[float],
        variation: float = 0.0,
    ) -> Iterator[tuple[float | None, list[Energies]]]:
        """Energies of each level, fitted with each shrinkage; centres have none."""
        from edgead.train.level_fits import fit_levels

        train, levels = self.config.train, list(model.levels)
        return fit_levels(
            levels, store, rows, None if form == CENTRES else amounts, ridge=train.ridge, centre_ridge=train.centre_ridge,
            seed=train.seed, variation=variation,
        )  # fmt: skip
