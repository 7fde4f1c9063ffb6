"""How many classes train at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgead.commands.training.class_folders import ClassFolder
from edgead.commands.training.side_by_side import MEMORY_SHARE, choose_side_by_side, free_memory_mb, memory_of_largest
from edgead.errors import ConfigError
from tests.tiny_run import tiny_config


@pytest.fixture(scope="module")
def classes(tiny_data: Path) -> list[ClassFolder]:
    """Five classes of the same images."""
    return [ClassFolder(name, tiny_config(tiny_data), Path("runs") / name, 40) for name in "abcde"]


@pytest.mark.parametrize(
    ("jobs", "cores", "fit", "wanted"),
    [
        (None, 3, None, (3, 1)),  # cores
        (None, 16, None, (5, 3)),  # classes, which share the cores
        (None, 16, 2.5, (2, 8)),  # memory
        (None, 16, 0.1, (1, 16)),  # one always trains
        (4, 2, 0.1, (4, 1)),  # the user
    ],
)
def test_cores_classes_and_memory_are_the_limits(
    jobs: int | None, cores: int, fit: float | None, wanted: tuple[int, int], classes: list[ClassFolder]
) -> None:
    """The number is the least of them, unless it is given; `fit` is how many of the largest class the memory holds."""
    need = memory_of_largest(classes)
    assert need is not None
    assert need > 800
    free = None if fit is None else fit * need / MEMORY_SHARE
    found = choose_side_by_side(classes, jobs, cores, free)
    assert (found.jobs, found.threads) == wanted
    assert found.describe().startswith(f"{wanted[0]} at a time on cpu, {wanted[1]} thread")


def test_the_largest_class_that_can_be_read_is_estimated(classes: list[ClassFolder], tmp_path: Path) -> None:
    """A class without images is not; if there are no others, nothing is known."""
    (tmp_path / "empty").mkdir()
    empty = ClassFolder("empty", tiny_config(tmp_path / "empty"), Path("runs/empty"), 1000)
    assert memory_of_largest([empty, *classes]) == memory_of_largest(classes)
    assert memory_of_largest([empty]) is None


def test_what_is_wrong_for_every_class_is_said_once(tiny_data: Path, tmp_path: Path) -> None:
    """Weights that are not there, before any training."""
    config = tiny_config(tiny_data, model__weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(ConfigError, match=r"none\.safetensors"):
        choose_side_by_side([ClassFolder("a", config, tmp_path / "a", 1)], None, 2, None)


def test_free_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    """Whichever is less, in MB; nothing is known without the files of Linux."""
    assert free_memory_mb(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    2000000 kB\n")
    assert free_memory_mb(tmp_path) == pytest.approx(2048)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("500000000\n")
    assert free_memory_mb(tmp_path) == pytest.approx(2048)
    (group / "memory.max").write_text("1500000000\n")
    assert free_memory_mb(tmp_path) == pytest.approx(1000)
    shutil.rmtree(tmp_path / "proc")
    assert free_memory_mb(tmp_path) == pytest.approx(1000)
