"""The check of a Jetson install asks pip for the right things, and fails where pip does. No network here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest

from tools.aarch64_wheels import PYPROJECT, TARGETS, check, requirements

REPORT = json.dumps(
    {
        "install": [
            {
                "metadata": {"name": "cuda-bindings", "version": "13.5.0"},
                "download_info": {"url": "x/cuda_bindings-13.5.0-cp310-cp310-manylinux_2_28_aarch64.whl"},
            }
        ]
    }
)


def test_everything_on_the_device_is_asked_for() -> None:
    """The base dependencies, both extras and the CUDA binding as wheels; pycuda apart; nothing of the training side."""
    wheels, compiled = requirements(PYPROJECT.read_text(encoding="utf-8"))
    names = " ".join(wheels)
    for name in ("numpy", "opencv-python", "onnxruntime", "starlette", "uvicorn", "paho-mqtt", "cuda-bindings"):
        assert name in names
    assert "torch" not in names
    assert [entry.startswith("pycuda") for entry in compiled] == [True]


def test_a_missing_wheel_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Where pip resolves nothing for one of two systems, that one is counted, with pip's words."""

    def pip(arguments: Sequence[str]) -> tuple[int, str]:
        if "--no-deps" in arguments:
            return 1, "ERROR: No matching distribution found for pycuda"
        return (1, "ERROR: No matching distribution found for numpy") if "3.12" in arguments else (0, REPORT)

    assert check(TARGETS, PYPROJECT.read_text(encoding="utf-8"), pip) == 1
    printed = capsys.readouterr().out
    assert "13.5.0       cp310-cp310-manylinux_2_28_aarch64" in printed
    assert "cuda-bindings 13.5.0 is not for CUDA 12" in printed
    assert "No matching distribution found for numpy" in printed
    assert "no aarch64 wheel; compiled on the device" in printed


def test_pip_is_told_what_the_device_is() -> None:
    """Python, interface and every manylinux up to the system's C library, newest first."""
    options = TARGETS[0].options()
    platforms = [value for option, value in itertools.pairwise(options) if option == "--platform"]
    assert platforms[0] == "manylinux_2_35_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert options[options.index("--python-version") + 1] == "3.10"
