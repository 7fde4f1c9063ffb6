"""`edgead train --dry-run`: plan of a training and its needs."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.commands.training.backbone_time import read_board_times
from edgead.commands.training.class_addition import open_base
from edgead.commands.training.class_data import count_class_pseudo
from edgead.commands.training.closed_form import is_closed_form, sizes_to_try
from edgead.commands.training.data import fit_backbone, prepare_data
from edgead.commands.training.device import choose_device
from edgead.commands.training.form_inputs import count_pseudo, count_varied
from edgead.commands.training.known_defects import LEAST, KnownDefects
from edgead.commands.training.needs import CACHE, feature_folder, pseudo_copies, training_needs
from edgead.commands.training.requirements import (
    main_source,
    require_fitting_weights,
    require_other_weights,
    require_torch,
    require_weights,
)
from edgead.commands.training.unified import is_unified
from edgead.config.root import Config
from edgead.errors import EdgeadError
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.estimate import Estimate


CLOSED = "none: a closed form"


@dataclass(frozen=True)
class DryRun:
    """Plan of a training.

    Attributes:
        facts: Names and values for the user.
        needs: Memory and disk; None without data.
        n_learned: Number of trainable parameters.
        n_parameters: Number of parameters, including the frozen backbone's.
        features: Shape `(channels, height, width)` of each feature map of the backbone, by key.
        folders: Folders of features and flow inputs that do not fit in memory.
        weights: Error that the training would end with because of its backbone weights; None if they are there.
    """

    facts: list[tuple[str, str]]
    needs: Estimate | None
    n_learned: int
    n_parameters: int
    features: dict[str, tuple[int, int, int]]
    folders: tuple[Path, Path]
    weights: EdgeadError | None

    def check(self) -> None:
        """Check weights and disk; features that other runs may have left in a shared cache count as missing.

        Raises:
            ConfigError: If the backbone weights are missing, of an unknown format or of another network.
            MissingDependencyError: If they are in a package that is not installed.
            StorageError: If the disk is too small.
        """
        if self.weights is not None:
            raise self.weights
        if self.needs is not None:
            self.needs.check(*self.folders)


def dry_run(config: Config, progress: Progress, *, out: Path | None, runs: Path) -> DryRun:
    """Build the model without weights, check the data if they exist, and plan the training.

    Args:
        config: Same as for `train`.
        progress: Receiver of notes and progress.
        out: Same as for `train`; nothing is written there.
        runs: Same as for `train`.

    Raises:
        DataError: If data exist but do not suffice.
        ConfigError: If a setting does not fit the model or this machine.
        MissingDependencyError: If torch is not installed.
    """
    require_torch("A dry run")
    import torch

    from edgead.models.zoo import assemble

    config, _ = open_base(config)
    data = prepare_data(config, progress) if config.data.root.exists() or config.data.good else None
    device = choose_device(config.train.device)
    config = fit_backbone(config, progress)
    is_closed = is_closed_form(config)
    if is_closed:
        config = config.model_copy(update={"model": config.model.model_copy(update={"blocks": 0, "base": "normal"})})
    with torch.device("meta"):
        model = assemble(config.model, data.classes if data else ("part",), None)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    n_learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = [
        *_model_facts(config, model),
        ("parameters", f"{n_learned:,} trainable of {n_parameters:,}"),
        ("device", f"{device}, {processes} process{'' if processes == 1 else 'es'}"),
    ]
    needs = None
    if data is None:
        facts += [
            ("images", f"there is no folder {config.data.root} yet: sizes are per image"),
            (
                "steps",
                CLOSED if is_closed else f"{config.train.epochs} epochs in batches of {config.train.batch_size} images",
            ),
            ("needs", _needs_per_image(training_needs(config, model, 1, processes=processes))),
        ]
    elif is_closed:
        n_good = len(data.split.fit) + len(data.split.early_stop) + len(data.split.threshold)
        if is_unified(config):
            n_pseudo, n_varied = count_class_pseudo(config, data), 0
            sizes = sorted({size for name in data.scan.sizes_by_class for size in sizes_to_try(config, data, name)})
        else:
            n_inputs = n_good * data.n_tiles
            n_pseudo, n_varied = count_pseudo(config, n_inputs), count_varied(config, n_inputs)
            sizes = sizes_to_try(config, data)
        board = read_board_times(config.train.budget_bench)
        n_known = 0 if data.known is None else len(data.known.samples)
        n_rows = (n_good + n_known) * data.n_tiles + n_pseudo + n_varied
        needs = training_needs(config, model, n_rows, processes=1)
        facts += [
            ("classes", ", ".join(data.classes)),
            (
                "images",
                f"{n_good} to fit, each left out in turn for the threshold; {n_pseudo} pseudo-defective, {n_varied} changed",
            ),
            *_known_facts(data.known),
            ("sizes", ", ".join(f"{size} px" for size in sizes)),
            *[("also tried", name) for name in config.train.other_backbones],
            *([("times", str(board))] if board else []),
            ("steps", CLOSED),
            ("needs", needs.describe()),
        ]
    else:
        fit, early_stop = len(data.split.fit), len(data.split.early_stop)
        n_pseudo = pseudo_copies(config) * early_stop
        needs = training_needs(config, model, (fit + early_stop) * data.n_tiles + n_pseudo, processes=processes)
        also = f" (and {n_pseudo} pseudo-defective)" if n_pseudo else ""
        rest = f"{early_stop} to stop by{also}, {len(data.split.threshold)} for the threshold"
        steps = _steps(config, model, fit * data.n_tiles)
        total = f"{steps} per epoch, {steps * config.train.epochs:,} in {config.train.epochs} epochs"
        facts += [
            ("classes", ", ".join(data.classes)),
            ("images", f"{fit} to learn from, {rest}"),
            ("steps", f"{total}, {'at most' if config.train.keep == 'best' else 'the last one is kept'}"),
            ("needs", needs.describe()),
        ]
    run = out or runs
    features = {key: (model.backbone.channels[key], *model.backbone.sizes[key]) for key in model.backbone.keys}
    folders = (feature_folder(config, run), run / CACHE)
    return DryRun(facts, needs, n_learned, n_parameters, features, folders, _weights_problem(config))


def _known_facts(known: KnownDefects | None) -> list[tuple[str, str]]:
    if known is None:
        return []
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(Counter(s.defect for s in known.samples).items()))
    masked = sum(sample.mask is not None for sample in known.samples)
    does = "help to choose the form" if known.decide else f"decide nothing, which takes {LEAST}"
    return [
        ("known defects", f"{len(known.samples)} ({kinds}; {masked} with masks): they {does}, and set no threshold")
    ]


def _weights_problem(config: Config) -> EdgeadError | None:
    try:
        require_weights(config.model)
        require_fitting_weights(config.model)
        require_other_weights(config)
    except EdgeadError as error:
        return error
    return None


def _model_facts(config: Config, model: Detector) -> list[tuple[str, str]]:
    settings, side = config.model, config.model.image_size
    detector = f"{settings.name}, {settings.coupling} coupling, {settings.base} base, {settings.mix} mix"
    kernels = ", ".join("-".join(map(str, pair)) for pair in settings.kernels)
    facts = [
        ("detector", detector),
        ("couplings", f"{settings.blocks} per level, kernels {kernels}, hidden ratio {settings.hidden_ratio:g}"),
        ("backbone", f"{settings.backbone} on {side} x {side} px, weights: {main_source(settings)}"),
    ]
    for key in model.backbone.keys:
        h, w = model.backbone.sizes[key]
        facts.append((f"features {key}", f"{model.backbone.channels[key]} channels, {h} x {w}"))
    for level in model.levels:
        h, w = level.size
        facts.append((f"level {'+'.join(level.spec.keys)}", f"{level.channels} channels, {h} x {w}"))
    return facts


def _steps(config: Config, model: Detector, n_images: int) -> int:
    """Training steps per epoch."""
    from edgead.train.batches import count_fiber_steps

    chunks = math.ceil(n_images / config.train.batch_size)
    sizes = [n_images // chunks + (index < n_images % chunks) for index in range(chunks)]
    return chunks * (count_fiber_steps(model, sizes, config.train.fibers) if config.train.fibers else 1)


def _needs_per_image(needs: Estimate) -> str:
    features = needs.features_memory_mb + needs.features_disk_mb
    whitened = needs.whitened_memory_mb + needs.whitened_disk_mb
    return (
        f"Each image takes {features:.2f} MB for its features and {whitened:.2f} MB for the inputs of the flows; beside "
        f"that training needs about {needs.weights_mb + needs.working_mb:,.0f} MB of memory."
    )
