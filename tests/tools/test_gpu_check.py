"""Check of a machine with a GPU: here its CPU parts run, and the rest is reported as not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.gpu_check import MODELS, QUICK, Check, NotRun, Step, main, run_steps


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Check, dict[str, Step]]:
    """All steps of a quick check on a machine without a GPU; two models are trained."""
    check = Check(tmp_path_factory.mktemp("check"), QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        return check, {step.name: step for step in run_steps(check)}


@pytest.mark.slow  # trains two models
def test_cpu_parts_run_and_missing_parts_are_named(ran: tuple[Check, dict[str, Step]]) -> None:
    """Training, throughput, engine and doctor run on the CPU; every step of the GPU says why it did not run."""
    steps = ran[1]
    assert {name for name, step in steps.items() if step.outcome == "failed"} == set()
    assert all(step.outcome == "ran" for name, step in steps.items() if "GPU" not in name)
    assert all(step.outcome == "not run" and step.reason for name, step in steps.items() if "GPU" in name)
    assert steps["throughput on the CPU"].figures["backbone bfloat16 images/s"] > 0
    assert steps["engine on the CPU"].figures["fp32 verdict flips"] == 0


@pytest.mark.slow  # trains two models
def test_both_trainings_are_compared(ran: tuple[Check, dict[str, Step]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of GPU and CPU runs; here both trainings are the CPU's, so nothing may differ."""
    check = ran[0]
    check._trained |= {(model, "cuda"): result for (model, _), result in check._trained.items()}
    monkeypatch.setattr("tools.gpu_check._require", lambda device: None)
    figures = check._compare()
    assert {name for name in figures if "AUROC" in name} == {f"{model} image AUROC" for model in MODELS}


class Stand(Check):
    """Three steps with known ends."""

    def steps(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        def missing() -> dict[str, Any]:
            raise NotRun("no GPU")

        def wrong() -> dict[str, Any]:
            raise AssertionError("scores differ")

        yield "good", lambda: {"images/s": 5}
        yield "missing", missing
        yield "wrong", wrong
        yield "after", lambda: {}


def test_a_failure_stops_nothing_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later steps run after a failure, and the exit code is 1."""
    monkeypatch.setattr("tools.gpu_check.Check", Stand)
    assert main(["--json", str(tmp_path / "figures.json")]) == 1
    printed = capsys.readouterr().out
    assert "not run  missing" in printed
    assert "failed   wrong (0 s): scores differ" in printed
    assert "2 ran, 1 not run, 1 failed" in printed
    assert '"images/s": 5' in (tmp_path / "figures.json").read_text()


def test_nothing_failed_is_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that cannot run on this machine are no failure."""

    class Fine(Stand):
        def steps(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
            return (step for step in super().steps() if step[0] != "wrong")

    monkeypatch.setattr("tools.gpu_check.Check", Fine)
    assert main([]) == 0
