"""`edgead model install`: a verified bundle with a checked engine in the model store of a line."""

from __future__ import annotations

import datetime
import getpass
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, cast, get_args

from edgead.builder.choice import BackendName
from edgead.bundle import Bundle, open_bundle
from edgead.bundle_files import ENGINES
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.commands.bundle import folder_mb
from edgead.commands.doctor.model import check_model
from edgead.commands.learned_bundle import prepare_learning
from edgead.commands.same_part import require_same_part
from edgead.engines.fingerprint import ONNXRUNTIME, Precision, read_record
from edgead.engines.first_image import SAME_AGAIN, WRONG
from edgead.engines.parity import compare_to_reference
from edgead.errors import BundleError, CheckFailed, ConfigError, EdgeadError, EngineError
from edgead.evaluation.stored_thresholds import check_thresholds
from edgead.line.model_store import KEEP, NAME_LENGTH, Installed, ModelStore
from edgead.progress import Progress
from edgead.runner import REFERENCE, Runner
from edgead.storage import require_free_space, scratch_folder

# Share of the bundle's size that a copy with an engine needs.
ROOM = 3.0


@dataclass(frozen=True)
class InstallOptions:
    """Options of an installation.

    Attributes:
        precision: Precision of the engine; None = that of the active model, or fp32 for the first one.
        backend: Backend; `auto` = that of the active model, or the best one for the first.
        activate: Whether to make it the active model.
        other_part: Whether a bundle for other parts, or another camera, than the active one's is meant.
        keep: Number of installed models to keep, at least 2.
        who, why: Person and reason; None = the user at the terminal.
        only_from: Name of the model that must still be active in the end; None = any.
        threads: CPU threads of ONNX Runtime for the checks; 0 = one per core.
        is_compared: Whether this process has made the bundle from the active one, and has taken the results of its graph as the
            reference, so that only the engine is compared with them.
    """

    precision: Precision | None = None
    backend: BackendName = "auto"
    activate: bool = False
    other_part: bool = False
    keep: int = KEEP
    who: str | None = None
    why: str = ""
    only_from: str | None = None
    threads: int = 0
    is_compared: bool = False


def install(
    store: ModelStore, given: Path | Bundle, progress: Progress, options: InstallOptions | None = None
) -> Installed:
    """Verify a bundle, copy it, build its engine, check both as `doctor` does, and give it its place in the store.

    Until the last step nothing in the store changes: a failure or a kill leaves the models that were there.

    Args:
        store: Model store of the line.
        given: Bundle folder, or a bundle whose files this process has just written or verified; its copy is verified anyway.
        progress: Receives notes and progress.
        options: Options; None = the defaults.

    Raises:
        BundleError: If the bundle is damaged.
        ConfigError: If it looks like one for other parts than the active model's, `only_from` is not active any more, or the options
            are wrong.
        CheckFailed: If its engine misses the gate, or a check of `doctor` fails.
        StorageError: If the disk is full, or another process changes the store.
    """
    options = options or InstallOptions()
    if options.keep < 2:
        raise ConfigError(
            f"--keep must be at least 2, got {options.keep}.",
            hint="The active model and the one before it stay, for a roll-back.",
        )
    source = given if isinstance(given, Bundle) else open_bundle(given)
    check_thresholds(source.manifest.thresholds, source.manifest.nfa, str(source.path))
    who = options.who or user()
    with store.installing():
        state = store.read()
        active = state.active
        if active is not None and not options.other_part and not options.is_compared:
            require_same_part(source, active, _other_copy(store, active, source), threads=options.threads)
        precision, backend = _engine_like(active, options)
        known = _intact(store, state.find(source.digest), progress)
        if known is not None and known.precision == precision:
            progress.note(f"{known.name} is installed already, since {known.installed_at}.")
            return store.activate(known.name, who=who, why=options.why) if options.activate else known
        require_free_space(store.folder, round(ROOM * folder_mb(source.path) * 1e6), purpose="Installing a model")
        name = source.digest[:NAME_LENGTH]
        with scratch_folder(store.folder, name) as scratch:
            staged_path = scratch / name if known is None else store.path(known)
            if known is None:
                shutil.copytree(source.path, staged_path, ignore=shutil.ignore_patterns(ENGINES))
            staged = open_bundle(staged_path)
            building = EngineOptions(opens_graph=not options.is_compared)
            built = build_engine(staged, precision, backend, progress, building)
            if built.record.fingerprint.precision != precision:
                progress.note(f"The engine is {built.name} instead of {precision}: {built.reason}")
            compared = {REFERENCE} if options.is_compared else set()
            if built.name == f"{ONNXRUNTIME}-fp32" and built.record.fingerprint.device == "cpu":
                compared.add(built.name)
            _check(staged_path, built.name, options.threads, progress, compared)
            prepare_learning(staged, progress, threads=options.threads)
            manifest = staged.manifest
            model = Installed(
                name, staged.digest, manifest.model, manifest.classes, manifest.provenance.created_at, built.name,
                datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), who, options.why,
            )  # fmt: skip
            gone = store.add(
                staged_path, model, activate=options.activate, keep=options.keep, only_from=options.only_from
            )
            model = store.read().find(name) or model
            if model.engine != built.name:
                progress.note(f"The line goes on with {model.engine}; --activate changes it to {built.name}.")
    for one in gone:
        progress.note(f"Removed {one}: the store keeps {options.keep} models.")
    return model


