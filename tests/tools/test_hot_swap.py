"""Hot swap under load, in short, and its ledger finds a loss and a wrong digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgead.commands.train import TrainResult
from edgead.stream.result import JudgedBy
from tools.hot_swap import Ledger, hot_swap

from ..stream.fakes import BAD, THRESHOLD, result

SCORE = BAD / 255 - 0.5


def test_the_ledger_finds_a_loss_and_a_wrong_digest() -> None:
    """A missing number is a lost frame; a score of one model under the digest of the other is a wrong verdict."""
    ledger = Ledger([SCORE], {"a": 1.0, "b": 1.5}, THRESHOLD)
    for index, digest in ((0, "a"), (1, "a"), (4, "a"), (5, "b")):
        ledger.accept(replace(result(BAD, index=index), judged_by=JudgedBy(digest, "fake")))
    assert (ledger.n_results, ledger.n_lost, ledger.n_wrong) == (4, 2, 1)


def test_a_few_swaps_lose_nothing(tiny_result: TrainResult, tmp_path: Path) -> None:
    """Real engines, three cameras, alerts on disk: no frame lost, no verdict or alert under a wrong digest."""
    report = hot_swap(tiny_result.bundle.path, tmp_path, swaps=6)
    assert report.is_right, report
    assert report.swaps == 6
    assert report.frames > 6
    assert report.alerts > 0
