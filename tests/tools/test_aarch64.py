"""Check of a Jetson install: correct requests to pip, and failure where pip fails. No network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from packaging.requirements import Requirement

from tools.aarch64.wheels import PYPROJECT, TARGETS, Target, check, requirements, tomllib

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


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.extra)
def test_everything_on_the_device_is_asked_for(target: Target) -> None:
    """The base dependencies, both extras and the binding of its CUDA as wheels; pycuda apart; nothing to train with."""
    wheels, compiled = requirements(PYPROJECT.read_text(encoding="utf-8"), target.extra)
    names = " ".join(wheels)
    assert f"cuda-bindings=={target.cuda}.*" in names
    for name in ("numpy", "opencv-python", "onnxruntime", "starlette", "uvicorn", "paho-mqtt", "cuda-bindings"):
        assert name in names
    assert "torch" not in names
    assert [entry.startswith("pycuda") for entry in compiled] == [True]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.extra)
def test_the_plain_extra_is_that_of_the_systems_python(target: Target) -> None:
    """`edgead[jetson]` fits both: the Python version determines the JetPack."""
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    entries = [Requirement(entry) for entry in extras["jetson"]]
    here = {"python_version": target.python}
    chosen = {(e.name, e.specifier) for e in entries if e.marker is None or e.marker.evaluate(here)}
    assert chosen == {(e.name, e.specifier) for e in map(Requirement, extras[target.extra])}


def test_bindings_of_another_cuda_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """An extra without an upper bound fails exactly on the board where the newest version is wrong."""
    assert check(TARGETS, PYPROJECT.read_text(encoding="utf-8"), lambda arguments: (0, REPORT)) == 1
    assert "jetson6 must say ==12.*" in capsys.readouterr().out


def test_a_missing_wheel_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """An unresolved system and one with the wrong CUDA both count as failures, with pip's message."""

    def pip(arguments: Sequence[str]) -> tuple[int, str]:
        if "--no-deps" in arguments:
            return 1, "ERROR: No matching distribution found for pycuda"
        return (1, "ERROR: No matching distribution found for numpy") if "3.12" in arguments else (0, REPORT)

    assert check(TARGETS, PYPROJECT.read_text(encoding="utf-8"), pip) == 2
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
