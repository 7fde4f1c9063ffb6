"""Closed-form training: every good image fits the model and sets the threshold; pseudo-defects choose its form."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.groups import Groups, image_groups, warn_of_twins
from edgead.commands.training.needs import CACHE, feature_folder, memory_limit
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.evaluation.threshold import threshold_from_scores
from edgead.imaging import Image
from edgead.progress import Progress
from edgead.storage import write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from edgead.commands.training.backbone_session import BackboneSession
    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Energies, LeftOutScores

CHOICES = "choices.json"
RATES = (0.01, 0.02, 0.05)
LARGER_GAIN = SLACK = 0.02
NATIVE_SHARE = 0.95
POSITION_BYTES = 100e6
# keeps the random numbers of varied copies apart from those of pseudo-defects
VARIED = 1
POSITIONS, CENTRES = "positions", "centres"


@dataclass(frozen=True)
class Choice:
    """One form of the model that was tried.

    Attributes:
        image_size: Side of the input, in pixels.
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        top_fraction: Share of the map that the image score averages over, the largest that finds nearly as much as the best.
        power: Share of pseudo-defects above the thresholds of left-out good images, mean over the rates.
        milliseconds: Time of the backbone on this machine.
    """

    image_size: int
    form: str
    shrinkage: float | None
    top_fraction: float
    power: float
    milliseconds: float

    def describe(self) -> str:
        """One line for the user."""
        form = (
            "centres of features, whitened alike at all positions"
            if self.form == CENTRES
            else f"one Gaussian per position, shrinkage {self.shrinkage:g}"
        )
        return (
            f"{self.image_size} px, {form}: {self.power:.0%} of the pseudo-defects found, scores from "
            f"{self.top_fraction:.2%} of the map, backbone {self.milliseconds:.0f} ms."
        )


@dataclass(frozen=True)
class LeftOut:
    """Good images scored by the fits without them, `(n, ...)` in the order of the threshold images.

    Attributes:
        scores: Image scores.
        maps: Anomaly maps `(n, h, w)`, float32.
        fitted_scores: Image scores of the finished model, which has seen the images.
        fitted_maps: Anomaly maps of the finished model.
    """

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    fitted_scores: NDArray[np.float64]
    fitted_maps: NDArray[np.float32]


@dataclass(frozen=True)
class ClosedForm:
    """Result of a closed-form training: the model, its settings and data, the left-out scores, and the form that was chosen."""

    model: Detector
    config: Config
    data: TrainingData
    left_out: LeftOut
    choice: Choice


def best_choice(choices: Sequence[Choice]) -> Choice:
    """Form with the most power; a larger input has to gain 2 points for each doubling of its side."""
    smallest = min(choice.image_size for choice in choices)
    return max(choices, key=lambda choice: choice.power - LARGER_GAIN * math.log2(choice.image_size / smallest))


def fit_closed_form(
    config: Config, data: TrainingData, run: Path, progress: Progress, lap: Callable[[str], None]
) -> ClosedForm:
    """Fit every form of the model to all good images, and keep the one that finds most pseudo-defects.

    Each form is judged by the share of pseudo-defects above the thresholds that its left-out good images set, at the
    promised rate and at 1, 2 and 5 %.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images; how they are split does not matter here.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        lap: Called with the name of each finished stage.
    """
    good = tuple(sorted((*data.split.fit, *data.split.early_stop, *data.split.threshold), key=_by_name))
    search = _Search(config, data, good, run, progress)
    for size in sizes_to_try(config, data):
        search.try_size(size)
        lap(f"{size} px")
    best = search.best
    assert best is not None
    write_json(run / CHOICES, [vars(choice) for choice in search.choices])
    progress.note(f"Chosen by pseudo-defects: {best.choice.describe()}")
    kept = search.groups.counted
    threshold = tuple(good[index] for index in kept)
    split = Split(fit=good, early_stop=(), threshold=threshold)
    size = best.choice.image_size
    final = replace(data, split=split, image_size=(size, size), n_near_copies=len(good) - len(threshold))
    return ClosedForm(best.model, best.config, final, best.left_out(kept), best.choice)


def is_closed_form(config: Config, data: TrainingData | None) -> bool:
    """Whether the model is fitted without any step of training."""
    return config.model.couplings == "never" and (data is None or data.grid is None)


def sizes_to_try(config: Config, data: TrainingData) -> list[int]:
    """Input sizes in pixels: the setting, and larger ones that the images have the pixels for."""
    base = config.model.image_size
    native = native_side(data.scan.sizes)
    if config.model.pyramid:
        return [base]
    return [
        base,
        *(size for size in sorted(config.train.larger_sizes) if base < size and NATIVE_SHARE * size <= native),
    ]


def count_pseudo(config: Config, n_good: int) -> int:
    """Number of pseudo-defective copies of `n_good` images."""
    return min(config.train.pseudo_limit, config.train.pseudo_defects * n_good)


def count_varied(config: Config, n_good: int) -> int:
    """Number of copies of `n_good` images with a change of light, noise or compression."""
    is_used = config.train.variation > 0.0 and POSITIONS in config.train.forms
    return min(config.train.variation_limit, n_good) if is_used else 0


def native_side(sizes: Mapping[tuple[int, int], int]) -> float:
    """Median side of the images in pixels, as that of a square of the same area."""
    return statistics.median(Counter({math.sqrt(h * w): n for (h, w), n in sizes.items()}).elements())


def _by_name(sample: Sample) -> tuple[str, str]:
    return sample.class_name, sample.name


@dataclass
class _Best:
    """Best form so far, with the constants of its frozen layers and its energies."""

    choice: Choice
    model: Detector
    config: Config
    state: dict[str, Tensor]
    energies: list[Energies]
    scores: LeftOutScores

    def left_out(self, kept: Sequence[int]) -> LeftOut:
        """Restore the model to this form, and collect the scores of some images."""
        self.model.load_state_dict(self.state, strict=False)
        head, fraction = self.model.head, self.choice.top_fraction
        head.pool(fraction)
        total = sum((head.standardised(index, level.fitted) for index, level in enumerate(self.energies)), start=0.0)
        rows = list(kept)
        return LeftOut(
            scores=self.scores.scores[fraction][rows],
            maps=self.scores.maps.numpy()[rows],
            fitted_scores=head.pooled(total).double().numpy()[rows],  # type: ignore[arg-type]
            fitted_maps=total.numpy()[rows],  # type: ignore[union-attr]
        )


class _Search:
    """Trial of every form at every size."""

    def __init__(
        self, config: Config, data: TrainingData, good: tuple[Sample, ...], run: Path, progress: Progress
    ) -> None:
        self.config, self.data, self.good, self.run, self.progress = config, data, good, run, progress
        self.choices: list[Choice] = []
        self.best: _Best | None = None
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

    def _try_form(
        self, size: int, form: str, config: Config, model: Detector, store: FeatureStore, milliseconds: float
    ) -> None:
        from edgead.train.left_out import Rows, fit_centres, fit_positions, gather_positions
        from edgead.train.start import FEW_IMAGES_SHRINKAGE

        n = len(self.good)
        copies, end = n + len(self.pseudo), n + len(self.pseudo) + len(self.varied)
        rows = Rows(
            tuple(range(n)),
            tuple(range(n, copies)),
            tuple(self.pseudo),
            self.groups.of_image,
            tuple(range(copies, end)),
            tuple(self.varied),
        )
        train = config.train
        if form == CENTRES:
            energies = [
                fit_centres(level, store, rows, ridge=train.centre_ridge, seed=train.seed) for level in model.levels
            ]
            self._judge(size, form, None, config, model, energies, milliseconds)
            return
        fits = [gather_positions(level, store, rows, train.variation) for level in model.levels]
        enough = n > max(level.channels for level in model.levels)
        amounts = [amount for amount in train.shrinkage if enough or amount >= FEW_IMAGES_SHRINKAGE]
        for done, amount in enumerate(amounts or [max(train.shrinkage)], start=1):
            energies = [
                fit_positions(level, store, rows, fit, amount=amount, ridge=train.ridge)
                for level, fit in zip(model.levels, fits, strict=True)
            ]
            self._judge(size, form, amount, config, model, energies, milliseconds)
            self.progress.update(f"Fits at {size} px", done, len(amounts) or 1)

    def _judge(
        self,
        size: int,
        form: str,
        amount: float | None,
        config: Config,
        model: Detector,
        energies: list[Energies],
        milliseconds: float,
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
            state = {
                name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith("backbone.")
            }
            settings = config.model.model_copy(update={"top_fraction": fraction})
            self.best = _Best(choice, model, config.model_copy(update={"model": settings}), state, energies, found)


def rates_to_judge(n_images: int, promised: float) -> tuple[float, ...]:
    """False-alarm rates at which forms are compared; those below 1/(n + 1) become that rate."""
    smallest = 1.0 / (n_images + 1)
    return tuple(sorted({max(rate, smallest) for rate in (promised, *RATES)}))


def best_fraction(powers: Mapping[float, float]) -> float:
    """Largest share of the map that finds nearly as many pseudo-defects as the best one: real defects may be larger."""
    return max(fraction for fraction, found in powers.items() if found >= max(powers.values()) - SLACK)


def power(scores: NDArray[np.float64], pseudo: NDArray[np.float64], rates: Sequence[float]) -> float:
    """Share of pseudo-defects above the thresholds of good images, mean over the rates."""
    if not len(pseudo):
        return 0.0
    thresholds = [threshold_from_scores(scores, rate).value for rate in rates]
    return float(np.mean([np.mean(pseudo > threshold) for threshold in thresholds]))


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
