"""`edgead train`: from good images to a bundle."""

from __future__ import annotations

import datetime
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle, open_bundle
from edgead.commands.training.class_addition import fit_added_classes, open_base, with_images_of
from edgead.commands.training.closed_form import fit_closed_form, is_closed_form
from edgead.commands.training.curve import write_curve, write_table
from edgead.commands.training.data import DRAWING, TrainingData, fit_backbone, prepare_data
from edgead.commands.training.device import choose_device, is_launched_with_others, is_main_process
from edgead.commands.training.near_copies import independent_images, whitened_features
from edgead.commands.training.needs import CACHE, feature_folder, memory_limit, pseudo_copies, training_needs
from edgead.commands.training.requirements import require_fitting_weights, require_torch, require_weights
from edgead.commands.training.runs import (
    BUNDLE,
    CHECKPOINT,
    locked_run,
    mark_latest,
    new_run,
    open_run,
    package_versions,
    read_run,
    unfinished_run,
)
from edgead.commands.training.tile_levels import chosen_levels
from edgead.commands.training.unified import fit_classes, is_unified
from edgead.commands.training.verdict import Verdict, verdict_of
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.data.copies import STORED_DIGITS
from edgead.data.snapshots import check_snapshot, snapshot_of
from edgead.imaging import Image
from edgead.manifest import ClassThresholds, Provenance
from edgead.prediction import HeatmapScale
from edgead.progress import Progress, Silent
from edgead.storage import write_json

if TYPE_CHECKING:
    from edgead.commands.training.closed_form import ClosedForm
    from edgead.models.detector import Detector
    from edgead.train.distributed import World
    from edgead.train.estimate import Estimate
    from edgead.train.features import FeatureStore
    from edgead.train.loop import LoopSettings, TrainState
    from edgead.train.start import Indices, LevelStart

HISTORY = "history.json"
CURVE, CURVE_TABLE = "training.png", "training.csv"
ALIKE = 0.3
HELPFUL = 0.005


@dataclass
class TrainResult:
    """Result of a training run.

    Attributes:
        run: Folder of the run.
        bundle: Finished bundle.
        state: Epochs and likelihoods.
        starts: Choices of the closed form per level.
        seconds: Wall time per stage.
        n_broken: Number of images left out because they cannot be read.
        pseudo_auroc: Pseudo-defect AUROC at the closed-form start and after training; None if it decides nothing.
        couplings_kept: Whether the trained couplings are in the bundle.
        verdict: Judgement of the training, with what would help; None in a process that did not write the bundle.
    """

    run: Path
    bundle: Bundle
    state: TrainState
    starts: list[LevelStart]
    seconds: dict[str, float]
    n_broken: int
    pseudo_auroc: tuple[float, float] | None
    couplings_kept: bool
    verdict: Verdict | None = None

    def __repr__(self) -> str:
        grade = "" if self.verdict is None else f", verdict={self.verdict.grade!r}"
        return f"TrainResult(run={str(self.run)!r}{grade}, seconds={sum(self.seconds.values()):.0f}, bundle={self.bundle!r})"


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = round(now - self.started, 2)
        self.started = now


def train(config: Config, progress: Progress, *, out: Path | None, runs: Path, resume: bool) -> TrainResult:
    """Train on good images and write a bundle.

    Args:
        config: All settings.
        progress: Receiver of notes and progress.
        out: Folder of the run; None = a new one in `runs`.
        runs: Parent folder of the runs, which contains the link `latest`.
        resume: Whether to continue from the checkpoint in `out`, with exactly the settings and images of that run; see
            `resumed_config`.

    Raises:
        DataError: If there are too few usable images.
        ConfigError: If a setting does not fit the model, or a resumed run has other settings or images; they are named.
        StorageError: If another process trains in the folder of the run, or the disk is full.
        TrainingError: If numbers are not finite, or a checkpoint does not fit.
        MissingDependencyError: If a package that training needs is not installed.
    """
    require_torch("Training")
    config, base = open_base(config)
    clock = _Clock()
    with ExitStack() as held:
        world = None
        if is_launched_with_others():
            from edgead.train.distributed import launched_world

            # before any check: from here on an error of one process ends all of them
            world = held.enter_context(launched_world())
        require_weights(config.model)
        require_fitting_weights(config.model)
        if resume:
            out = out or unfinished_run(runs)
            read_run(out)  # a misspelt folder is not made for its lock
            if is_main_process():
                held.enter_context(locked_run(out))
        if world is None:
            data = checked_data(config, progress)
            # importing torch takes seconds: report bad data first
            from edgead.train.distributed import World

            world = World()
        else:
            progress = progress if world.is_main else Silent()
            data = world.from_main(lambda: checked_data(config, progress))
        clock.lap("scan")
        if is_closed_form(config):
            return _train_in_closed_form(config, data, progress, world, clock, out, runs, resume, held, base)
        return _train(config, data, progress, world, clock, out, runs, resume, held)


