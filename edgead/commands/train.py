"""`edgead train`: good images become a bundle."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle, Provenance, open_bundle
from edgead.commands.curve import write_curve
from edgead.commands.needs import CACHE, feature_folder, memory_limit, pseudo_copies, training_needs
from edgead.commands.progress import Progress, Silent
from edgead.commands.runs import BUNDLE, CHECKPOINT, RUN_FILE, mark_latest, new_run, unfinished_run
from edgead.config import Config
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.data.reader import read_image
from edgead.data.scan import Scan, data_digest, scan_images
from edgead.data.split import Split, split_good
from edgead.errors import ConfigError
from edgead.imaging import Image, resize
from edgead.storage import write_json

if TYPE_CHECKING:
    import torch

    from edgead.models.detector import Detector
    from edgead.train.distributed import World
    from edgead.train.estimate import Estimate
    from edgead.train.features import FeatureStore
    from edgead.train.loop import LoopSettings, TrainState
    from edgead.train.start import Indices, LevelStart

HISTORY = "history.json"
CURVE = "training.png"
ALIKE = 0.3
HELPFUL = 0.005
PACKAGES = ("edgead", "torch", "timm", "numpy", "opencv-python", "onnx", "onnxruntime", "safetensors")


@dataclass
class TrainResult:
    """What a training run gave.

    Attributes:
        run: Its folder.
        bundle: The finished bundle.
        state: Epochs and likelihoods.
        starts: What the closed form chose per level.
        seconds: Wall time per stage.
        n_broken: Images left out because they cannot be read.
        pseudo_auroc: Pseudo-defect AUROC at the closed-form start and after training; None where it decides nothing.
        couplings_kept: Whether the trained couplings are in the bundle.
    """

    run: Path
    bundle: Bundle
    state: TrainState
    starts: list[LevelStart]
    seconds: dict[str, float]
    n_broken: int
    pseudo_auroc: tuple[float, float] | None
    couplings_kept: bool


@dataclass(frozen=True)
class TrainingData:
    """Good images, divided, and how to read them."""

    root: Path
    description: str
    scan: Scan
    split: Split
    image_size: tuple[int, int]
    classes: tuple[str, ...]
    digest: str

    def read(self, sample: Sample) -> Image:
        """A picture at input size, RGB."""
        return resize(read_image(sample.path, self.scan.white_level), self.image_size)

    def read_pseudo(self, sample: Sample, donor: Sample, key: tuple[int, ...]) -> Image:
        """A pseudo-defective copy of a picture at input size; `key` fixes the change."""
        image, other = (read_image(s.path, self.scan.white_level) for s in (sample, donor))
        changed, _ = make_pseudo_defect(image, other, np.random.default_rng(key))
        return resize(changed, self.image_size)


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = round(now - self.started, 2)
        self.started = now


def train(config: Config, progress: Progress, *, out: Path | None, runs: Path, resume: bool) -> TrainResult:
    """Learn from good images and write a bundle.

    Args:
        config: Everything that can be set.
        progress: Gets notes and progress.
        out: Folder of the run; None makes a new one in `runs`.
        runs: Parent of the runs, where `latest` is kept.
        resume: Go on from the checkpoint in `out`, with exactly the settings and images of that run.

    Raises:
        DataError: If the images do not suffice.
        ConfigError: If a setting does not fit the model, or a resumed run has other settings or images.
        TrainingError: If the numbers go wrong.
    """
    clock = _Clock()
    if not is_launched_with_others():
        data = prepare_data(config, progress)
        clock.lap("scan")
        # torch takes seconds to import: bad data is said before
        from edgead.train.distributed import World

        return _train(config, data, progress, World(), clock, out, runs, resume)
    from edgead.train.distributed import launched_world

    with launched_world() as world:
        progress = progress if world.is_main else Silent()
        data = world.from_main(lambda: prepare_data(config, progress))
        clock.lap("scan")
        return _train(config, data, progress, world, clock, out, runs, resume)


def _train(
    config: Config, data: TrainingData, progress: Progress, world: World, clock: _Clock,
    out: Path | None, runs: Path, resume: bool,
) -> TrainResult:  # fmt: skip
    from edgead.commands.export import write_trained_bundle
    from edgead.models.zoo import build_model
    from edgead.train.loop import train_flow
    from edgead.train.start import fit_head, pseudo_defect_auroc

    device = choose_device(config.train.device)
    _seed(config.train.seed)
    model = build_model(config.model, data.classes).to(device)
    run = world.from_main(lambda: open_run(config, data, out, runs, resume))
    progress.note(f"Run folder: {run}")
    prepared = _closed_form_start(config, data, model, run, progress, clock, world)
    arrays, labels, indices = prepared.arrays, prepared.labels, prepared.indices

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
    fit_head(model, arrays, labels, indices)
    metrics = {"held_out_loss": state.kept_loss, "held_out_loss_start": state.held_out_loss[0], "epochs": state.epoch}
    if before is not None and after is not None:
        metrics["pseudo_defect_auroc"] = after if kept else before
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
    return TrainResult(run, bundle, state, starts, clock.seconds, len(data.scan.broken), pseudo, kept)


def prepare_data(config: Config, progress: Progress) -> TrainingData:
    """Find, look at and divide the good images.

    Raises:
        DataError: If there are too few readable ones.
    """
    dataset = find_dataset(config.data.root)
    progress.note(dataset.description)
    scan = scan_images(
        dataset.train,
        min_good=config.train.min_images,
        progress=lambda done, total: progress.update("Reading images", done, total),
    )
    for sample, reason in scan.broken[:5]:
        progress.note(f"Left out {sample.name}: {reason}")
    if scan.broken:
        progress.note(f"{len(scan.broken)} of {len(dataset.train)} images were left out; {len(scan.readable)} remain.")
    split = split_good(
        scan.readable, config.data.early_stop_fraction, config.data.calibration_fraction, digests=scan.digests
    )
    progress.note(
        f"Good images: {len(split.fit)} to learn from, {len(split.early_stop)} to stop by, "
        f"{len(split.calibration)} for the threshold."
    )
    side = config.model.image_size
    digest = data_digest(scan.readable, scan.digests)
    return TrainingData(config.data.root, dataset.description, scan, split, (side, side), dataset.classes, digest)


def choose_device(name: str) -> torch.device:
    """The torch device of a name; `auto` takes cuda, then mps, then the CPU.

    Of several processes that train together each takes a GPU of its own, for `auto` and `cuda`.

    Raises:
        ConfigError: If the device does not exist here, or does not fit training in several processes.
    """
    import torch

    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if is_launched_with_others():
        return _device_of_one(name, available)
    if torch.backends.mps.is_available():
        available.append("mps")
    if name == "auto":
        return torch.device(next((device for device in ("cuda", "mps") if device in available), "cpu"))
    if name not in available:
        raise ConfigError(f"train.device {name!r} is not on this machine; it has: {', '.join(available)}.")
    return torch.device(name)


def _device_of_one(name: str, available: list[str]) -> torch.device:
    """The device of this process, of several on this machine."""
    import torch

    if name == "cpu" or (name == "auto" and "cuda" not in available):
        return torch.device("cpu")
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name not in ("auto", "cuda") or own not in available:
        raise ConfigError(
            f"Several processes train together, and this one cannot have {own if name in ('auto', 'cuda') else name!r}; "
            f"this machine has: {', '.join(available)}.",
            hint="Start as many as there are GPUs, with train.device=cuda; or with train.device=cpu.",
        )
    device = torch.device(own)
    torch.cuda.set_device(device)
    return device


def open_run(config: Config, data: TrainingData, out: Path | None, runs: Path, resume: bool) -> Path:
    """Make the folder of a run, or check that the one to resume had the same settings and images.

    Raises:
        ConfigError: If it had not, or a new run would overwrite one.
    """
    # The device may change; where the data lies may too, its digest may not.
    settings = config.model_dump(mode="json", include={"data", "model", "train"})
    settings["data"].pop("root")
    settings["train"].pop("device")
    record = {"settings": settings, "data_digest": data.digest}
    if resume:
        run = out or unfinished_run(runs)
        try:
            before = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{run} is no run that can be resumed: {RUN_FILE} is missing or damaged.") from error
        changed = [key for key in record if before.get(key) != record[key]]
        if changed:
            raise ConfigError(
                f"{run} was started with other {' and '.join(changed).replace('_', ' ')}; resuming needs the same.",
                hint="Use the same options and data, or start anew without --resume.",
            )
        return run
    if out is not None and (out / RUN_FILE).exists():
        raise ConfigError(f"{out} already holds a run.", hint="Add --resume to go on with it, or choose another --out.")
    run = out or new_run(runs, config.model.name)
    description = {"description": data.description, "versions": package_versions(), "git": _git_revision()}
    write_json(run / RUN_FILE, {**record, "config": config.model_dump(mode="json"), **description})
    return run


def is_launched_with_others() -> bool:
    """Whether a launcher such as torchrun started several processes to train together."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_main_process() -> bool:
    """Whether this process speaks to the user: the only one, or the first of those that train together."""
    return not is_launched_with_others() or os.environ.get("RANK", "0") == "0"


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class _Prepared:
    """What training starts from: outputs of the frozen starts, the class of each row, and the rows' parts."""

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
    n_good = len(fit) + len(early_stop)
    n_pseudo = copies * len(early_stop)

    def read(index: int) -> Image:
        if index < n_good:
            return data.read((*fit, *early_stop)[index])
        which, copy = divmod(index - n_good, copies)
        donor = fit[(which * copies + copy) % len(fit)]
        return data.read_pseudo(early_stop[which], donor, (config.train.seed, which, copy))

    limit, cache = memory_limit(config, world.size), feature_folder(config, run)
    content = f"{data.digest}/{config.train.seed}/{copies}" if copies else data.digest
    key = feature_key(model.backbone, content, data.image_size, data.scan.white_level)

    def needs() -> Estimate:
        missing = missing_bytes(model.backbone, n_good + n_pseudo, cache, key)
        found = training_needs(config, model, n_good + n_pseudo, processes=world.size, features_missing=missing)
        found.check(cache, run / CACHE)
        return found

    estimate = world.from_main(needs)
    also = f" and {n_pseudo} pseudo-defective" if n_pseudo else ""
    place = f"on disk in {cache}" if estimate.features_disk_mb else "in memory"
    progress.note(f"Features of {n_good} good{also} images are kept {place}. {estimate.describe()}")
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
    parts = Indices(tuple(range(len(fit))), tuple(range(len(fit), n_good)), tuple(range(n_good, n_good + n_pseudo)))
    starts = fit_start(model, store, parts, amounts=config.train.shrinkage, ridge=config.train.ridge)
    world.copy_from_main(model.state_dict().values())
    for spec, start in zip(config.model.levels, starts, strict=False):
        tried = ", ".join(f"{amount:g}: {score:.4f}" for amount, score in start.pseudo_auroc.items())
        if tried:
            progress.note(f"Level {spec}: shrinkage {start.shrinkage:g} (pseudo-defect AUROC per amount: {tried}).")
    rows = parts.fit + parts.early_stop + parts.pseudo
    arrays = _shared_arrays(model, store, rows, limit, run / CACHE, world)
    # whitened features alone tell photographs of one part from those of another
    alike = resemblance(arrays, parts) if config.model.positions else 0.0
    if alike > ALIKE:
        progress.note(
            f"Warning: held-out images closely resemble single training images (median similarity {alike:.2f}, different "
            f"parts give under {ALIKE}). If each part was photographed several times, the threshold holds for these "
            "parts and may be too low for new ones: add more different parts."
        )
    clock.lap("closed form")
    index_of = {name: index for index, name in enumerate(data.classes)}
    labels = [index_of[sample.class_name] for sample in (*fit, *early_stop)]
    labels += [label for label in labels[len(fit) :] for _ in range(copies)]
    return _Prepared(arrays, np.array(labels, np.int64), parts, starts)


def _shared_arrays(
    model: Detector, store: FeatureStore, rows: tuple[int, ...], limit: int, folder: Path, world: World
) -> list[NDArray[np.float16]]:
    """`started_arrays`; of several processes the first writes them, and all read the same files."""
    from edgead.train.start import started_arrays

    if world.size == 1:
        return started_arrays(model, store, rows, memory_limit=limit, folder=folder)
    paths = world.from_main(
        lambda: [
            str(array.filename)
            for array in started_arrays(model, store, rows, memory_limit=0, folder=folder)
            if isinstance(array, np.memmap)
        ]
    )
    return [np.load(path, mmap_mode="r") for path in paths]


def _health(config: Config, model: Detector, prepared: _Prepared, progress: Progress) -> dict[str, float]:
    """Mean and mean square of the trained latent: 0 and 1 where a maximum-likelihood flow has converged."""
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
            "calibration": len(split.calibration),
            "left_out": len(data.scan.broken),
        },
        seed=config.train.seed,
        versions=package_versions(),
        config=config.model_dump(mode="json"),
        metrics=metrics,
    )


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


def _git_revision() -> str | None:
    """Commit of the folder that edgead was run in, where it is a git repository."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
