"""Trial of every closed form of a model on all good images, at every input size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_choice import (
    CENTRES,
    POSITIONS,
    Choice,
    best_choice,
    best_fraction,
    power,
    rates_to_judge,
)
from edgead.commands.training.groups import Groups, image_groups, warn_of_twins
from edgead.commands.training.needs import CACHE, feature_folder, memory_limit
from edgead.commands.training.suspects import SHEET as SUSPECTS
from edgead.commands.training.suspects import suspected_defects, suspects_note
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgead.commands.training.backbone_session import BackboneSession
    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Energies, LeftOutScores, Rows

POSITION_BYTES = 100e6
# keeps the random numbers of varied copies apart from those of pseudo-defects
VARIED = 1


@dataclass(frozen=True)
class LeftOut:
    """Good images scored by the fits without them, `(n, ...)` in the order of the threshold images.

    Attributes:
        scores: Image scores.
        maps: Anomaly maps `(n, h, w)`, float32.
        fitted_scores: Image scores of the finished model, which has seen the images.
        fitted_maps: Anomaly maps of the finished model.
        known_scores, known_maps: Left-out scores and maps with the class given; None for a model without classes.
    """

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    fitted_scores: NDArray[np.float64]
    fitted_maps: NDArray[np.float32]
    known_scores: NDArray[np.float64] | None = None
    known_maps: NDArray[np.float32] | None = None


def count_pseudo(config: Config, n_good: int) -> int:
    """Number of pseudo-defective copies of `n_good` images."""
    return min(config.train.pseudo_limit, config.train.pseudo_defects * n_good)


def count_varied(config: Config, n_good: int) -> int:
    """Number of copies of `n_good` images with a change of light, noise or compression."""
    is_used = config.train.variation > 0.0 and POSITIONS in config.train.forms
    return min(config.train.variation_limit, n_good) if is_used else 0


@dataclass
class BestForm:
    """Best form so far, with the constants of its frozen layers, and the features that it was fitted on."""

    choice: Choice
    model: Detector
    config: Config
    state: dict[str, Tensor]
    scores: LeftOutScores
    store: FeatureStore
    rows: Rows

    def left_out(self, kept: Sequence[int]) -> LeftOut:
        """Restore the model to this form, and collect the scores of some of the images that it was fitted on."""
        from edgead.train.left_out import fitted_energies

        self.model.load_state_dict(self.state, strict=False)
        head, fraction = self.model.head, self.choice.top_fraction
        head.pool(fraction)
        rows = [self.rows.good[index] for index in kept]
        energies = [fitted_energies(level, self.store, rows) for level in self.model.levels]
        fitted_maps, fitted_scores = head(energies)
        return LeftOut(
            scores=self.scores.scores[fraction][list(kept)],
            maps=self.scores.maps.numpy()[list(kept)],
            fitted_scores=fitted_scores.double().numpy(),
            fitted_maps=fitted_maps.numpy(),
        )


class FormSearch:
    """Trial of every form at every size."""

    def __init__(
        self, config: Config, data: TrainingData, good: tuple[Sample, ...], run: Path, progress: Progress
    ) -> None:
        self.config, self.data, self.good, self.run, self.progress = config, data, good, run, progress
        self.choices: list[Choice] = []
        self.best: BestForm | None = None
        self.groups = Groups((), ())
        self.pseudo = self._pseudo_origins()
        self.varied: list[int] = []

    def try_size(self, size: int) -> None:
        """Try both forms at one input size."""
        from edgead.train.start import fit_projections

        data = replace(self.data, image_size=(size, size))
        session: BackboneSession | None = None
        store: FeatureStore | None = None
        milliseconds = 0.0
        forms = self._forms(size)
        self.varied = self._varied_origins() if POSITIONS in forms else []
        for form in forms:
            config, model = self._model(size, form)
            if store is None:
                device = choose_device(config.train.device)
                session = _session(model, device, data)
                milliseconds = session.milliseconds() if session else _torch_milliseconds(model, size, device)
                budget = self.config.train.budget_ms
                if budget is not None and size > self.config.model.image_size and milliseconds > budget:
                    self.progress.note(
                        f"{size} px is not tried: the backbone takes {milliseconds:.0f} ms, over the budget of {budget:g} ms."
                    )
                    return
                store = self._features(model, session, device, config, data)
            for level in model.levels:
                fit_projections(level, store, range(len(self.good)))
            if not self.groups.of_image:
                self.groups = image_groups(
                    model, store, self.good, data.read, self.config.data.group_pattern, self.progress
                )
                if form == POSITIONS and self.config.data.group_pattern is None:
                    index_of = {sample: index for index, sample in enumerate(self.good)}
                    split = self.data.split
                    rows = [[index_of[sample] for sample in part] for part in (split.fit, split.early_stop)]
                    warn_of_twins(model, store, rows[0], rows[1], self.run / CACHE, self.progress)
            self._try_form(size, form, config, model, store, milliseconds)

    def _forms(self, size: int) -> list[str]:
        forms: list[str] = list(self.config.train.forms)
        if size > self.config.model.image_size and CENTRES in forms and self._position_bytes(size) > POSITION_BYTES:
            return [form for form in forms if form != POSITIONS]
        return forms

    def _position_bytes(self, size: int) -> float:
        _config, model = self._model(size, CENTRES)
        return sum(4.0 * level.size[0] * level.size[1] * level.channels**2 for level in model.levels)

    def _model(self, size: int, form: str) -> tuple[Config, Detector]:
        from edgead.models.zoo import build_model

        settings: dict[str, Any] = {
            "image_size": size,
            "blocks": 0,
            "base": "normal",
            "positions": form == POSITIONS,
            "centres": (self.config.model.centres or self.config.train.centres) if form == CENTRES else 0,
        }
        config = self.config.model_copy(update={"model": self.config.model.model_copy(update=settings)})
        model = build_model(config.model, self.data.classes)
        model.drop_couplings()
        return config, model.eval()

    def _features(
        self,
        model: Detector,
        session: BackboneSession | None,
        device: torch.device,
        config: Config,
        data: TrainingData,
    ) -> FeatureStore:
        import torch

        from edgead.train.features import FeatureStore, extract_features, feature_key

        n = len(self.good)
        copies, varied = len(self.pseudo), len(self.varied)

        def read(index: int) -> Image:
            if index < n:
                return data.read(self.good[index])
            if index >= n + copies:
                number = index - n - copies
                return data.read_varied(self.good[self.varied[number]], (config.train.seed, VARIED, number))
            origin = self.pseudo[index - n]
            donor = self.good[(origin + 1) % n]
            return data.read_pseudo(self.good[origin], donor, (config.train.seed, origin, index - n))

        content = f"{data.digest}/{config.train.seed}/closed-form/{copies}/{varied}"
        key = feature_key(model.backbone, content, data.preprocessing)
        task = f"Features at {data.image_size[0]} px"
        found = extract_features(
            session or model.backbone.to(device),
            read,
            n + copies + varied,
            device=device,
            memory_limit=0 if config.train.cache_dir else memory_limit(config, 1),
            folder=feature_folder(config, self.run),
            key=key,
            progress=lambda done, total: self.progress.update(task, done, total),
        )
        # the fits are few large sums in float64, which stay on the CPU
        model.cpu()
        return FeatureStore(found.arrays, torch.device("cpu"))

    def _pseudo_origins(self) -> list[int]:
        """Images that get a pseudo-defective copy, spread over all of them."""
        n = len(self.good)
        wanted = count_pseudo(self.config, n)
        random = np.random.default_rng(self.config.train.seed)
        order = [int(i) for _ in range(-(-wanted // n)) for i in random.permutation(n)]
        return order[:wanted]

    def _varied_origins(self) -> list[int]:
        """Images that get a copy with a change of light, noise or compression, spread over all of them."""
        random = np.random.default_rng((self.config.train.seed, VARIED))
        n = len(self.good)
        return [int(i) for i in random.permutation(n)[: count_varied(self.config, n)]]

    def suspects(self) -> list[int]:
        """Good images that look defective to the best form, the worst first."""
        if not self.config.train.leave_out_suspects:
            return []
        found = suspected_defects(self._counted_scores())
        if found:
            samples = [self.good[index] for index in self.groups.counted]
            rate = max(self.config.train.promised_rate, 1.0 / (len(samples) - len(found) + 1))
            self.progress.note(suspects_note(samples, self._counted_scores(), found, rate, self.run / SUSPECTS))
        return [self.groups.counted[place] for place in found]

    def _counted_scores(self) -> NDArray[np.float64]:
        assert self.best is not None
        return self.best.scores.scores[self.best.choice.top_fraction][list(self.groups.counted)]

    def shown(self, suspects: Sequence[int]) -> tuple[tuple[Sample, float, NDArray[np.float32]], ...]:
        """The suspects with their score and map, as the best form with them gave it."""
        assert self.best is not None
        scores, maps = self.best.scores.scores[self.best.choice.top_fraction], self.best.scores.maps
        return tuple((self.good[index], float(scores[index]), maps[index].float().numpy()) for index in suspects)

    def without(self, suspects: Sequence[int]) -> BestForm:
        """The best form fitted again without suspects, and without the images of their groups."""
        from edgead.train.left_out import standardise
        from edgead.train.start import fit_projections

        assert self.best is not None
        best, choice = self.best, self.best.choice
        of_image = self.groups.of_image
        names = {of_image[index] for index in suspects}
        # those of the best form's store; the last size that was tried may have none
        self.varied = self._varied_origins() if best.rows.varied else []
        rows = self._rows([index for index in range(len(self.good)) if of_image[index] not in names])
        for level in best.model.levels:
            fit_projections(level, best.store, rows.good)
        ((_, energies),) = self._fitted(choice.form, best.model, best.store, rows, [choice.shrinkage or 0.0])
        scores = standardise(best.model.head, energies, (choice.top_fraction,))
        return replace(best, state=_frozen(best.model), scores=scores, rows=rows)

    def _rows(self, good: Sequence[int]) -> Rows:
        """Rows of the feature store for a fit on some of the good images."""
        from edgead.train.left_out import Rows

        place = {index: number for number, index in enumerate(good)}
        pseudo = [number for number, origin in enumerate(self.pseudo) if origin in place]
        varied = [number for number, origin in enumerate(self.varied) if origin in place]
        n, copies = len(self.good), len(self.good) + len(self.pseudo)
        return Rows(
            tuple(good),
            tuple(n + number for number in pseudo),
            tuple(place[self.pseudo[number]] for number in pseudo),
            tuple(self.groups.of_image[index] for index in good),
            tuple(copies + number for number in varied),
            tuple(place[self.varied[number]] for number in varied),
        )

    def _fitted(
        self, form: str, model: Detector, store: FeatureStore, rows: Rows, amounts: Sequence[float]
    ) -> Iterator[tuple[float | None, list[Energies]]]:
        """Energies of each level, fitted with each shrinkage; centres have none."""
        from edgead.train.left_out import fit_centres, fit_positions, gather_positions

        train = self.config.train
        if form == CENTRES:
            yield (
                None,
                [fit_centres(level, store, rows, ridge=train.centre_ridge, seed=train.seed) for level in model.levels],
            )
            return
        fits = [gather_positions(level, store, rows, train.variation) for level in model.levels]
        for amount in amounts:
            yield (
                amount,
                [
                    fit_positions(level, store, rows, fit, amount=amount, ridge=train.ridge)
                    for level, fit in zip(model.levels, fits, strict=True)
                ],
            )

    def _try_form(
        self, size: int, form: str, config: Config, model: Detector, store: FeatureStore, milliseconds: float
    ) -> None:
        from edgead.train.start import FEW_IMAGES_SHRINKAGE

        rows, train = self._rows(range(len(self.good))), config.train
        enough = len(self.good) > max(level.channels for level in model.levels)
        amounts = [amount for amount in train.shrinkage if enough or amount >= FEW_IMAGES_SHRINKAGE]
        amounts = amounts or [max(train.shrinkage)]
        for done, (amount, energies) in enumerate(self._fitted(form, model, store, rows, amounts), start=1):
            self._judge(size, form, amount, config, model, energies, milliseconds, store, rows)
            if amount is not None:
                self.progress.update(f"Fits at {size} px", done, len(amounts))

    def _judge(
        self,
        size: int,
        form: str,
        amount: float | None,
        config: Config,
        model: Detector,
        energies: list[Energies],
        milliseconds: float,
        store: FeatureStore,
        rows: Rows,
    ) -> None:
        from edgead.train.left_out import standardise

        fractions = self.config.train.top_fractions or (self.config.model.top_fraction,)
        found = standardise(model.head, energies, fractions)
        rates = rates_to_judge(len(self.good), self.config.train.promised_rate)
        powers = {f: power(found.scores[f], found.pseudo[f], rates) for f in fractions}
        fraction = best_fraction(powers)
        choice = Choice(size, form, amount, fraction, round(powers[fraction], 6), round(milliseconds, 2))
        self.choices.append(choice)
        self.progress.note(choice.describe())
        if self.best is None or best_choice(self.choices) is choice:
            settings = config.model.model_copy(update={"top_fraction": fraction})
            chosen = config.model_copy(update={"model": settings})
            self.best = BestForm(choice, model, chosen, _frozen(model), found, store, rows)


def _frozen(model: Detector) -> dict[str, Tensor]:
    """Copies of the constants beside the backbone."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}


def _session(model: Detector, device: torch.device, data: TrainingData) -> BackboneSession | None:
    """ONNX Runtime for the features, where torch would run on the CPU."""
    from edgead.commands.training.backbone_session import BackboneSession

    return BackboneSession(model.backbone, data.image_size) if device.type == "cpu" else None


def _torch_milliseconds(model: Detector, size: int, device: torch.device) -> float:
    import torch

    backbone = model.backbone.to(device)
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)

    def run() -> None:
        for features in backbone(image).values():
            features.cpu()  # waits for a GPU

    with torch.no_grad():
        run()
        started = time.perf_counter()
        run()
    return 1e3 * (time.perf_counter() - started)