def checked_data(config: Config, progress: Progress) -> TrainingData:
    """The images to train on; those of a snapshot are compared with its list, before anything is fitted to them."""
    data = prepare_data(config, progress)
    if (snapshot := snapshot_of(data.root)) is not None:
        check_snapshot(snapshot)
        data = replace(data, snapshot=snapshot.digest)
    return data


def _train(
    config: Config, data: TrainingData, progress: Progress, world: World, clock: _Clock,
    out: Path | None, runs: Path, resume: bool, held: ExitStack,
) -> TrainResult:  # fmt: skip
    from edgead.commands.training.bundle_writing import write_trained_bundle
    from edgead.models.zoo import build_model
    from edgead.train.loop import train_flow
    from edgead.train.start import fit_head, pseudo_defect_auroc

    device = choose_device(config.train.device)
    config = fit_backbone(config, progress)
    data = replace(data, image_size=(config.model.image_size, config.model.image_size))
    if data.n_tiles > 1:
        levels = world.from_main(lambda: chosen_levels(config, data, progress))
        config = config.model_copy(update={"model": config.model.model_copy(update={"levels": levels})})
    _seed(config.train.seed)
    model = build_model(config.model, data.classes).to(device)

    run = world.from_main(lambda: _opened_run(config, data, out, runs, resume, held))
    progress.note(f"Run folder: {run}")
    prepared = _closed_form_start(config, data, model, run, progress, clock, world)
    arrays, labels, indices = prepared.arrays, prepared.labels, prepared.indices
    data = _without_near_copies(config, data, model, prepared, progress, world)

    def judge() -> float | None:
        return pseudo_defect_auroc(model, arrays, labels, indices) if indices.pseudo else None

    before = world.from_main(judge)
    epochs = config.train.epochs
    loss_text = ""

    def on_step(epoch: int, step: int, steps: int) -> None:
        progress.update("Training", (epoch - 1) * steps + step, epochs * steps, loss_text)

    def on_epoch(state: TrainState) -> None:
        nonlocal loss_text
        loss_text = f"held-out loss {state.held_out_loss[-1]:.4f}"
        if world.is_main:
            write_json(run / HISTORY, {"fit_loss": state.fit_loss, "held_out_loss": state.held_out_loss})
            write_table(run / CURVE_TABLE, state.fit_loss, state.held_out_loss)
            write_curve(run / CURVE, state.fit_loss, state.held_out_loss, state.kept_epoch)

    state = train_flow(
        model, arrays, labels, indices.fit, indices.early_stop, _loop_settings(config), run / CHECKPOINT,
        resume=resume, on_step=on_step, on_epoch=on_epoch, world=world,
    )  # fmt: skip
    if state.epoch < epochs:
        progress.update("Training", 1, 1, loss_text)
    progress.note(
        f"Held-out loss {state.held_out_loss[0]:.4f} at the closed-form start, {state.kept_loss:.4f} at epoch "
        f"{state.kept_epoch} of {state.epoch}."
    )
    after = world.from_main(judge)
    kept = True
    if before is not None and after is not None:
        kept = config.model.couplings == "always" or after - before > HELPFUL
        progress.note(
            f"Pseudo-defect AUROC {before:.4f} at the start, {after:.4f} with couplings: they are "
            f"{'kept' if kept else f'dropped, because they gain no more than {HELPFUL:g}'}."
        )
    if not kept:
        model.drop_couplings()
        config = config.model_copy(
            update={"model": config.model.model_copy(update={"blocks": 0, "base": "normal", "couplings": "always"})}
        )
    if after is None or not kept:  # otherwise judging has just done it
        fit_head(model, arrays, labels, indices)
    if data.n_tiles > 1 and indices.pseudo:
        config = world.from_main(lambda: _pooled_for_tiles(config, data, model, prepared, progress))
        model.head.pool(config.model.top_fraction)
    metrics = {"held_out_loss": state.kept_loss, "held_out_loss_start": state.held_out_loss[0], "epochs": state.epoch}
    if before is not None and after is not None:
        metrics["pseudo_defect_auroc"] = after if kept else before
    if kept:  # dropped couplings leave no trained latent to judge
        metrics |= _health(config, model, prepared, progress)
    starts = prepared.starts
    arrays.clear()  # the export needs the memory
    clock.lap("training")
    if world.is_main:
        shutil.rmtree(run / CACHE, ignore_errors=True)
        provenance = _provenance(config, data, metrics)
        write_trained_bundle(run / BUNDLE, model.cpu(), data, config, provenance, progress)
        mark_latest(run)
    world.barrier()
    bundle = open_bundle(run / BUNDLE)
    clock.lap("export")
    pseudo = None if before is None or after is None else (before, after)
    verdict = verdict_of(bundle.manifest, data, run, config) if world.is_main else None
    return TrainResult(run, bundle, state, starts, clock.seconds, len(data.scan.broken), pseudo, kept, verdict)


