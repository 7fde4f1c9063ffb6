"""New classes for a model that exists: they are fitted, everything else stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle, open_bundle
from edgead.commands.training.class_search import ClassSearch, ReadBackbone
from edgead.commands.training.closed_form import NATIVE_SHARE, ClosedForm, native_side
from edgead.commands.training.data import TrainingData
from edgead.commands.training.unified import (
    centres_to_try,
    fit_options,
    hgad_model,
    is_unified,
    join_classes,
    multiply_adds_per_pixel,
)
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.data.dataset import evenly_spaced
from edgead.errors import ConfigError
from edgead.manifest import ClassThresholds, Provenance
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.hgad_closed_form import ClosedFormHgad

CHECKED = 64
BATCH = 8


def open_base(config: Config) -> tuple[Config, Bundle | None]:
    """Bundle whose model gets the classes of the new images, and the settings with its model; None = a new model.

    Raises:
        BundleError: If it is damaged.
        ConfigError: If its classes are not fitted in closed form.
    """
    path = config.train.add_to
    if path is None:
        return config, None
    base = open_bundle(path)
    config = config.model_copy(update={"model": ModelConfig.model_validate(base.manifest.provenance.config["model"])})
    if not is_unified(config):
        raise ConfigError(
            f"train.add_to names {path}, a bundle of {base.manifest.model}; only hgad in closed form can be given more classes.",
            hint="Train a model with: edgead train --model hgad --data DIR, with one folder per class.",
        )
    return config, base


def fit_added_classes(
    config: Config, base: Bundle, data: TrainingData, run: Path, progress: Progress, lap: Callable[[str], None]
) -> ClosedForm:
    """Fit the classes of the new images, and join them with the model of a bundle, whose weights and constants stay.

    Args:
        config: All settings, with the model of the bundle.
        base: Bundle.
        data: Good images of the new classes.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        lap: Called with the name of each finished stage.

    Raises:
        ConfigError: If a class exists already, or the images would be read by other rules.
    """
    from edgead.models.hgad_closed_form import CENTRES, ClosedFormHgad, class_cost, class_specs
    from edgead.models.zoo import load_model

    names, model = data.classes, config.model
    data = replace(data, image_size=base.image_size, classes=(*base.manifest.classes, *names))
    _check(base, data, names)
    before = load_model(base)
    assert isinstance(before, ClosedFormHgad)
    sizes = sorted({*model.class_sizes} or {model.image_size})
    specs = {size: class_specs(model.levels, size, model.image_size) for size in sizes}
    per_pixel, smallest = multiply_adds_per_pixel(before.backbone, sizes), sizes[0]
    n_classes = before.classes + len(names)
    counts = centres_to_try(config, before.backbone, specs[smallest], n_classes, per_pixel * smallest**2)
    options = replace(fit_options(config), map_size=before.head.size, centres=counts)
    search = ClassSearch(config, data, names, options, run, progress)
    reader = ReadBackbone.of(config, data, before.backbone, model.image_size)
    everyone = range(len(names))
    features = search.read(reader, everyone)
    skeleton = ClosedFormHgad(
        before.backbone,
        [specs[smallest]],
        (CENTRES,),
        centres=(2,),
        weights=[1.0] * len(model.levels),
        top_fractions=(1.0,),
    )
    search.find_groups(skeleton, features, reader.data)
    lap("features")
    for size in sizes:
        classes = [index for index in everyone if size == smallest or _has_pixels(data, names[index], size)]
        search.try_size(before.backbone, specs[size], size, features, classes)
    taken = sum(class_cost(before.levels_of(index)).total for index in range(before.classes))
    chosen = search.chosen(per_pixel, sizes, taken)
    own_specs = [specs[one.choice.image_size] for one in chosen]
    chosen, features, suspects = search.without_suspects(chosen, before.backbone, own_specs, features, before.head.size)
    before_sizes = model.class_sizes or (model.image_size,) * before.classes
    before_centres = model.class_centres or (model.centres,) * before.classes
    update = {
        "class_forms": (*model.class_forms, *(one.choice.form for one in chosen)),
        "class_centres": (*before_centres, *(one.choice.centres for one in chosen)),
        "class_sizes": (*before_sizes, *(one.choice.image_size for one in chosen)),
        "class_fractions": (*model.class_fractions, *(one.fraction for one in chosen)),
    }
    config = config.model_copy(update={"model": model.model_copy(update=update)})
    widened = _widened(before, config, data.classes)
    joined = join_classes(widened, search, chosen, features, before.classes, config, reader, lap)
    _note_taken(widened, base, progress)
    return replace(joined, suspects=suspects)


def old_summaries(thresholds: ClassThresholds) -> NDArray[np.float64]:
    """Score, largest value and ordinary value of the map per good image, `(n, 3)`, as a bundle stores them."""
    ordinary = np.full(len(thresholds.scores), thresholds.heatmap_low)
    return np.stack([np.asarray(thresholds.scores), np.asarray(thresholds.map_maxima), ordinary], axis=1)


def joined_arrays(base: Bundle, new: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Images for the device: those of the bundle followed by the new ones.

    Args:
        base: Bundle.
        new: Arrays of the new images by name, in the file's format.
    """
    held_out, corrections = base.held_out(), base.held_out_corrections()
    arrays = dict(new)
    arrays["images"] = np.concatenate([base.calibration_images(), new["images"]])
    if held_out is None or "held_out" not in new:
        return arrays
    images, names = held_out
    indices = np.array([base.manifest.classes.index(name) for name in names], np.int32)
    arrays["held_out"] = np.concatenate([images, new["held_out"]])
    arrays["held_out_classes"] = np.concatenate([indices, new["held_out_classes"]])
    if corrections is not None:
        for name, values in zip(("map_corrections", "score_corrections"), corrections, strict=True):
            arrays[name] = np.concatenate([values.astype(new[name].dtype), new[name]])
    return arrays


