"""Closed-form training: a fit of every form of the model to all good images, the best of them, and its left-out scores."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.best_form import LeftOut
from edgead.commands.training.choices_chart import draw_choices
from edgead.commands.training.data import TrainingData
from edgead.commands.training.form_choice import Choice
from edgead.commands.training.form_search import FormSearch
from edgead.commands.training.known_report import KnownReport
from edgead.commands.training.promise import promised_threshold
from edgead.commands.training.requirements import require_weights
from edgead.commands.training.tile_levels import chosen_levels, levels_to_try
from edgead.commands.training.together import announced
from edgead.config.model import PUBLISHED
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.errors import ConfigError, EdgeadError
from edgead.progress import Progress, Silent
from edgead.storage import write_json

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.distributed import World

CHOICES = "choices.json"
CHOICES_CHART = "choices.svg"
NATIVE_SHARE = 0.95
# Up to this number of tiles, all of them are tried with each kind of features; of more only a part.
MANY_TILES = 2048


@dataclass(frozen=True)
class ClosedForm:
    """Result of a closed-form training: the model, its settings and data, the left-out scores, and the form that was chosen.

    `suspects` are good images that look defective, the worst first, with the score and the map of each; none of them was
    fitted. `known` says which known defects are found; None without any.
    """

    model: Detector
    config: Config
    data: TrainingData
    left_out: LeftOut
    choice: Choice
    suspects: tuple[tuple[Sample, float, NDArray[np.float32]], ...] = ()
    known: KnownReport | None = None


def fit_closed_form(
    config: Config,
    data: TrainingData,
    run: Path,
    progress: Progress,
    lap: Callable[[str], None],
    world: World | None = None,
) -> ClosedForm:
    """Fit every form of the model to all good images, and keep the one that finds most pseudo-defects.

    Each form is judged by the share of pseudo-defects above the thresholds that its left-out good images set, at the
    promised rate and at 1, 2 and 5 %; known defects take part by their number (`known_choice`), and set no threshold.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images; how they are split does not matter here.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        lap: Called with the name of each finished stage.
        world: Processes that compute the features together, of which this is the first; None = this one alone.

    Raises:
        ConfigError: If the composition of images is wanted that are cut into tiles.
    """
    if config.model.composition and data.n_tiles > 1:
        raise ConfigError(
            f"model.composition judges whole images, and these are cut into {data.n_tiles} tiles each.",
            hint="Leave out --tiles, or --composition; a crop (--crop) is fine.",
        )
    good = all_good(data)
    levels = levels_to_try(config, data)
    if len(good) * data.n_tiles > MANY_TILES:
        levels = (chosen_levels(config, data, progress),)
        lap("features")
    backbones = backbones_to_try(config, progress)
    search = FormSearch(config, data, good, run, progress, world)
    for size in sizes_to_try(config, data):
        for backbone in backbones:
            for one in levels:
                search.try_size(size, one, backbone)
        lap(f"{size} px")
    assert search.best is not None
    search.settle()
    by = "artificial and known defects" if search.without_each.decide else "pseudo-defects"
    progress.note(f"Chosen by {by}: {search.best.choice.describe()}")
    lap("choice")
    if config.model.composition:
        search.learn_composition()
        lap("composition")
    best = search.best
    write_json(run / CHOICES, [{**vars(choice), "chosen": choice is best.choice} for choice in search.choices])
    draw_choices(search.choices, best.choice, run / CHOICES_CHART)
    progress.note(f"What was tried, as a picture: {run / CHOICES_CHART}")
    suspects = search.suspects()
    if suspects:
        best = search.without(suspects)
    counted, fitted = set(search.groups.counted), best.images
    kept = [place for place, index in enumerate(fitted) if index in counted]
    threshold = tuple(good[fitted[place]] for place in kept)
    split = Split(fit=tuple(good[index] for index in fitted), early_stop=(), threshold=threshold)
    size = best.choice.image_size
    final = replace(data, split=split, image_size=(size, size), n_near_copies=len(fitted) - len(threshold))
    left_out = best.left_out(kept)
    shown, known = search.shown(suspects), search.known_report(best, promised_threshold(config, left_out.scores))
    return ClosedForm(best.model, best.config, final, left_out, best.choice, shown, known)


def help_closed_form(config: Config, data: TrainingData, run: Path, world: World) -> None:
    """Compute features together with the process that calls `fit_closed_form`, until it needs no more."""
    search = FormSearch(config, data, all_good(data), run, Silent(), world)
    while (wanted := announced(world)) is not None:
        search.help_first(*wanted)


def all_good(data: TrainingData) -> tuple[Sample, ...]:
    """All good images in the order of their rows, however they are split."""
    return tuple(sorted((*data.split.fit, *data.split.early_stop, *data.split.threshold), key=_by_name))


def is_closed_form(config: Config) -> bool:
    """Whether the model is fitted without any step of training."""
    return config.model.couplings == "never"


def sizes_to_try(config: Config, data: TrainingData, class_name: str | None = None) -> list[int]:
    """Input sizes in pixels: the setting, and larger ones that the images have the pixels for.

    Args:
        config: All settings.
        data: Good images.
        class_name: Class whose images count; None for all. Classes share a backbone, so that larger sizes are multiples.
    """
    base, model = config.model.image_size, config.model
    if model.pyramid or model.start == PUBLISHED:
        return [base]
    native = native_side(
        data.scan.sizes if class_name is None else data.scan.sizes_by_class[class_name], shown_share(data)
    )
    step = 1 if model.start is None else base
    return [
        base,
        *(
            size
            for size in sorted(config.train.larger_sizes)
            if base < size and size % step == 0 and NATIVE_SHARE * size <= native
        ),
    ]


def backbones_to_try(config: Config, progress: Progress) -> list[str]:
    """Backbones whose weights are there, the model's first.

    Raises:
        ConfigError: If a backbone that the user named lacks its weights, or does not fit the levels.
        MissingDependencyError: If it lacks the package of its weights.
    """
    from edgead.models.backbone_fit import fit_to_backbone

    own = config.model
    found = [own.backbone]
    for name in config.train.other_backbones:
        if name in found:
            continue
        other = own.model_copy(update={"backbone": name, "weights": None})
        try:
            require_weights(other)
            if fit_to_backbone(other)[0] != other:
                raise ConfigError(
                    f"The backbone {name} cannot be tried besides {own.backbone}: it needs other levels or another image size.",
                    hint=f"Train it alone: --backbone {name}.",
                )
        except EdgeadError as error:
            if config.train.backbones is not None:
                raise
            progress.note(f"{name} is not tried. {error} {error.hint}".rstrip())
            continue
        found.append(name)
    return found


def native_side(sizes: Mapping[tuple[int, int], int], share: float = 1.0) -> float:
    """Median side in pixels of what an input shows, as that of a square of the same area.

    Args:
        sizes: Number of images by `(height, width)` in pixels.
        share: Share of the image's area that an input shows.
    """
    return statistics.median(Counter({math.sqrt(h * w * share): n for (h, w), n in sizes.items()}).elements())


def shown_share(data: TrainingData) -> float:
    """Share of the image's area that an input shows: 1 without crop and tiles."""
    if data.grid is None:
        return 1.0
    tile = data.grid.tiles[0]
    return (tile.right - tile.left) * (tile.bottom - tile.top)


def _by_name(sample: Sample) -> tuple[str, str]:
    return sample.class_name, sample.name
