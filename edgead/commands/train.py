"""`edgead train`: from good images to a bundle."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle import Bundle, open_bundle
from edgead.commands.training.backbone_time import read_board_times
from edgead.commands.training.class_addition import open_base
from edgead.commands.training.closed_form import is_closed_form
from edgead.commands.training.closed_form_run import train_in_closed_form
from edgead.commands.training.data import TrainingData, prepare_data
from edgead.commands.training.device import is_launched_with_others, is_main_process
from edgead.commands.training.requirements import (
    require_fitting_weights,
    require_other_weights,
    require_torch,
    require_weights,
)
from edgead.commands.training.runs import BUNDLE, locked_run, read_run, unfinished_run
from edgead.commands.training.session import Clock, Session
from edgead.commands.training.trained_flow import train_couplings
from edgead.commands.training.verdict import Verdict, verdict_of
from edgead.config.root import Config
from edgead.data.snapshots import check_snapshot, snapshot_of
from edgead.progress import Progress, Silent

if TYPE_CHECKING:
    from edgead.train.loop import TrainState
    from edgead.train.start import LevelStart


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
    clock = Clock()
    with ExitStack() as held:
        world = None
        if is_launched_with_others():
            from edgead.train.distributed import launched_world

            # before any check: from here on an error of one process ends all of them
            world = held.enter_context(launched_world())
        require_weights(config.model)
        require_fitting_weights(config.model)
        require_other_weights(config)
        board = read_board_times(config.train.budget_bench)
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
        if board is not None:
            progress.note(str(board))
        session = Session(config, data, progress, world, clock, out, runs, resume, held)
        trained = train_in_closed_form(session, base) if is_closed_form(config) else train_couplings(session)
        world.barrier()
        bundle = open_bundle(trained.run / BUNDLE)
        clock.lap("export")
        verdict = verdict_of(bundle.manifest, trained.data, trained.run, trained.config) if world.is_main else None
        return TrainResult(
            trained.run, bundle, trained.state, trained.starts, clock.seconds, len(data.scan.broken),
            trained.pseudo_auroc, trained.couplings_kept, verdict,
        )  # fmt: skip


def checked_data(config: Config, progress: Progress) -> TrainingData:
    """The images to train on; those of a snapshot are compared with its list, before anything is fitted to them."""
    data = prepare_data(config, progress)
    if (snapshot := snapshot_of(data.root)) is not None:
        check_snapshot(snapshot)
        data = replace(data, snapshot=snapshot.digest)
    return data
