"""`edgead train --each-class`: a model of each class of a folder, each trained alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgead.commands.training.class_folders import ClassFolder, default_out, read_classes
from edgead.commands.training.class_training import LOG, ClassResult, finished_class, train_class
from edgead.commands.training.device import is_launched_with_others
from edgead.commands.training.requirements import require_torch
from edgead.commands.training.side_by_side import (
    SideBySide,
    available_cores,
    choose_on_cluster,
    choose_side_by_side,
    free_memory_mb,
)
from edgead.commands.training.verdict import option_words
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.errors import ConfigError
from edgead.launch.launcher import Job, Launcher
from edgead.launch.local import LocalLauncher
from edgead.launch.on_ray import ADDRESS, RayLauncher, require_ray
from edgead.printable import path_text
from edgead.progress import Progress

LauncherName = Literal["local", "ray"]
LAUNCHERS: tuple[str, ...] = get_args(LauncherName)
_NAMED = 3


@dataclass(frozen=True)
class EachPlan:
    """Trainings of all classes, before any of them starts.

    Attributes:
        root: Folder of the classes.
        out: Parent folder of the runs.
        classes: All classes, by name.
        launcher: `local` or `ray`.
        side_by_side: Trainings at a time; None if all classes are finished.
        again: Command that does the same again, and continues what is not finished.
    """

    root: Path
    out: Path
    classes: tuple[ClassFolder, ...]
    launcher: LauncherName
    side_by_side: SideBySide | None
    again: str

    @property
    def is_on_cluster(self) -> bool:
        """Whether a running Ray cluster does the trainings, and not one that is started for them."""
        return _is_on_cluster(self.launcher)

    @property
    def open_classes(self) -> list[ClassFolder]:
        """Classes that are not finished, the largest first, so that none of them is the last one at work for long."""
        return sorted((one for one in self.classes if one.state != "finished"), key=lambda one: -one.n_images)

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for the user."""
        counts = {state: sum(one.state == state for one in self.classes) for state in ("new", "unfinished", "finished")}
        images = [one.n_images for one in self.classes]
        facts = [
            ("data", path_text(self.root)),
            ("runs", path_text(self.out)),
            (
                "classes",
                f"{len(self.classes)}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}",
            ),
            ("images", f"{sum(images)} in all folders, {min(images)} to {max(images)} in each"),
        ]
        if self.side_by_side is not None:
            where = f", Ray cluster at {os.environ[ADDRESS]}" if self.is_on_cluster else ""
            facts.append(("trainings", self.side_by_side.describe() + where))
        return facts

    def to_json(self) -> dict[str, Any]:
        """Values for JSON; paths are text."""
        side = self.side_by_side
        return {
            "data": str(self.root),
            "out": str(self.out),
            "launcher": self.launcher,
            "jobs": None if side is None else side.jobs,
            "threads": None if side is None else side.threads,
            "memory_mb": None if side is None or side.memory_mb is None else round(side.memory_mb),
            "classes": [
                {"class": one.name, "state": one.state, "n_images": one.n_images, "run": str(one.run)}
                for one in self.classes
            ],
        }


@dataclass(frozen=True)
class EachResult:
    """Trainings of all classes, after all of them have ended.

    Attributes:
        out: Parent folder of the runs.
        results: Result of each class, by name.
        again: Command that tries the failed ones again.
    """

    out: Path
    results: tuple[ClassResult, ...]
    again: str

    @property
    def failed(self) -> list[ClassResult]:
        """Classes without a model."""
        return [one for one in self.results if one.status == "failed"]

    def to_json(self) -> dict[str, Any]:
        """Values for JSON; paths are text."""
        return {
            "out": str(self.out),
            "n_failed": len(self.failed),
            "again": self.again if self.failed else None,
            "classes": [one.to_json() for one in self.results],
        }