def _opened_run(
    config: Config, data: TrainingData, out: Path | None, runs: Path, resume: bool, held: ExitStack
) -> Path:
    """Folder of the run, new and locked, or the one to resume, which is locked already."""
    run = out or new_run(runs, config.model.name)
    if not resume:
        held.enter_context(locked_run(run))
    open_run(config, data, run, resume)
    return run


def _train_in_closed_form(
    config: Config, data: TrainingData, progress: Progress, world: World, clock: _Clock,
    out: Path | None, runs: Path, resume: bool, held: ExitStack, base: Bundle | None,
) -> TrainResult:  # fmt: skip
    """Fit the model without any step of training; with several processes, the first one does all of it."""
    from edgead.commands.training.bundle_writing import write_trained_bundle
    from edgead.train.loop import TrainState

    choose_device(config.train.device)
    config = fit_backbone(config, progress)
    _seed(config.train.seed)

    run = world.from_main(lambda: _opened_run(config, data, out, runs, resume, held))
    progress.note(f"Run folder: {run}")
    n_broken = len(data.scan.broken)
    if world.is_main:
        if base is not None:
            found = fit_added_classes(config, base, data, run, progress, clock.lap)
        else:
            fit = fit_classes if is_unified(config) else fit_closed_form
            found = fit(config, data, run, progress, clock.lap)
        shutil.rmtree(run / CACHE, ignore_errors=True)
        metrics = {"pseudo_defect_power": found.choice.power}
        if found.known is not None:
            metrics |= found.known.metrics
        provenance = _provenance(found.config, found.data, metrics)
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
    world.barrier()
    bundle = open_bundle(run / BUNDLE)
    clock.lap("export")
    verdict = verdict_of(bundle.manifest, found.data, run, config) if world.is_main else None
    return TrainResult(run, bundle, TrainState(), [], clock.seconds, n_broken, None, False, verdict)


def _show_threshold_images(run: Path, found: ClosedForm, thresholds: ClassThresholds, progress: Progress) -> None:
    from edgead.commands.training.threshold_images import SHEET, threshold_note, write_sheet

    samples, scale, read = found.data.split.threshold, thresholds.heatmap_scale, found.data.overview
    write_sheet(run / SHEET, samples, thresholds.scores, found.left_out.maps, scale, read)
    if found.known is not None:
        found.known.write(run, scale, read)
        progress.note(found.known.note(run))
    progress.note(threshold_note(samples, thresholds, run / SHEET))


