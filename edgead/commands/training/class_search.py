"""Trial of every closed form of every class, at each input size that the images of the class have the pixels for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.backbone_session import BackboneSession, session_on
from edgead.commands.training.backbone_time import backbone_milliseconds
from edgead.commands.training.class_choice import (
    Candidate,
    ClassChoice,
    best_of,
    best_of_each_form,
    chosen_within,
    cost_limit,
    memory_limit,
)
from edgead.commands.training.class_data import ClassFeatures, class_images, read_features
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.data import TrainingData
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_choice import CENTRES, POSITIONS
from edgead.commands.training.form_models import POSITION_BYTES
from edgead.commands.training.groups import Groups, image_groups
from edgead.commands.training.suspects import SHEET as SUSPECTS
from edgead.commands.training.suspects import noted_suspects, scores_by_share
from edgead.commands.training.together import announce
from edgead.config.root import Config
from edgead.data.dataset import Sample
from edgead.progress import Progress
from edgead.storage import write_json

if TYPE_CHECKING:
    from edgead.models.backbone import Backbone
    from edgead.models.detector import Detector
    from edgead.models.level import LevelSpec
    from edgead.train.class_fits import FitOptions
    from edgead.train.distributed import World


# A good image that looks defective, with its score and its map `(h, w)`.
Suspect = tuple[Sample, float, NDArray[np.float32]]


@dataclass(frozen=True)
class ReadBackbone:
    """A backbone with the reader of its images.

    Attributes:
        backbone: Frozen features.
        data: Reader of images at its input size.
        session: The backbone in ONNX Runtime; None on a GPU.
        milliseconds: Its time for an image, see `backbone_milliseconds`.
        sizes: Sides in pixels of the inputs of the classes that it has features for.
    """

    backbone: Backbone
    data: TrainingData
    session: BackboneSession | None
    milliseconds: float
    sizes: tuple[int, ...] = ()

    @staticmethod
    def of(
        config: Config, data: TrainingData, backbone: Backbone, image_size: int, sizes: Sequence[int] = ()
    ) -> ReadBackbone:
        """Backbone whose images have a side of `image_size` pixels, with features for inputs of `sizes`."""
        data = replace(data, image_size=(image_size, image_size))
        device = choose_device(config.train.device)
        session = session_on(device, backbone, data.image_size)
        milliseconds = backbone_milliseconds(config, backbone, image_size, device, session)
        return ReadBackbone(backbone, data, session, milliseconds, tuple(sizes))


class ClassSearch:
    """Trial of every form of some classes, each alone.

    Args:
        config: All settings, fitted to the backbone.
        data: Good images of these classes.
        names: Names of the classes.
        options: Forms to try.
        run: Folder of the run, for features on disk and for `choices.json`.
        progress: Receiver of notes and progress.
        world: Processes that compute the features together; None = this one alone.
    """

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        names: tuple[str, ...],
        options: FitOptions,
        run: Path,
        progress: Progress,
        world: World | None = None,
    ) -> None:
        self.world = world
        self.config, self.options, self.run, self.progress = config, options, run, progress
        self.images = class_images(config, data, names)
        self.groups = Groups((), ())
        self.candidates: list[list[Candidate]] = [[] for _ in names]
        self.choices: list[ClassChoice] = []

    def read(self, reader: ReadBackbone, classes: Sequence[int]) -> ClassFeatures:
        """Features of the good images of some classes, given by index, and of their pseudo-defective copies."""
        announce(self.world, (reader.sizes, tuple(classes)))
        return self.help_first(reader, classes)

    def help_first(self, reader: ReadBackbone, classes: Sequence[int]) -> ClassFeatures:
        """The same in another process than the first one, which has announced what it reads."""
        rows = self.images.rows_of(classes)
        return read_features(
            self.config,
            reader.data,
            self.images,
            rows,
            reader.backbone,
            reader.session,
            self.run,
            self.progress,
            self.world,
        )

    def find_groups(self, model: Detector, features: ClassFeatures, data: TrainingData) -> None:
        """Find the images that are left out together.

        Args:
            model: Model whose levels tell images apart; its projections are fitted here.
            features: Features of all images.
            data: Reader of images.
        """
        from edgead.train.start import fit_projections

        for level in model.levels:
            fit_projections(level, features.store, range(len(self.images.good)))
        pattern = self.config.data.group_pattern
        self.groups = image_groups(model, features.store, self.images.good, data.read, pattern, self.progress)

    def try_size(
        self, backbone: Backbone, specs: Sequence[LevelSpec], size: int, features: ClassFeatures, classes: Sequence[int]
    ) -> None:
        """Try all forms of some classes, given by index, at an input of `size` pixels."""
        options = replace(self.options, forms=self._forms(backbone, specs, size))
        for done, index in enumerate(classes, start=1):
            name, rows = self.images.names[index], features.of_class(index, self.groups.of_image)
            best, tried = best_of_each_form(
                backbone, specs, features.store, rows, name, size, options, self.config.train.promised_rate
            )
            self.candidates[index] += best
            self.choices += tried
            self.progress.update(f"Classes at {size} px", done, len(classes))

    def chosen(self, per_pixel: float, sizes: Sequence[int] = (), taken: int = 0) -> list[Candidate]:
        """Best form of each class within the memory and the cost; all records are written to the run.

        Args:
            per_pixel: Multiply-adds of the backbone for a pixel of its input.
            sizes: Sides in pixels of the inputs that the model has already.
            taken: Cost of the classes that the model has already, see `ClassCost.total`.
        """
        settings = self.config.train
        inputs = {*sizes, *(best_of(own).choice.image_size for own in self.candidates)}
        backbone = per_pixel * sum(size**2 for size in inputs)
        limits = memory_limit(settings.class_memory_mb), cost_limit(settings.class_cost, backbone, taken)
        chosen = chosen_within(self.candidates, limits, self.progress)
        for one in chosen:
            self.progress.note(one.choice.describe())
        kept = [one.choice for one in chosen]
        write_json(self.run / CHOICES, [{**asdict(choice), "chosen": choice in kept} for choice in self.choices])
        return chosen

    def refitted(
        self,
        chosen: Sequence[Candidate],
        backbone: Backbone,
        specs: Sequence[Sequence[LevelSpec]],
        features: ClassFeatures,
        map_size: tuple[int, int],
    ) -> list[Candidate]:
        """Fit the chosen forms again, on the features of the backbone of the whole model.

        Args:
            chosen: Chosen form of each class.
            backbone: Backbone with the features of all sizes.
            specs: Features of each level of each class.
            features: Features of the good images and their copies.
            map_size: Size `(h, w)` of the model's anomaly map.
        """
        found = []
        for index, (one, own) in enumerate(zip(chosen, specs, strict=True)):
            found.append(self._fitted_again(one, backbone, own, features, index, map_size))
            self.progress.update("Classes", index + 1, len(chosen))
        return found

    def without_suspects(
        self,
        chosen: Sequence[Candidate],
        backbone: Backbone,
        specs: Sequence[Sequence[LevelSpec]],
        features: ClassFeatures,
        map_size: tuple[int, int] | None,
    ) -> tuple[list[Candidate], ClassFeatures, tuple[Suspect, ...]]:
        """Fit the classes with good images that look defective again without these, which leave `images` and `groups`.

        Args:
            chosen: Fitted form of each class.
            backbone, specs, features, map_size: As for `refitted`; None = a map of the size of each class's finest level.

        Returns:
            The fits, the features without the suspects and the images of their groups, and the suspects, the worst first.
        """
        found = [self._suspects(one, index) for index, one in enumerate(chosen)]
        if not any(found):
            return list(chosen), features, ()
        left_out = self.groups.mates([row for own in found for row, _ in own])
        features = features.without(left_out)
        self.images, self.groups = features.images, self.groups.without(left_out)
        fits = [
            self._fitted_again(one, backbone, own, features, index, map_size) if found[index] else one
            for index, (one, own) in enumerate(zip(chosen, specs, strict=True))
        ]
        shown = sorted((suspect for own in found for _, suspect in own), key=lambda suspect: -suspect[1])
        return fits, features, tuple(shown)

    def _suspects(self, one: Candidate, index: int) -> list[tuple[int, Suspect]]:
        """Rows of the good images of a class that look defective to its form, each with its score and map."""
        if not self.config.train.leave_out_suspects:
            return []
        counted = set(self.groups.counted)
        members = self.images.members[index]
        places = [place for place, row in enumerate(members) if row in counted]
        samples = [self.images.good[members[place]] for place in places]
        scores = one.fit.scores.scores[one.fraction][places]
        name = self.images.names[index] if len(self.images.names) > 1 else None
        rate, sheet = self.config.train.promised_rate, self.run / SUSPECTS
        maps = one.fit.scores.maps
        by_share = scores_by_share(maps[places].unsqueeze(1).float().numpy(), self.options.fractions)
        found = noted_suspects(samples, scores, rate, sheet, self.progress, name, by_share=by_share)
        return [
            (members[places[number]], (samples[number], float(scores[number]), maps[places[number]].float().numpy()))
            for number in found
        ]

    def _fitted_again(
        self,
        one: Candidate,
        backbone: Backbone,
        specs: Sequence[LevelSpec],
        features: ClassFeatures,
        index: int,
        map_size: tuple[int, int] | None,
    ) -> Candidate:
        """A class with its chosen form, fitted to other features or other images."""
        from edgead.train.class_fits import fits_of_class, scored_by_others

        options = replace(
            self.options,
            forms=(one.choice.form,),
            shrinkage=(one.choice.shrinkage or 0.0,),
            centres=(one.choice.centres,),
            fractions=(one.fraction,),
            map_size=map_size,
        )
        rows = features.of_class(index, self.groups.of_image)
        (fit,) = fits_of_class(backbone, specs, features.store, rows, options)
        return replace(one, fit=scored_by_others(fit, features.store, rows, options))

    def _forms(self, backbone: Backbone, specs: Sequence[LevelSpec], size: int) -> tuple[str, ...]:
        """Forms to try: not one Gaussian per position of a large grid."""
        from edgead.models.hgad_closed_form import class_level

        forms = tuple(self.options.forms)
        levels = [class_level(backbone, spec, CENTRES, 0) for spec in specs]
        taken = sum(4.0 * level.size[0] * level.size[1] * level.channels**2 for level in levels)
        settings = self.config.model
        is_larger = size > min(settings.class_sizes, default=settings.image_size)
        if is_larger and CENTRES in forms and taken > POSITION_BYTES:
            return tuple(form for form in forms if form != POSITIONS)
        return forms
