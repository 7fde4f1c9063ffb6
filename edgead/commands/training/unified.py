"""Closed-form training of one model for many classes: each class gets the form that finds most of its pseudo-defects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.commands.training.best_form import LeftOut
from edgead.commands.training.class_choice import Candidate
from edgead.commands.training.class_data import ClassFeatures
from edgead.commands.training.class_search import ClassSearch, ReadBackbone
from edgead.commands.training.closed_form import ClosedForm, sizes_to_try
from edgead.commands.training.data import TrainingData
from edgead.commands.training.form_choice import Choice
from edgead.commands.training.together import announced
from edgead.config.root import Config
from edgead.data.split import Split
from edgead.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from edgead.models.backbone import Backbone
    from edgead.models.detector import Detector
    from edgead.models.hgad_closed_form import ClosedFormHgad
    from edgead.models.level import LevelSpec
    from edgead.train.class_fits import FitOptions, Judged
    from edgead.train.distributed import World

# shares of a class's map, lowest values first, that may tell the class
CLASS_SHARES = (0.05, 0.2, 1.0)
# pseudo-defective copies of each class that choose between them
COPIES = 100
# Factor between the numbers of centres that are tried, and the smallest of them.
FEWER, FEWEST_CENTRES = 4, 64


def is_unified(config: Config) -> bool:
    """Whether each class of the model is fitted in closed form."""
    from edgead.config.model import CLOSED_FORM

    return config.model.start == CLOSED_FORM


def fit_classes(
    config: Config,
    data: TrainingData,
    run: Path,
    progress: Progress,
    lap: Callable[[str], None],
    world: World | None = None,
) -> ClosedForm:
    """Fit every form of every class to all of its good images, and keep for each the one that finds most pseudo-defects.

    A class whose images have the pixels tries larger inputs too. If one of them takes a larger input, that is the model's, and
    the others shrink it. Scores are on a scale on which the thresholds of all classes are equal, so that all have one.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images; how they are split does not matter here.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        lap: Called with the name of each finished stage.
        world: Processes that compute the features together, of which this is the first; None = this one alone.
    """
    from edgead.models.hgad_closed_form import class_specs

    base, names = config.model.image_size, data.classes
    search = ClassSearch(config, data, names, fit_options(config), run, progress, world)
    everyone, sizes = range(len(names)), [sizes_to_try(config, data, name) for name in names]
    skeleton, reader = _read_skeleton(config, data, (base,))
    features = search.read(reader, everyone)
    search.find_groups(skeleton, features, reader.data)
    lap("features")
    base_specs = class_specs(config.model.levels, base, base)
    per_pixel = multiply_adds_per_pixel(skeleton.backbone, (base,))
    counts = centres_to_try(config, skeleton.backbone, base_specs, len(names), per_pixel * base**2)
    search.options = replace(search.options, centres=counts)
    search.try_size(skeleton.backbone, base_specs, base, features, everyone)
    lap(f"{base} px")
    for size in sorted({size for own in sizes for size in own[1:]}):
        larger, own_reader = _read_skeleton(config, data, (size,))
        if _is_affordable(config, size, reader.milliseconds + own_reader.milliseconds, progress):
            classes = [index for index in everyone if size in sizes[index]]
            of_size = search.read(own_reader, classes)
            search.try_size(larger.backbone, class_specs(config.model.levels, size, size), size, of_size, classes)
            lap(f"{size} px")
    chosen = search.chosen(per_pixel)
    class_sizes = tuple(one.choice.image_size for one in chosen)
    largest, map_size = max(class_sizes), None
    specs = [class_specs(config.model.levels, size, largest) for size in class_sizes]
    if largest > base:
        skeleton, reader = _read_skeleton(config, data, class_sizes)
        features, map_size = search.read(reader, everyone), skeleton.head.size
        chosen = search.refitted(chosen, skeleton.backbone, specs, features, map_size)
        lap("all sizes")
    chosen, features, suspects = search.without_suspects(chosen, skeleton.backbone, specs, features, map_size)
    update = {
        "image_size": largest,
        "class_forms": tuple(one.choice.form for one in chosen),
        "class_centres": tuple(one.choice.centres for one in chosen),
        "class_sizes": class_sizes,
        "class_fractions": tuple(one.fraction for one in chosen),
        "centres": counts[0],
    }
    config = config.model_copy(update={"model": config.model.model_copy(update=update)})
    model = hgad_model(skeleton.backbone, config, names)
    return replace(join_classes(model, search, chosen, features, 0, config, reader, lap), suspects=suspects)


def help_classes(config: Config, data: TrainingData, run: Path, world: World) -> None:
    """Compute features together with the process that calls `fit_classes`, until it needs no more."""
    search = ClassSearch(config, data, data.classes, fit_options(config), run, Silent(), world)
    while (wanted := announced(world)) is not None:
        sizes, classes = wanted
        search.help_first(_read_skeleton(config, data, sizes)[1], classes)


def hgad_model(backbone: Backbone, config: Config, names: Sequence[str]) -> ClosedFormHgad:
    """Model of some classes on a backbone, not fitted yet."""
    from edgead.models.hgad_closed_form import ClosedFormHgad
    from edgead.models.zoo import hgad_detector

    model = hgad_detector(backbone, (), config.model, names)
    assert isinstance(model, ClosedFormHgad)
    return model.eval()


def join_classes(
    model: ClosedFormHgad,
    search: ClassSearch,
    chosen: Sequence[Candidate],
    features: ClassFeatures,
    first: int,
    config: Config,
    reader: ReadBackbone,
    lap: Callable[[str], None],
) -> ClosedForm:
    """Make fitted classes part of a model, and judge their good images by it.

    Args:
        model: Model with these classes, which are set here.
        search: What found the forms.
        chosen: Fitted form of each class.
        features: Features of all good images of these classes.
        first: Index of the first of these classes in the model.
        config: Settings that describe the model.
        reader: Backbone of the model with the reader of its images.
        lap: Called with the name of each finished stage.
    """
    from edgead.train.class_fits import judge_left_out, maps_of_classes, set_class

    of_image, good, counted = search.groups.of_image, search.images.good, search.groups.counted
    for index, one in enumerate(chosen):
        set_class(model, first + index, one.fit, one.fraction)
    rows = [features.of_class(index, of_image) for index in range(len(chosen))]
    fitted = [maps_of_classes(model, features.store, own.good) for own in rows]
    if first == 0:
        copies = [maps_of_classes(model, features.store, own.pseudo[:COPIES]) for own in rows]
        config = _with_class_share(model, chosen, fitted, copies, config, search.progress)
    pairs = enumerate(zip(chosen, fitted, strict=True), start=first)
    judged = [judge_left_out(model.head, maps, one.fit, index, one.fraction) for index, (one, maps) in pairs]
    note_confusions(judged, search.images.names, search.progress, first)
    lap("closed form")
    threshold = tuple(good[row] for row in counted)
    final = replace(
        reader.data,
        split=Split(fit=good, early_stop=(), threshold=threshold),
        n_near_copies=len(good) - len(threshold),
    )
    largest = max(model.head.heads, key=lambda head: head.top_k).top_fraction
    power = round(float(np.mean([one.choice.power for one in chosen])), 6)
    choice = Choice(config.model.image_size, "classes", None, largest, power, round(reader.milliseconds, 2))
    return ClosedForm(model, config, final, joined_left_out(judged, counted), choice)


def multiply_adds_per_pixel(backbone: Backbone, sizes: Sequence[int]) -> float:
    """Multiply-adds of a backbone for a pixel of its inputs, whose sides are `sizes` pixels; it runs once for each of them."""
    return backbone.multiply_adds(max(sizes)) / sum(size**2 for size in set(sizes))


def centres_to_try(
    config: Config, backbone: Backbone, specs: Sequence[LevelSpec], n_classes: int, multiply_adds: float
) -> tuple[int, ...]:
    """Candidate numbers of centres, largest first: the configured one, then quarters of it until all classes fit `train.class_cost`.

    Args:
        config: All settings.
        backbone: Frozen features.
        specs: Features of each level of a class.
        n_classes: Number of classes of the whole model.
        multiply_adds: Multiply-adds of the backbone for an image.
    """
    from edgead.models.hgad_closed_form import CENTRES, class_cost, class_level

    counts = list(fit_options(config).centres)
    while counts[-1] >= FEWER * FEWEST_CENTRES:
        cost = class_cost([class_level(backbone, spec, CENTRES, counts[-1]) for spec in specs]).total
        if n_classes * cost <= config.train.class_cost * multiply_adds:
            break
        counts.append(counts[-1] // FEWER)
    return tuple(counts)


def fit_options(config: Config) -> FitOptions:
    """How the forms of each class are fitted."""
    from edgead.train.class_fits import FitOptions

    train = config.train
    return FitOptions(
        forms=train.forms,
        shrinkage=train.shrinkage,
        ridge=train.ridge,
        centres=(config.model.centres or train.centres,),
        centre_ridge=train.centre_ridge,
        fractions=train.top_fractions or (config.model.top_fraction,),
        seed=train.seed,
        promised_rate=train.promised_rate,
    )


def _skeleton(config: Config, sizes: Sequence[int]) -> Detector:
    """Model with the backbone and the features of classes at some input sizes, in pixels; its weights do not count."""
    from edgead.models.zoo import build_model

    distinct = tuple(dict.fromkeys(sizes))
    update = {
        "image_size": max(distinct),
        "class_sizes": distinct,
        "class_forms": ("centres",) * len(distinct),
        "centres": 2,
    }
    return build_model(config.model.model_copy(update=update), tuple(map(str, distinct))).eval()


def _read_skeleton(config: Config, data: TrainingData, sizes: Sequence[int]) -> tuple[Detector, ReadBackbone]:
    """Skeleton of classes at some input sizes, in pixels, and the reader of images of the largest one."""
    skeleton = _skeleton(config, sizes)
    return skeleton, ReadBackbone.of(config, data, skeleton.backbone, max(sizes), sizes)


def _with_class_share(
    model: ClosedFormHgad,
    chosen: Sequence[Candidate],
    fitted: Sequence[Tensor],
    copies: Sequence[Tensor],
    config: Config,
    progress: Progress,
) -> Config:
    """Choose which share of the maps tells the class, and return the settings with it.

    Args:
        model: Model whose classes are all set.
        chosen: Fitted form of each class.
        fitted: Maps `(n, K, h, w)` of the good images of each class.
        copies: The same of their first pseudo-defective copies.
        config: Settings that describe the model.
        progress: Receives a note.
    """
    from edgead.train.class_fits import choose_class_share

    unseen = []
    for index, (one, *parts) in enumerate(zip(chosen, fitted, copies, strict=True)):
        own = (one.fit.scores.maps, one.fit.scores.pseudo_maps[: len(parts[1])])
        unseen.append([_with_own(part, index, maps) for part, maps in zip(parts, own, strict=True)])
    fits, fractions = [one.fit for one in chosen], [one.fraction for one in chosen]
    found = choose_class_share(model.head, fits, fractions, unseen, CLASS_SHARES)
    share = model.head.class_share
    if len(chosen) > 1:
        which = "whole map" if share == 1 else f"lowest {share:.0%} of the map"
        progress.note(f"The {which} tells the class: it is right for {found:.1%} of good and pseudo-defective images.")
    return config.model_copy(update={"model": config.model.model_copy(update={"class_share": share})})


def _with_own(maps: Tensor, index: int, own: Tensor) -> Tensor:
    """Maps `(n, K, h, w)` with those of one class replaced."""
    changed = maps.clone()
    changed[:, index] = own
    return changed


def _is_affordable(config: Config, size: int, milliseconds: float, progress: Progress) -> bool:
    """Whether both backbone runs, at the smallest and at a larger input, keep to `train.budget_ms` together."""
    budget, smallest = config.train.budget_ms, config.model.image_size
    if budget is None or milliseconds <= budget:
        return True
    progress.note(
        f"{size} px is not tried: the backbone at {smallest} and {size} px takes {milliseconds:.0f} ms, over the budget of {budget:g} ms."
    )
    return False


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