def _show_suspects(run: Path, found: ClosedForm, scale: HeatmapScale) -> None:
    from edgead.commands.training.suspects import SHEET
    from edgead.commands.training.threshold_images import write_sheet

    samples, scores, maps = zip(*found.suspects, strict=True)
    write_sheet(run / SHEET, samples, scores, np.stack(maps), scale, found.data.overview)


def _pooled_for_tiles(
    config: Config, data: TrainingData, model: Detector, prepared: _Prepared, progress: Progress
) -> Config:
    """Settings with the share of a tile's map that finds most pseudo-defects, unless the user has chosen one."""
    from edgead.train.pooling import best_count, pooling_power

    if config.model.top_fraction != ModelConfig.model_fields["top_fraction"].default:
        return config
    power = pooling_power(model, prepared.arrays, prepared.labels, prepared.indices, data.n_tiles)
    count = best_count(power)
    tried = ", ".join(f"{number}: {share:.0%}" for number, share in power.items())
    progress.note(
        f"The score of a tile is the mean of its {count} highest values (pseudo-defects above all good frames, by their "
        f"number: {tried})."
    )
    positions = model.head.size[0] * model.head.size[1]
    return config.model_copy(update={"model": config.model.model_copy(update={"top_fraction": count / positions})})


@dataclass(frozen=True)
class _Prepared:
    """Input of the training loop: whitened features, the class of each row, and the rows by their use."""

    arrays: list[NDArray[np.float16]]
    labels: NDArray[np.int64]
    indices: Indices
    starts: list[LevelStart]