class OpenModel(Protocol):
    """An open engine with its bundle."""

    bundle: Bundle
    runner: Runner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


M = TypeVar("M", bound=OpenModel)


def require_reference(model: M) -> M:
    """Judge every reference image with an open model, and compare with the stored results; closed if they differ.

    Raises:
        EngineError: If scores or maps differ by more than an engine of this kind may.
    """
    bundle, runner = model.bundle, model.runner
    try:
        comparison = compare_to_reference(bundle, runner)
        limit = WRONG.get(runner.device, WRONG["cuda"])
        record = None if runner.engine_name == REFERENCE else read_record(bundle.engines_path / runner.engine_name)
        if record is not None and record.lower is not None:
            limit = max(WRONG["cuda"], record.max_relative_difference * SAME_AGAIN)
        seen = max(comparison.max_relative_difference, comparison.score_relative_difference)
        if not seen <= limit:
            raise EngineError(
                f"{runner.engine_name} of {bundle.path} does not give the results stored in the bundle on its "
                f"{comparison.n_images} reference images: they differ by up to {seen:.2g} relative (allowed {limit:.2g}).",
                hint="Install the bundle again with `edgead model install`, which rebuilds its engine. If that does not help, "
                "run `edgead doctor`.",
            )
    except BaseException as error:
        model.__exit__(type(error), error, error.__traceback__)
        raise
    return model


def user() -> str:
    """Name of the user at the terminal."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id, as in some containers
        return "unknown"


def _intact(store: ModelStore, known: Installed | None, progress: Progress) -> Installed | None:
    """An installed model whose bundle and engine are whole; None for another, which is to be copied again."""
    if known is None:
        return None
    try:
        bundle = open_bundle(store.path(known))
        if bundle.digest == known.digest:
            read_record(bundle.engines_path / known.engine)
            return known
        why = f"{bundle.path} has another digest."
    except EdgeadError as error:
        why = error.message
    progress.note(f"{known.name} is not whole, and is copied again: {why}")
    return None


def _other_copy(store: ModelStore, active: Installed, source: Bundle) -> Bundle | None:
    """The active model's bundle; None if it is the one to install, or not whole."""
    try:
        return None if source.digest == active.digest else open_bundle(store.path(active))
    except BundleError:
        return None


def _engine_like(active: Installed | None, options: InstallOptions) -> tuple[Precision, BackendName]:
    """Precision and backend of the engine to build: those of the active model unless others are asked for."""
    if active is None:
        return options.precision or "fp32", options.backend
    backend = cast("BackendName", active.engine.rpartition("-")[0]) if options.backend == "auto" else options.backend
    own = cast("Precision", active.precision)
    return options.precision or (own if own in get_args(Precision) else "fp32"), backend


def _check(path: Path, engine: str, threads: int, progress: Progress, compared: Collection[str]) -> None:
    """The checks of `doctor` that are about this bundle and its engine."""
    for check in check_model(path, named=True, threads=threads, compared=compared):
        if check.status == "failed":
            raise CheckFailed(f"Not installed: {check.name}: {check.detail}", hint=check.advice)
        if check.name in ("bundle", f"engine {engine}"):
            progress.note(f"{check.name}: {check.detail}")
