"""The promises of a shadow, in short: simulated lines, the real thing replayed, and its cost."""

from __future__ import annotations

import pytest

from edgead.commands.train import TrainResult
from tools.shadow import Line, latency, replay, simulate


@pytest.mark.parametrize("line", [Line(10.0, 1.0, 0.0, 2.0, 0.1), Line(10.0, 4.0, 60.0, 2.0, 0.1)])
def test_the_forecast_covers_simulated_hours(line: Line) -> None:
    """At most 3 of 20 hours outside: at 95 % more come once in sixty draws, at 70 % nearly always."""
    found = simulate(line, 20)
    assert found.n == 20
    assert found.covered >= 17
    assert found.width < 150, "an interval that says nothing covers too"


def test_the_forecast_covers_bursts_of_which_few_were_seen() -> None:
    """With bursts of ten over a quarter of an hour, an interval from the best value of their dispersion covered 87 of 100 hours."""
    found = simulate(Line(10.0, 10.0, 900.0, 2.0, 0.1), 100)
    assert found.covered >= 93
    assert found.width < 80


@pytest.mark.slow
def test_the_forecast_covers_the_real_thing(tiny_result: TrainResult) -> None:
    """A stream with a shadow, and then the hour that was forecast, with a real engine and the alert rules of a stream."""
    found = replay(tiny_result.bundle.path, 2)
    assert found.n == 2
    assert found.covered >= 1
    assert found.width > 0


@pytest.mark.slow
def test_the_cost_is_measured(tiny_result: TrainResult) -> None:
    """A live stream without and with a shadow: latencies, processor time and memory of its process."""
    # a shadow has the lowest priority: on a busy machine six seconds may pass before its process has begun
    for seconds in (6.0, 30.0):
        found = latency(tiny_result.bundle.path, seconds=seconds, fps=10.0, share=0.5, turns=1)
        if found.judged + found.skipped:
            break
    assert found.judged + found.skipped > 0
    assert found.alone_p50 > 0
    assert found.beside_p50 > 0
    assert found.memory_mb > 20
    assert 0 < found.cpu_share < 2