def _closed_form_start(
    config: Config, data: TrainingData, model: Detector, run: Path, progress: Progress, clock: _Clock, world: World
) -> _Prepared:
    from edgead.train.features import extract_features, feature_key, missing_bytes
    from edgead.train.start import Indices, fit_start, resemblance

    fit, early_stop = data.split.fit, data.split.early_stop
    copies = pseudo_copies(config)
    # one row per input: the tiles of an image follow each other
    tiles = data.n_tiles
    n_fit, n_good = len(fit) * tiles, (len(fit) + len(early_stop)) * tiles
    n_pseudo = copies * len(early_stop)

    def read(index: int) -> Image:
        if index < n_good:
            return data.read_tile((*fit, *early_stop)[index // tiles], index % tiles)
        which, copy = divmod(index - n_good, copies)
        donor = fit[(which * copies + copy) % len(fit)]
        return data.read_pseudo(early_stop[which], donor, (config.train.seed, which, copy))

    limit, cache = memory_limit(config, world.size), feature_folder(config, run)
    content = f"{data.digest}/{config.train.seed}/{DRAWING}/{copies}" if copies else data.digest
    key = feature_key(model.backbone, content, data.preprocessing)

    def needs() -> Estimate:
        missing = missing_bytes(model.backbone, n_good + n_pseudo, cache, key)
        found = training_needs(config, model, n_good + n_pseudo, processes=world.size, features_missing=missing)
        found.check(cache, run / CACHE)
        return found

    estimate = world.from_main(needs)
    also = f" and {n_pseudo} pseudo-defective" if n_pseudo else ""
    place = f"on disk in {cache}" if estimate.features_disk_mb else "in memory"
    what = "images" if tiles == 1 else f"tiles, {tiles} of each image,"
    progress.note(f"Features of {n_good} good{also} {what} are kept {place}. {estimate.describe()}")
    store = extract_features(
        model.backbone,
        read,
        n_good + n_pseudo,
        device=next(model.parameters()).device,
        memory_limit=0 if config.train.cache_dir else limit,
        folder=cache,
        key=key,
        progress=lambda done, total: progress.update("Features", done, total),
        rank=world.rank,
        world_size=world.size,
        barrier=world.barrier,
    )
    clock.lap("features")
    parts = Indices(tuple(range(n_fit)), tuple(range(n_fit, n_good)), tuple(range(n_good, n_good + n_pseudo)))
    starts = fit_start(
        model, store, parts, amounts=config.train.shrinkage, ridge=config.train.ridge, noise=config.train.noise
    )
    world.copy_from_main(model.state_dict().values())
    for spec, start in zip(config.model.levels, starts, strict=False):
        tried = ", ".join(f"{amount:g}: {score:.4f}" for amount, score in start.pseudo_auroc.items())
        if tried:
            progress.note(f"Level {spec}: shrinkage {start.shrinkage:g} (pseudo-defect AUROC per amount: {tried}).")
    rows = parts.fit + parts.early_stop + parts.pseudo
    arrays = _shared_arrays(model, store, rows, limit, run / CACHE, world)
    # only whitened features separate photographs of one part from those of another
    alike = resemblance(arrays, parts) if config.model.positions and tiles == 1 else 0.0
    if alike > ALIKE:
        progress.note(
            f"Warning: held-out images closely resemble single training images (median similarity {alike:.2f}, different "
            f"parts give under {ALIKE}). If each part was photographed several times, the threshold holds for these "
            "parts and may be too low for new ones: add more different parts."
        )
    clock.lap("closed form")
    index_of = {name: index for index, name in enumerate(data.classes)}
    labels = [index_of[sample.class_name] for sample in (*fit, *early_stop) for _ in range(tiles)]
    labels += [index_of[sample.class_name] for sample in early_stop for _ in range(copies)]
    return _Prepared(arrays, np.array(labels, np.int64), parts, starts)


def _without_near_copies(
    config: Config, data: TrainingData, model: Detector, prepared: _Prepared, progress: Progress, world: World
) -> TrainingData:
    """Data whose threshold images are independent, as far as whitened features and pictures tell."""
    if not config.model.positions or data.n_tiles > 1:  # only whitened features tell images apart
        return data
    own = data.split.threshold
    others = [array[: len(data.split.fit) + len(data.split.early_stop)] for array in prepared.arrays]
    found = world.from_main(
        lambda: independent_images(data.split, data.read, whitened_features(model, own, data.read), others)
    )
    for note in found.notes():
        progress.note(note)
    return replace(data, split=replace(data.split, threshold=found.kept), n_near_copies=len(own) - len(found.kept))


def _shared_arrays(
    model: Detector, store: FeatureStore, rows: tuple[int, ...], limit: int, folder: Path, world: World
) -> list[NDArray[np.float16]]:
    """Whitened features; with several processes the first one writes them, and all read the same files."""
    from edgead.train.start import whitened_arrays

    if world.size == 1:
        return whitened_arrays(model, store, rows, memory_limit=limit, folder=folder)
    paths = world.from_main(
        lambda: [
            str(array.filename)
            for array in whitened_arrays(model, store, rows, memory_limit=0, folder=folder)
            if isinstance(array, np.memmap)
        ]
    )
    return [np.load(path, mmap_mode="r") for path in paths]


def _health(config: Config, model: Detector, prepared: _Prepared, progress: Progress) -> dict[str, float]:
    """Mean and mean square of the trained latent: 0 and 1 if a maximum-likelihood flow has converged."""
    from edgead.train.health import latent_health

    health = latent_health(
        model, prepared.arrays, prepared.labels, prepared.indices.fit, config.train.noise, config.train.seed
    )
    if health is None:
        return {}
    progress.note(health.describe())
    return health.metrics()


def _loop_settings(config: Config) -> LoopSettings:
    from edgead.train.loop import LoopSettings

    names = LoopSettings.__dataclass_fields__
    return LoopSettings(**{name: getattr(config.train, name) for name in names})


def _provenance(config: Config, data: TrainingData, metrics: dict[str, float]) -> Provenance:
    split = data.split
    return Provenance(
        created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        data_root=str(data.root),
        data_digest=data.digest,
        n_images={
            "fit": len(split.fit),
            "early_stop": len(split.early_stop),
            "threshold": len(split.threshold),
            "left_out": len(data.scan.broken) + len(data.scan.copies) + data.n_near_copies + data.n_without_part,
        },
        seed=config.train.seed,
        versions=package_versions(),
        config=config.model_dump(mode="json"),
        metrics=metrics,
        image_digests=tuple(sorted(digest[:STORED_DIGITS] for digest in set(data.scan.digests.values()))),
        dataset_snapshot=data.snapshot,
        known_digests=() if data.known is None else data.known.stored_digests,
    )


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)
