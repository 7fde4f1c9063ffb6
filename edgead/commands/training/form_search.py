"""Trial of every closed form of a model on all good images, at every input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.backbone_session import BackboneSession, session_on
from edgead.commands.training.backbone_time import backbone_milliseconds
from edgead.commands.training.best_form import BestForm, frozen_constants
from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_choice import (
    CENTRES,
    POSITIONS,
    Choice,
    best_choice,
    rates_to_judge,
)
from edgead.commands.training.form_fits import FormFits
from edgead.commands.training.form_inputs import FormInputs
from edgead.commands.training.form_models import FormModels
from edgead.commands.training.groups import Groups, image_groups, warn_of_twins
from edgead.commands.training.known_choice import ChoicesWithout, Tally, folds_of, level_weights_to_try
from edgead.commands.training.known_report import KnownReport
from edgead.commands.training.needs import CACHE
from edgead.commands.training.promise import promised_threshold
from edgead.commands.training.suspects import SHEET as SUSPECTS
from edgead.commands.training.suspects import noted_suspects, scores_by_share, suspected_defects
from edgead.commands.training.together import announce
from edgead.commands.training.variation_choice import choose_variation
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.progress import Progress, aside

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.distributed import World
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Energies, LeftOutScores, Rows

# Numbers of map values behind a tile's score that are tried.
TILE_COUNTS = (1, 2, 4, 8, 16, 32)


class FormSearch:
    """Trial of every form at every size: a fit learns from all inputs, and leaves out those of one image together."""

    def __init__(
        self, config: Config, data: TrainingData, good: tuple[Sample, ...], run: Path, progress: Progress,
        world: World | None = None,
    ) -> None:  # fmt: skip
        self.config, self.data, self.good, self.run, self.progress = config, data, good, run, progress
        self.tiles = data.n_tiles
        self.choices: list[Choice] = []
        self.best: BestForm | None = None
        self.unsettled: list[BestForm] = []
        self.groups = Groups((), ())
        self.inputs = FormInputs(config, data, good, run, progress, world)
        self.models = FormModels(config, data.classes)
        self.fits = FormFits(config, self.tiles, progress)
        known = data.known
        folds = () if known is None else folds_of(known.samples, config.data.group_pattern)
        self.without_each = ChoicesWithout(folds, known is not None and known.decide)

    def try_size(self, size: int, levels: tuple[str, ...] | None = None, backbone: str | None = None) -> None:
        """Try both forms at one input size.

        Args:
            size: Side of the input in pixels.
            levels: Features of the levels; None = those of the settings.
            backbone: Network; None = that of the settings.
        """
        from edgead.train.start import fit_projections

        data = replace(self.data, image_size=(size, size))
        assert data.n_tiles == self.tiles
        levels, backbone = levels or self.config.model.levels, backbone or self.config.model.backbone
        is_first = size == self.config.model.image_size and backbone == self.config.model.backbone
        session: BackboneSession | None = None
        store: FeatureStore | None = None
        known: FeatureStore | None = None
        milliseconds = 0.0
        for form in self.models.forms(size, levels):
            config, model = self.models.build(size, form, levels, backbone)
            if store is None:
                device = choose_device(config.train.device)
                session = session_on(device, model.backbone, data.image_size)
                milliseconds = backbone_milliseconds(config, model.backbone, size, device, session)
                budget = self.config.train.budget_ms
                if budget is not None and not is_first and milliseconds > budget:
                    network = f"{backbone} at " if self.models.has_others else ""
                    self.progress.note(
                        f"{network}{size} px is not tried: the backbone takes {milliseconds:.0f} ms, over the budget of {budget:g} ms."
                    )
                    return
                announce(self.inputs.world, (size, form, levels, backbone))
                cost = self.models.cost(model.backbone, backbone, size)
                store = self.inputs.features(model, session, device, data)
                known = self.inputs.known_features(model, session, device, data)
            for level in model.levels:
                fit_projections(level, store, range(self.inputs.n_inputs))
            if not self.groups.of_image:
                # one input tells copies of an image apart from others, and two pictures are compared as a whole
                middle = range(self.tiles // 2, self.inputs.n_inputs, self.tiles)
                self.groups = image_groups(
                    model, store, self.good, data.overview, self.config.data.group_pattern, self.progress, middle
                )
                if form == POSITIONS and self.tiles == 1 and self.config.data.group_pattern is None:
                    index_of = {sample: index for index, sample in enumerate(self.good)}
                    split = self.data.split
                    rows = [[index_of[sample] for sample in part] for part in (split.fit, split.early_stop)]
                    warn_of_twins(model, store, rows[0], rows[1], self.run / CACHE, self.progress)
            tried = Choice(
                size, form, None, 1.0, 0.0, round(milliseconds, 2), backbone if self.models.has_others else "", cost
            )
            self._try_form(tried, config, model, store, known)

    def help_first(self, size: int, form: str, levels: tuple[str, ...], backbone: str) -> None:
        """Compute the share of this process of the features that the first one needs; see `try_size`."""
        data = replace(self.data, image_size=(size, size))
        _config, model = self.models.build(size, form, levels, backbone)
        device = choose_device(self.config.train.device)
        session = session_on(device, model.backbone, data.image_size)
        self.inputs.features(model, session, device, data)
        self.inputs.known_features(model, session, device, data)

    def settle(self) -> None:
        """Choose the best form of all sizes, and how far it learns changes of light, noise and compression.

        Scores of few images by one fit on all of them are too good, and fits on others alone take longest. No form finds more by
        them than by the fast scores, so the forms are fitted again and again in the order of these, until no other can find more.
        """
        from edgead.train.cross_fit import has_few_groups

        best, settled = self.best, None
        assert best is not None
        if not self.unsettled:
            # with known defects, each of which a choice without it judges, promising forms are fitted again at once
            basis = self._varied(best, 0.0)[0] if has_few_groups(best.rows) and best.rows.varied else best
            chosen = self._with_variations(best, basis)
            if chosen is not basis:
                share = (chosen.choice.top_fraction,)
                self.best = self._by_others(chosen, share) if has_few_groups(best.rows) else chosen
            return
        while self.unsettled:
            form = self._first_of(self.unsettled)
            if settled is not None and self._first_of([settled, form]) is settled:
                break
            self.unsettled.remove(form)
            form = self._by_others(self._with_variations(form, form), self._fractions(form.model))
            settled = form if settled is None else self._first_of([settled, form])
        self.best = settled

    def _first_of(self, forms: Sequence[BestForm]) -> BestForm:
        best = best_choice([form.choice for form in forms])
        return next(form for form in forms if form.choice is best)

    def _with_variations(self, form: BestForm, basis: BestForm) -> BestForm:
        """The form fitted again with good images changed in light, noise and compression if that is worth it, else `basis`.

        Form, size and share of the map stay, so that only the weight of the changes differs. `basis` is the form with scores by
        one fit on all images, as those with the changes are.
        """
        if not form.rows.varied:
            return basis
        chosen, tried = choose_variation(
            basis, self.config.train.variation, lambda weight: self._varied(form, weight),
            lambda: self.inputs.kinds_of_varied(self.data), self.progress,
        )  # fmt: skip
        self.choices += tried
        return chosen

    def _by_others(self, form: BestForm, shares: Sequence[float]) -> BestForm:
        """The same form with scores by fits on other images alone, and that share of the map which finds most by them."""
        model = form.model
        model.load_state_dict(form.state, strict=False)
        model.head.weights = form.choice.level_weights or model.head.weights
        scores = self.fits.by_others(form.choice, model, form.store, form.rows, shares)
        choice = self._judged(form.choice, self._tally(scores, self._known_scores(model, form.known, shares)))
        self.choices = [choice if one is form.choice else one for one in self.choices]
        settings = form.config.model.model_copy(update={"top_fraction": choice.top_fraction})
        return replace(form, choice=choice, config=form.config.model_copy(update={"model": settings}), scores=scores)

    def _with_scores(self, form: BestForm, choice: Choice, scores: LeftOutScores) -> BestForm:
        """The form as its model is fitted now, with its left-out scores and what it finds by them."""
        known = self._known_scores(form.model, form.known, (choice.top_fraction,))
        choice = self._judged(choice, self._tally(scores, known))
        return replace(form, choice=choice, state=frozen_constants(form.model), scores=scores)

    def _varied(self, best: BestForm, weight: float) -> tuple[BestForm, NDArray[np.bool_]]:
        """The best form fitted again with changes of light at a weight, and whether each changed good image raises an alarm."""
        share, choice = best.choice.top_fraction, replace(best.choice, variation=weight)
        found = self.fits.fast_scores(choice, best, best.rows.with_varied_judged())
        scores, varied = found.split(len(best.rows.pseudo))
        alarms = varied[share] > self._threshold(scores.scores[share])
        choice = replace(choice, varied_alarms=round(float(alarms.mean()), 4))
        return self._with_scores(best, choice, scores), alarms

    def suspects(self) -> list[int]:
        """Good images that look defective to the best form, the worst first."""
        if not self.config.train.leave_out_suspects:
            return []
        samples = [self.good[index] for index in self.groups.counted]
        rate, sheet = self.config.train.promised_rate, self.run / SUSPECTS
        found = noted_suspects(
            samples, self._counted_scores(), rate, sheet, self.progress, by_share=self._counted_scores_by_share()
        )
        return [self.groups.counted[place] for place in found]

    def _counted_scores(self) -> NDArray[np.float64]:
        assert self.best is not None
        return self.best.scores.scores[self.best.choice.top_fraction][list(self.groups.counted)]

    def _counted_scores_by_share(self) -> NDArray[np.float64]:
        assert self.best is not None
        maps = self.best.scores.maps.float().numpy()
        by_image = maps.reshape(-1, self.tiles, *maps.shape[1:])[list(self.groups.counted)]
        return scores_by_share(by_image, self._fractions(self.best.model))

    def shown(self, suspects: Sequence[int]) -> tuple[tuple[Sample, float, NDArray[np.float32]], ...]:
        """The suspects with their score and map, as the best form with them gave it."""
        assert self.best is not None
        best, scores = self.best, self.best.scores.scores[self.best.choice.top_fraction]
        return tuple((self.good[index], float(scores[index]), best.image_map(index)) for index in suspects)

    def known_report(self, best: BestForm, threshold: float) -> KnownReport | None:
        """Known defects, each judged by a form that was chosen without it; None without any.

        Args:
            best: Form of the model, restored by its `left_out`.
            threshold: Threshold of the model.
        """
        if self.data.known is None:
            return None
        samples = self.data.known.samples
        maps, scores = best.known_maps(len(samples))
        judgements = self.without_each.judged_finally(best.choice, scores, threshold)
        return KnownReport(samples, tuple(judgements), maps, self.without_each.n_others(best.choice))

    def without(self, suspects: Sequence[int]) -> BestForm:
        """The best form fitted again without suspects, and without the images of their groups."""
        from edgead.train.start import fit_projections

        assert self.best is not None
        best, choice = self.best, self.best.choice
        left_out, of_image = self.groups.mates(suspects), self.groups.of_image
        rows = self.inputs.rows([index for index in range(len(self.good)) if index not in left_out], of_image)
        for level in best.model.levels:
            fit_projections(level, best.store, rows.good)
        scores = self.fits.scores(choice, best, rows)
        return self._with_composition(replace(best, state=frozen_constants(best.model), scores=scores, rows=rows))

    def learn_composition(self) -> None:
        """Fit the composition of good images for the best form, if the model has one."""
        assert self.best is not None
        self.best = self._with_composition(self.best)

    def _with_composition(self, best: BestForm) -> BestForm:
        from edgead.train.composition_fit import fit_composition

        if best.model.composition is None:
            return best
        best.model.load_state_dict(best.state, strict=False)
        train, scores = self.config.train, best.scores.scores[best.choice.top_fraction]
        offsets = fit_composition(
            best.model.composition, best.store, best.rows, scores, promised_rate=train.promised_rate, seed=train.seed
        )
        return replace(best, state=frozen_constants(best.model), scores=offsets.added_to(best.scores))

    def _try_form(
        self, tried: Choice, config: Config, model: Detector, store: FeatureStore, known: FeatureStore | None
    ) -> None:
        from edgead.train.start import FEW_IMAGES_SHRINKAGE

        form, size = tried.form, tried.image_size
        rows, train = self.inputs.rows(range(len(self.good)), self.groups.of_image), config.train
        enough = self.inputs.n_inputs > max(level.channels for level in model.levels)
        amounts = [amount for amount in train.shrinkage if enough or amount >= FEW_IMAGES_SHRINKAGE]
        amounts = amounts or [max(train.shrinkage)]
        task, total = (f"Centres at {size} px", 1) if form == CENTRES else (f"Fits at {size} px", len(amounts))
        weights_to_try = level_weights_to_try(
            config.model.level_weights, len(model.levels), decide=self.without_each.decide
        )
        self.progress.update(task, 0, total)  # the first fit takes longest
        for done, (amount, energies) in enumerate(self.fits.fitted(form, model, store, rows, amounts), start=1):
            tried = replace(tried, shrinkage=amount, levels=config.model.levels if self.tiles > 1 else ())
            for weights in weights_to_try:
                self._judge(replace(tried, level_weights=weights), config, model, energies, store, rows, known)
            self.progress.update(task, done, total)

    def _judge(
        self,
        tried: Choice,
        config: Config,
        model: Detector,
        energies: list[Energies],
        store: FeatureStore,
        rows: Rows,
        known_store: FeatureStore | None,
    ) -> None:
        from edgead.train.cross_fit import has_few_groups
        from edgead.train.left_out import standardise

        fractions, head = self._fractions(model), model.head
        head.weights = tried.level_weights or head.weights
        found = standardise(head, energies, fractions, self.tiles)
        known = self._known_scores(model, known_store, fractions)
        tally, without = self._tally(found, known), self.without_each
        choice, better = self._judged(tried, tally), without.better(tried, tally)
        is_best = self._is_best(choice)
        is_unsettled = has_few_groups(rows) and known_store is None
        if has_few_groups(rows) and not is_unsettled and (is_best or better):
            found = self.fits.by_others(tried, model, store, rows, fractions)
            tally = self._tally(found, known)
            better = without.better(tried, tally, list(better))
            if is_best:
                choice = self._judged(tried, tally)
                is_best = self._is_best(choice)
        shares = {one.top_fraction for one in better.values()}
        without.take(better, known, {share: self._threshold(found.scores[share]) for share in shares})
        self.choices.append(choice)
        aside(self.progress, choice.describe())
        if is_best or is_unsettled:
            settings: dict[str, Any] = {"top_fraction": choice.top_fraction}
            if choice.level_weights:
                settings["level_weights"] = choice.level_weights
            chosen = config.model_copy(update={"model": config.model.model_copy(update=settings)})
            grid = replace(self.data, image_size=(choice.image_size, choice.image_size)).grid
            state = frozen_constants(model)
            form = BestForm(choice, model, chosen, state, found, store, rows, grid, known_store)
            self.unsettled += [form] if is_unsettled else []
            self.best = form if is_best else self.best

    def _judged(self, tried: Choice, tally: Tally) -> Choice:
        """The choice with its share of the map and what it finds, all known defects included."""
        return tally.judge(tried, range(len(self.without_each.folds)), decide=self.without_each.decide)

    def _tally(self, found: LeftOutScores, known: Mapping[float, NDArray[np.float64]]) -> Tally:
        rates = rates_to_judge(len(self.good), self.config.train.promised_rate)
        return Tally.of(found.scores, found.pseudo, known, rates)

    def _known_scores(
        self, model: Detector, store: FeatureStore | None, fractions: Sequence[float]
    ) -> dict[float, NDArray[np.float64]]:
        """Scores of the known defects under the fit on all good images, by share of the map."""
        from edgead.train.cross_fit import scores_by_share

        if store is None:
            return {}
        return scores_by_share(
            list(model.levels), model.head, store, len(self.without_each.folds), self.tiles, fractions
        )

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        """Threshold of a model in the form of these left-out scores of the good images, suspects left out."""
        counted = scores[list(self.groups.counted)]
        if self.config.train.leave_out_suspects:
            counted = np.delete(counted, suspected_defects(counted))
        return promised_threshold(self.config, counted)

    def _is_best(self, choice: Choice) -> bool:
        return self.best is None or best_choice([self.best.choice, choice]) is choice

    def _fractions(self, model: Detector) -> tuple[float, ...]:
        """Shares of the map to try; on tiles, which are there for small defects, down to a single position."""
        own = self.config.train.top_fractions or (self.config.model.top_fraction,)
        if self.tiles == 1 or "top_fractions" in self.config.train.model_fields_set:
            return own
        positions = model.head.size[0] * model.head.size[1]
        return tuple(count / positions for count in TILE_COUNTS)
