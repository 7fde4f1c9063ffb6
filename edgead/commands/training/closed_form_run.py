"""A run in closed form: the fit, its bundle, and the pictures of images that decide or look defective."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.commands.training.class_addition import fit_added_classes, with_images_of
from edgead.commands.training.closed_form import fit_closed_form, help_closed_form
from edgead.commands.training.data import fit_backbone
from edgead.commands.training.device import choose_device
from edgead.commands.training.needs import CACHE
from edgead.commands.training.provenance import provenance_of
from edgead.commands.training.runs import BUNDLE, mark_latest
from edgead.commands.training.session import Session, Trained
from edgead.commands.training.together import announce
from edgead.commands.training.unified import fit_classes, help_classes, is_unified
from edgead.manifest import ClassThresholds
from edgead.prediction import HeatmapScale
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.commands.training.closed_form import ClosedForm


def train_in_closed_form(session: Session, base: Bundle | None) -> Trained:
    """Fit a model without any step of training, and write its bundle; of several processes, all compute features.

    Args:
        session: The training.
        base: Bundle of a unified model that the classes of the images are added to; None for a new model.
    """
    import torch

    from edgead.commands.training.bundle_writing import write_trained_bundle
    from edgead.train.loop import TrainState

    progress, clock = session.progress, session.clock
    choose_device(session.config.train.device)
    config, data = fit_backbone(session.config, progress), session.data
    torch.manual_seed(config.train.seed)

    run = session.open_run(config, data)
    unified, world = is_unified(config), session.world
    if not world.is_main:
        (help_classes if unified else help_closed_form)(config, data, run, world)
    else:
        if base is not None:
            found = fit_added_classes(config, base, data, run, progress, clock.lap)
        else:
            found = (fit_classes if unified else fit_closed_form)(config, data, run, progress, clock.lap, world)
        announce(world, None)
        shutil.rmtree(run / CACHE, ignore_errors=True)
        metrics = {"pseudo_defect_power": found.choice.power}
        if found.known is not None:
            metrics |= found.known.metrics
        provenance = provenance_of(found.config, found.data, metrics)
        if base is not None:
            provenance = with_images_of(base, provenance)
        write_trained_bundle(
            run / BUNDLE, found.model.cpu(), found.data, found.config, provenance, progress, found.left_out, base
        )
        thresholds = open_bundle(run / BUNDLE).thresholds()
        if base is None:
            _show_threshold_images(run, found, thresholds, progress)
        if found.suspects:
            _show_suspects(run, found, thresholds.heatmap_scale)
        mark_latest(run)
        config, data = found.config, found.data
    return Trained(run, config, data, TrainState())


def _show_threshold_images(run: Path, found: ClosedForm, thresholds: ClassThresholds, progress: Progress) -> None:
    from edgead.commands.training.threshold_images import threshold_note

    if found.known is not None:
        found.known.write(run, thresholds.heatmap_scale, found.data.overview)
        progress.note(found.known.note(run))
    progress.note(threshold_note(found.data.split.threshold, thresholds, run / BUNDLE / THRESHOLD_IMAGES))


def _show_suspects(run: Path, found: ClosedForm, scale: HeatmapScale) -> None:
    from edgead.commands.training.suspects import SHEET
    from edgead.commands.training.threshold_images import write_sheet

    samples, scores, maps = zip(*found.suspects, strict=True)
    write_sheet(run / SHEET, samples, scores, np.stack(maps), scale, found.data.overview)
