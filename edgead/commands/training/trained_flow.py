"""Training of a flow's couplings, from its closed-form start to its bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.curve import write_curve, write_table
from edgead.commands.training.data import DRAWING, TrainingData, fit_backbone
from edgead.commands.training.device import choose_device
from edgead.commands.training.near_copies import independent_images, whitened_features
from edgead.commands.training.needs import CACHE, feature_folder, memory_limit, pseudo_copies, training_needs
from edgead.commands.training.provenance import provenance_of
from edgead.commands.training.runs import BUNDLE, CHECKPOINT, mark_latest
from edgead.commands.training.session import Clock, Session, Trained
from edgead.commands.training.tile_levels import chosen_levels
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.imaging import Image
from edgead.progress import Progress
from edgead.storage import write_json

if TYPE_CHECKING:
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


def train_couplings(session: Session) -> Trained:
    """Train the couplings of a flow from its closed-form start, keep them if they help, and write the bundle."""
    import torch

    from edgead.commands.training.bundle_writing import write_trained_bundle
    from edgead.models.zoo import build_model
    from edgead.train.loop import train_flow
    from edgead.train.start import fit_head, pseudo_defect_auroc

    progress, world, clock = session.progress, session.world, session.clock
    device = choose_device(session.config.train.device)
    config = fit_backbone(session.config, progress)
    data = replace(session.data, image_size=(config.model.image_size, config.model.image_size))
    if data.n_tiles > 1:
        levels = world.from_main(lambda: chosen_levels(config, data, progress))
        config = config.model_copy(update={"model": config.model.model_copy(update={"levels": levels})})
    torch.manual_seed(config.train.seed)
    model = build_model(config.model, data.classes).to(device)

    run = session.open_run(config, data)
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
        resume=session.resume, on_step=on_step, on_epoch=on_epoch, world=world,
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
        provenance = provenance_of(config, data, metrics)
        write_trained_bundle(run / BUNDLE, model.cpu(), data, config, provenance, progress)
        mark_latest(run)
    pseudo = None if before is None or after is None else (before, after)
    return Trained(run, config, data, state, starts, pseudo, kept)


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
    config: Config, data: TrainingData, model: Detector, run: Path, progress: Progress, clock: Clock, world: World
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