def plan_each(
    file: Path | None, overrides: Mapping[str, Any], progress: Progress, *,
    out: Path | None, jobs: int | None, launcher: str,
) -> EachPlan:  # fmt: skip
    """Find the classes of the folder `data.root`, and choose how many of them train at a time.

    Args:
        file: YAML file with settings; None = `./edgead.yaml` where it exists.
        overrides: Value per dotted key.
        progress: Receiver of notes.
        out: Parent folder of the runs, each of which has the name of its class; None = `runs/` and the name of the data folder.
        jobs: Number of trainings at a time; None = as many as cores and memory allow.
        launcher: `local` or `ray`.

    Raises:
        DataError: If there are no classes.
        ConfigError: If a setting cannot be used with one model for each class, or a run was started with another one.
        MissingDependencyError: If torch or the package of the weights is not installed.
    """
    require_torch("Training")
    chosen: LauncherName = "ray" if launcher == "ray" else "local"
    if launcher not in LAUNCHERS:
        raise ConfigError(f"--launcher must be one of {', '.join(LAUNCHERS)}, got {launcher!r}.")
    if is_launched_with_others():
        raise ConfigError(
            "--each-class starts processes of its own, and torchrun started several of this command.",
            hint="Start it without torchrun; --jobs says how many classes train at a time.",
        )
    root = load_config(file, dict(overrides)).data.root
    out = out or default_out(root)
    if chosen == "ray":
        require_ray()
        root, out = root.absolute(), out.absolute()  # workers may start in another folder
    overrides = {**overrides, "data.root": str(root)}
    classes = read_classes(file, overrides, out, progress)
    open_classes = [one for one in classes if one.state != "finished"]
    side = None
    if open_classes and _is_on_cluster(chosen):
        side = choose_on_cluster(open_classes, jobs)
    elif open_classes:
        side = choose_side_by_side(open_classes, jobs, available_cores(), free_memory_mb())
    again = _command(load_config(file, overrides), out, jobs, chosen)
    return EachPlan(root, out, tuple(sorted(classes, key=lambda one: one.name)), chosen, side, again)


def train_each(plan: EachPlan, progress: Progress) -> EachResult:
    """Train every class that is not finished; a class that fails ends no other.

    Args:
        plan: Trainings from `plan_each`.
        progress: Receiver of a note for each class, and of progress over all of them.

    Raises:
        MissingDependencyError: If Ray is asked for and not installed.
        ClusterError: If the Ray cluster cannot do the trainings.
    """
    results = {one.name: finished_class(one) for one in plan.classes if one.state == "finished"}
    if results:
        progress.note(f"{len(results)} of {len(plan.classes)} classes are finished.")
        _note_newer_images([one for one in plan.classes if one.name in results], progress)
    open_classes, total = plan.open_classes, len(plan.classes)
    if plan.side_by_side is not None:
        progress.note(f"{len(open_classes)} to train: {plan.facts()[-1][1]}.")

        def show(names: Sequence[str]) -> None:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            if len(results) < total:
                progress.update("Classes", len(results), total, ", ".join(names[:_NAMED]) + more)

        jobs = [Job(one.name, train_class, (one, plan.side_by_side.threads)) for one in open_classes]
        runs = {one.name: one.run for one in open_classes}
        with closing(_launcher(plan, plan.side_by_side).run(jobs, on_change=show)) as outcomes:
            for outcome in outcomes:
                result = outcome.result or ClassResult(
                    outcome.name, "failed", runs[outcome.name], error=outcome.problem,
                    hint=f"Its notes are in {runs[outcome.name] / LOG}.",
                )  # fmt: skip
                results[outcome.name] = result
                progress.note(_line(result))
        progress.update("Classes", total, total)
    return EachResult(plan.out, tuple(results[one.name] for one in plan.classes), plan.again)


def _launcher(plan: EachPlan, side: SideBySide) -> Launcher:
    if plan.launcher == "local":
        return LocalLauncher(side.jobs or 1, side.threads)
    memory_mb = (side.memory_mb or 0.0) if plan.is_on_cluster else 0.0  # here it has decided the number already
    return RayLauncher(
        side.jobs, side.threads, reads=plan.root, writes=plan.out, memory_mb=memory_mb, takes_gpu=side.device != "cpu"
    )


def _is_on_cluster(launcher: str) -> bool:
    return launcher == "ray" and bool(os.environ.get(ADDRESS))


def _line(result: ClassResult) -> str:
    """Sentence about a class that has ended."""
    if result.status == "failed":
        return f"{result.name}: failed: {result.error.partition(chr(10))[0]}"
    rate = "" if result.false_alarm_rate is None else f", {result.false_alarm_rate:.2%} false alarms promised"
    return f"{result.name}: {result.verdict or 'trained'}{rate}, {result.seconds or 0:.0f} s"


def _note_newer_images(classes: Sequence[ClassFolder], progress: Progress) -> None:
    changed = [one for one in classes if one.has_newer_images()]
    if changed:
        names = ", ".join(one.name for one in changed[:_NAMED])
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        progress.note(
            f"Images of {names}{more} changed after the training. To train a class again, remove its run, such as {changed[0].run}."
        )


def _command(config: Config, out: Path, jobs: int | None, launcher: LauncherName) -> str:
    words = [
        "edgead train",
        shlex.quote(path_text(config.data.root)),
        "--each-class",
        "--out",
        shlex.quote(path_text(out)),
    ]
    words += [] if jobs is None else ["--jobs", str(jobs)]
    words += ["--launcher", launcher] if launcher != "local" else []
    return " ".join([*words, *option_words(config.origin)])