def with_images_of(base: Bundle, provenance: Provenance) -> Provenance:
    """Record of a model's origin that counts the images of the bundle that it was made from too."""
    before = base.manifest.provenance
    counts = {name: count + before.n_images.get(name, 0) for name, count in provenance.n_images.items()}
    digests = tuple(sorted({*before.image_digests, *provenance.image_digests}))
    return provenance.model_copy(update={"n_images": counts, "image_digests": digests})


def _check(base: Bundle, data: TrainingData, names: tuple[str, ...]) -> None:
    known = sorted(set(names) & set(base.manifest.classes))
    if known:
        raise ConfigError(
            f"{base.path} has the class {known[0]} already; its classes are {', '.join(base.manifest.classes)}.",
            hint="Name the folder of the new images after the new class, or train a new model to replace a class.",
        )
    new, own = data.preprocessing, base.manifest.preprocessing
    differing = [
        f"{name} is {getattr(new, name)}, in the bundle {getattr(own, name)}"
        for name in type(own).model_fields
        if getattr(new, name) != getattr(own, name)
    ]
    if differing:
        raise ConfigError(
            f"The new images would be read by other rules than those of {base.path}: {'; '.join(differing)}.",
            hint="Give images of the same kind, with the white level (data.white_level), crop and tiles of the bundle and "
            "without --align, or train a new model of all classes.",
        )


def _widened(before: ClosedFormHgad, config: Config, classes: Sequence[str]) -> ClosedFormHgad:
    """Model with more classes, of which the first are those of `before`."""
    model = hgad_model(before.backbone, config, classes)
    for index in range(before.classes):
        for into, level in zip(model.levels_of(index), before.levels_of(index), strict=True):
            into.load_state_dict(level.state_dict())
    model.head.copy_classes(before.head)
    return model


def _has_pixels(data: TrainingData, name: str, size: int) -> bool:
    """Whether the images of a class have the pixels for an input of `size` pixels."""
    return NATIVE_SHARE * size <= native_side(data.scan.sizes_by_class[name])


def _note_taken(model: ClosedFormHgad, base: Bundle, progress: Progress) -> None:
    """Warn if good images of the bundle look like a new class now."""
    import torch

    held_out = base.held_out()
    if held_out is None:
        return
    images, names = held_out
    rows = evenly_spaced(range(len(images)), CHECKED)
    n_old, taken = len(base.manifest.classes), 0
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            outputs = model(torch.from_numpy(images[list(rows[start : start + BATCH])]))
            taken += int((outputs[2].argmax(dim=1) >= n_old).sum())
    if taken:
        progress.note(
            f"Warning: {taken} of {len(rows)} good images of the classes {', '.join(sorted(set(names)))} look like a new class now. "
            "State the class where it is known (--class NAME), or train one model on all images."
        )
