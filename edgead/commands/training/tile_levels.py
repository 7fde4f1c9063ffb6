"""Choice of the features that tiles are judged by: the usual ones, or finer ones for defects of a few pixels."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from edgead.commands.training.data import TrainingData
from edgead.commands.training.form_choice import Choice, best_choice
from edgead.commands.training.form_search import FormSearch
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.data.dataset import evenly_spaced
from edgead.progress import Progress

# Alone, features of stride 8 find twice the spots of 6 to 10 px on a fine texture; on rich patterns they find fewer.
FINE = ("8",)
# Tiles that features are tried on, of at least as many images.
TRIAL_TILES, TRIAL_IMAGES = 1024, 10


def levels_to_try(config: Config, data: TrainingData) -> tuple[tuple[str, ...], ...]:
    """Features to try; those of the settings alone without tiles, or where the user has chosen them."""
    own = config.model.levels
    is_usual = config.model.name == "usf" and own == ModelConfig.model_validate({"name": "usf"}).levels
    return (own, FINE) if data.n_tiles > 1 and is_usual else (own,)


def chosen_levels(config: Config, data: TrainingData, progress: Progress) -> tuple[str, ...]:
    """Features that find most pseudo-defects on tiles, tried in every closed form on a part of the images.

    Args:
        config: Settings, fitted to the backbone.
        data: Images of the training, with tiles.
        progress: Receiver of notes and progress.
    """
    levels = levels_to_try(config, data)
    if len(levels) == 1:
        return levels[0]
    every = (*data.split.fit, *data.split.early_stop, *data.split.threshold)
    some = tuple(evenly_spaced(every, max(TRIAL_IMAGES, TRIAL_TILES // data.n_tiles)))
    size = config.model.image_size
    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        # a cache shared with other runs is for the features of all images
        own = config.model_copy(update={"train": config.train.model_copy(update={"cache_dir": None})})
        search = FormSearch(own, replace(data, image_size=(size, size), known=None), some, Path(folder), progress)
        for one in levels:
            search.try_size(size, one)
    return told(search.choices, len(some), progress)


def told(choices: list[Choice], n_images: int, progress: Progress) -> tuple[str, ...]:
    """Features of the best of some choices, after a note of what each found."""
    best = best_choice(choices).levels
    found = {
        " and ".join(one.levels): best_choice([c for c in choices if c.levels == one.levels]).power for one in choices
    }
    shares = ", ".join(f"{name}: {power:.0%}" for name, power in found.items())
    progress.note(f"Features for tiles: {' and '.join(best)} (pseudo-defects found on {n_images} images: {shares}).")
    return best
