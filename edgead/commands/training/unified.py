"""Closed-form training of one model for many classes: each class gets the form that finds most of its pseudo-defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.commands.training.backbone_session import BackboneSession
from edgead.commands.training.class_choice import best_of_each_form, chosen_within
from edgead.commands.training.class_data import pseudo_origins, read_features, rows_of_class
from edgead.commands.training.closed_form import CHOICES, ClosedForm
from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_choice import Choice, best_fraction
from edgead.commands.training.form_search import LeftOut
from edgead.commands.training.groups import image_groups
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.progress import Progress
from edgead.storage import write_json

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.models.hgad_closed_form import ClosedFormHgad
    from edgead.train.class_fits import ClassFit, FitOptions, Judged
    from edgead.train.features import FeatureStore


def is_unified(config: Config) -> bool:
    """Whether each class of the model is fitted in closed form."""
    from edgead.config.model import CLOSED_FORM

    return config.model.start == CLOSED_FORM


@dataclass
class FittedClasses:
    """Classes that were fitted together.

    Attributes:
        names: Names of the classes.
        good: Good images, class by class.
        members: Rows in `good` of each class.
        counted: Rows that count for the threshold, rising.
        store: Features of the good images, in its first rows.
        fits: Best form of each class.
        fractions: Share of the map behind the score of each class.
        power: Share of pseudo-defects found, mean over the classes.
        milliseconds: Time of the backbone on this machine; 0 if it was not measured.
    """

    names: tuple[str, ...]
    good: tuple[Sample, ...]
    members: list[list[int]]
    counted: tuple[int, ...]
    store: FeatureStore
    fits: list[ClassFit]
    fractions: list[float]
    power: float
    milliseconds: float


def fit_classes(
    config: Config, data: TrainingData, run: Path, progress: Progress, lap: Callable[[str], None]
) -> ClosedForm:
    """Fit every form of every class to all of its good images, and keep for each the one that finds most pseudo-defects.

    Scores are in deviations of each class's left-out scores, so that all have one threshold.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images; how they are split does not matter here.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        lap: Called with the name of each finished stage.
    """
    from edgead.models.hgad_closed_form import ClosedFormHgad
    from edgead.models.zoo import build_model, hgad_detector

    size = config.model.image_size
    data, options = replace(data, image_size=(size, size)), fit_options(config)
    settings = config.model.model_copy(update={"class_forms": ("centres",), "centres": 2})
    skeleton = build_model(settings, ("shared",)).eval()
    found = fit_each_class(config, data, data.classes, skeleton, options, run, progress, lap)
    update = {
        "class_forms": tuple(fit.form for fit in found.fits),
        "class_fractions": tuple(found.fractions),
        "centres": options.centres,
    }
    config = config.model_copy(update={"model": config.model.model_copy(update=update)})
    model = hgad_detector(skeleton.backbone, skeleton.levels, config.model, data.classes)
    assert isinstance(model, ClosedFormHgad)
    return join_classes(model.eval(), found, 0, config, data, progress, lap)


def fit_each_class(
    config: Config,
    data: TrainingData,
    names: tuple[str, ...],
    skeleton: Detector,
    options: FitOptions,
    run: Path,
    progress: Progress,
    lap: Callable[[str], None],
) -> FittedClasses:
    """Fit some classes, each alone.

    Args:
        config, data, run, progress, lap: Same as for `fit_classes`.
        names: Classes to fit, which all images belong to.
        skeleton: Model with the backbone and the features of each class; its own class tells near-copies only.
        options: Forms to try.
    """
    from edgead.train.start import fit_projections

    split = data.split
    good = tuple(
        sorted(
            (*split.fit, *split.early_stop, *split.threshold),
            key=lambda sample: (names.index(sample.class_name), sample.name),
        )
    )
    members = [[row for row, sample in enumerate(good) if sample.class_name == name] for name in names]
    pseudo = [pair for own in members for pair in pseudo_origins(config, own)]
    is_cpu = choose_device(config.train.device).type == "cpu"
    session = BackboneSession(skeleton.backbone, data.image_size) if is_cpu else None
    store = read_features(config, data, good, pseudo, skeleton.backbone, session, run, progress)
    for level in skeleton.levels:
        fit_projections(level, store, range(len(good)))
    groups = image_groups(skeleton, store, good, data.read, config.data.group_pattern, progress)
    lap("features")
    candidates, choices = [], []
    for index, (name, own) in enumerate(zip(names, members, strict=True)):
        rows = rows_of_class(own, len(good), [origin for origin, _ in pseudo], groups.of_image)
        best, tried = best_of_each_form(skeleton, store, rows, name, options, config.train.promised_rate)
        candidates.append(best)
        choices += tried
        progress.update("Classes", index + 1, len(names))
    chosen = chosen_within(candidates, config.train.class_memory_mb, progress)
    for one in chosen:
        progress.note(one.choice.describe())
    kept = [one.choice for one in chosen]
    write_json(run / CHOICES, [{**asdict(choice), "chosen": choice in kept} for choice in choices])
    fractions = [best_fraction(one.powers) for one in chosen]
    found = float(np.mean([one.powers[fraction] for one, fraction in zip(chosen, fractions, strict=True)]))
    milliseconds = session.milliseconds() if session else 0.0
    fits = [one.fit for one in chosen]
    return FittedClasses(names, good, members, groups.counted, store, fits, fractions, found, milliseconds)


def join_classes(
    model: ClosedFormHgad,
    found: FittedClasses,
    first: int,
    config: Config,
    data: TrainingData,
    progress: Progress,
    lap: Callable[[str], None],
) -> ClosedForm:
    """Make fitted classes part of a model, and judge their good images by it.

    Args:
        model: Model with these classes, which are set here.
        found: Fitted classes.
        first: Index of the first of them in the model.
        config: Settings that describe the model.
        data: Images of the training.
        progress, lap: Same as for `fit_classes`.
    """
    from edgead.train.class_fits import judge_left_out, set_class

    triples = list(enumerate(zip(found.fits, found.fractions, found.members, strict=True), start=first))
    for index, (fit, fraction, _) in triples:
        set_class(model, index, fit, fraction)
    judged = [judge_left_out(model, found.store, fit, index, own, fraction) for index, (fit, fraction, own) in triples]
    note_confusions(judged, found.names, progress, first)
    lap("closed form")
    threshold = tuple(found.good[row] for row in found.counted)
    final = replace(
        data,
        split=Split(fit=found.good, early_stop=(), threshold=threshold),
        n_near_copies=len(found.good) - len(threshold),
    )
    largest = max(model.head.heads, key=lambda head: head.top_k).top_fraction
    choice = Choice(
        config.model.image_size, "classes", None, largest, round(found.power, 6), round(found.milliseconds, 2)
    )
    return ClosedForm(model, config, final, joined_left_out(judged, found.counted), choice)


def fit_options(config: Config) -> FitOptions:
    """How the forms of each class are fitted."""
    from edgead.train.class_fits import FitOptions

    train = config.train
    return FitOptions(
        forms=train.forms,
        shrinkage=train.shrinkage,
        ridge=train.ridge,
        centres=config.model.centres or train.centres,
        centre_ridge=train.centre_ridge,
        fractions=train.top_fractions or (config.model.top_fraction,),
        seed=train.seed,
    )


def note_confusions(judged: Sequence[Judged], names: Sequence[str], progress: Progress, first: int) -> None:
    """Say how many good images the model takes for another class, which then judges them.

    Args:
        judged: Judged images of each class.
        names: Names of these classes.
        progress: Receives the sentence.
        first: Number of classes of the model before these.
    """
    wrong = {
        name: int((one.predicted != index).sum())
        for index, (name, one) in enumerate(zip(names, judged, strict=True), start=first)
    }
    total = sum(len(one.predicted) for one in judged)
    if any(wrong.values()):
        which = ", ".join(f"{count} of {name}" for name, count in wrong.items() if count)
        progress.note(
            f"Warning: {sum(wrong.values())} of {total} good images look like another class ({which}). State the class where it is "
            "known (--class NAME), or train these classes apart."
        )
    elif first + len(names) > 1:
        progress.note(f"The model recognises the class of all {total} good images; it need not be told.")


def joined_left_out(judged: Sequence[Judged], kept: Sequence[int]) -> LeftOut:
    """Left-out scores of all classes, one after the other, for the images that count for the threshold."""

    def joined(field: str) -> Any:
        return np.concatenate([getattr(one, field) for one in judged])[list(kept)]

    return LeftOut(
        scores=joined("scores"),
        maps=joined("maps"),
        fitted_scores=joined("fitted_scores"),
        fitted_maps=joined("fitted_maps"),
        known_scores=joined("known_scores"),
        known_maps=joined("known_maps"),
    )
