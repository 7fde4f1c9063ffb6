"""Number of trainings at a time, by the cores and the memory of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.commands.training.class_folders import ClassFolder
from edgead.commands.training.device import choose_device
from edgead.commands.training.dry_run import dry_run
from edgead.errors import DataError
from edgead.progress import Silent

# the estimate of a training is rough, and other processes need some too
MEMORY_SHARE = 0.8
_MOST_TRIED = 3


@dataclass(frozen=True)
class SideBySide:
    """Trainings at a time.

    Attributes:
        jobs: Number of trainings at a time; None = by the cores of a cluster.
        threads: Number of CPU threads of each.
        memory_mb: Estimated memory of the largest one, in MB; None if it is not known.
        device: Training device, such as `cpu` or `cuda`; `auto` on a cluster, whose nodes may have a GPU or not.
    """

    jobs: int | None
    threads: int
    memory_mb: float | None
    device: str

    def describe(self) -> str:
        """Part of a sentence for the user."""
        number = "as many at a time as there are cores" if self.jobs is None else f"{self.jobs} at a time"
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'} each"
        memory = "" if self.memory_mb is None else f", by estimate up to {self.memory_mb / 1000:.1f} GB of memory each"
        return f"{number} on {self.device}, {threads}{memory}"


def choose_side_by_side(
    classes: Sequence[ClassFolder], jobs: int | None, cores: int, free_mb: float | None
) -> SideBySide:
    """Choose how many classes train at a time on this machine.

    On a GPU it is one, because they would share its memory, which is not estimated.

    Args:
        classes: Classes to train, at least one.
        jobs: Number that the user wants; None = as many as cores and memory allow.
        cores: Number of cores that may be used.
        free_mb: Memory that is free, in MB; None = unknown, which allows any number.

    Raises:
        ConfigError: If the device, the weights or a setting is wrong for every class.
        MissingDependencyError: If the package of the weights is not installed.
    """
    device = choose_device(classes[0].config.train.device).type
    memory_mb = memory_of_largest(classes)
    if jobs is None:
        jobs = min(len(classes), cores) if device == "cpu" else 1
        if memory_mb is not None and free_mb is not None:
            jobs = max(1, min(jobs, int(MEMORY_SHARE * free_mb / memory_mb)))
    return SideBySide(jobs, max(1, cores // jobs), memory_mb, device)


def choose_on_cluster(classes: Sequence[ClassFolder], jobs: int | None) -> SideBySide:
    """Choose how many classes train at a time on a cluster, by what the user wants alone; see `choose_side_by_side`."""
    return SideBySide(jobs, 1, memory_of_largest(classes), classes[0].config.train.device)


def memory_of_largest(classes: Sequence[ClassFolder]) -> float | None:
    """Estimated memory in MB that the class of the most images needs, of those whose images can be used; None if it is unknown.

    Raises:
        ConfigError: If the weights or a setting is wrong for every class.
        MissingDependencyError: If the package of the weights is not installed.
    """
    ranked = sorted(classes, key=lambda one: -one.n_images)
    for one in ranked[:_MOST_TRIED]:
        train = one.config.train.model_copy(update={"device": "cpu"})  # the device may be that of another machine
        config = one.config.model_copy(update={"train": train})
        try:
            plan = dry_run(config, Silent(), out=one.run, runs=one.run.parent)
        except DataError:  # its training will say so
            continue
        if plan.weights is not None:
            raise plan.weights
        return None if plan.needs is None else plan.needs.memory_mb
    return None


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory_mb(root: Path = Path("/")) -> float | None:
    """Free memory of this machine or of its container, whichever is less, in MB; None where Linux does not tell.

    Args:
        root: Folder below which `proc` and `sys` are.
    """
    found = []
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            found.append(int(rest.split()[0]) * 1024 / 1e6)
    limit, used = (_text(root / "sys/fs/cgroup" / name).strip() for name in ("memory.max", "memory.current"))
    if limit.isdigit() and used.isdigit():
        found.append((int(limit) - int(used)) / 1e6)
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
