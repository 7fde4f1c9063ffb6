"""`edgead doctor`: diagnosis of this machine, and of every engine on the bundle's reference images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from edgead.commands.doctor.check import Check, Diagnosis
from edgead.commands.doctor.gpu import check_gpu
from edgead.commands.doctor.jetson import check_board, find_board
from edgead.commands.doctor.machine import Machine, ThisMachine
from edgead.commands.doctor.model import check_model
from edgead.commands.doctor.packages import check_packages
from edgead.commands.doctor.power import check_power
from edgead.commands.doctor.system import check_system
from edgead.commands.doctor.video import check_video

__all__ = ["Check", "Diagnosis", "doctor"]


def doctor(bundle_path: Path, *, bundle_named: bool, threads: int, machine: Machine | None = None) -> Diagnosis:
    """Diagnose the machine, then score the bundle's reference images with every engine, or test the backends.

    Args:
        bundle_path: Expected path of the bundle.
        bundle_named: Whether the user named the bundle; then a missing one is a failure.
        threads: Number of CPU threads of ONNX Runtime.
        machine: Machine to diagnose; None = this one.
    """
    machine = machine or ThisMachine()
    board = find_board(machine)
    groups: dict[str, Iterable[Check]] = {
        "Machine": check_system(machine, board),
        "Jetson": (*check_board(machine, board), *check_power(machine, board)),
        "Python packages": check_packages(machine, board),
        "GPU": check_gpu(machine, board),
        "Cameras and video": check_video(machine, board),
        "Model": check_model(bundle_path, bundle_named, threads),
    }
    return Diagnosis(
        tuple(dataclasses.replace(check, group=group) for group, checks in groups.items() for check in checks)
    )
