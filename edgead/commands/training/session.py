"""A training as one process sees it, and what every way of training returns."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.commands.training.data import TrainingData
from edgead.commands.training.runs import locked_run, new_run, open_run
from edgead.config.root import Config
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.train.distributed import World
    from edgead.train.loop import TrainState
    from edgead.train.start import LevelStart


@dataclass
class Clock:
    """Wall time in seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def lap(self, stage: str) -> None:
        """Count the time since the last call for this stage."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self.started, 2)
        self.started = now


@dataclass(frozen=True)
class Session:
    """A training as one process sees it.

    Attributes:
        config: All settings, before they are fitted to the backbone.
        data: Good images.
        progress: Receiver of notes and progress.
        world: Processes that train together.
        clock: Wall time by stage.
        out: Folder of the run; None = a new one in `runs`.
        runs: Parent folder of the runs.
        resume: Whether to continue the run in `out`.
        held: Locks that last as long as the training.
    """

    config: Config
    data: TrainingData
    progress: Progress
    world: World
    clock: Clock
    out: Path | None
    runs: Path
    resume: bool
    held: ExitStack

    def open_run(self, config: Config, data: TrainingData) -> Path:
        """Folder of the run, new and locked, or the one to resume, which is locked already; the same in every process."""
        run = self.world.from_main(lambda: self._opened(config, data))
        self.progress.note(f"Run folder: {run}")
        return run

    def _opened(self, config: Config, data: TrainingData) -> Path:
        run = self.out or new_run(self.runs, config.model.name)
        if not self.resume:
            self.held.enter_context(locked_run(run))
        open_run(config, data, run, self.resume)
        return run


@dataclass(frozen=True)
class Trained:
    """A training whose bundle lies in its run.

    Attributes:
        run: Folder of the run.
        config: Settings of the model in the bundle.
        data: Images that it was fitted to.
        state: Epochs and likelihoods; empty in a closed form.
        starts: Choices of the closed-form start per level; none in a closed form.
        pseudo_auroc: Pseudo-defect AUROC at the closed-form start and after training; None if it decides nothing.
        couplings_kept: Whether the trained couplings are in the bundle.
    """

    run: Path
    config: Config
    data: TrainingData
    state: TrainState
    starts: list[LevelStart] = field(default_factory=list)
    pseudo_auroc: tuple[float, float] | None = None
    couplings_kept: bool = False
