"""Verdicts of the results page: each way, from records made by hand, and the statistics behind them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from tests.tools.tables import make_results
from tools.results.cells import UNIFIED, Cell, Table
from tools.results.claims import CONFIRMED, MOST_FLIPS, NOISE, OPEN, REFUTED, Claim, judge, sign_flip_p
from tools.results.page import render
from tools.results.results import Results, pooled_spread

SPREAD = (-1.0, 0.0, 1.0)


def verdicts(results: Results) -> dict[str, Claim]:
    """The claims by name."""
    return {claim.name: claim for claim in judge(results)}


def test_clear_differences_are_confirmed() -> None:
    """Uniform cells that spread less and score higher, and a unified HGAD far ahead, confirm their claims."""
    widths = {"affine": 2.0, "uniform": 0.2}

    def points(cell: Cell) -> float:
        jump = SPREAD[cell.seed] * (widths[cell.coupling] + 0.01 * len(cell.data))
        better = (cell.coupling == "uniform") + (cell.base == "altub") * 0.5
        return 85.0 + 0.1 * jump + better + 5.0 * (cell.model == "hgad")

    found = verdicts(make_results(points))
    for name in ("uniform-spread", "uniform-mean", "altub-mean", "hgad-affine-given-gain", "hgad-affine-none-loss"):
        assert found[name].verdict == CONFIRMED, name
    assert found["altub-spread"].verdict == NOISE
    assert "(+5.00), 95 % interval" in found["hgad-affine-given-gain"].numbers


def test_clear_differences_the_other_way_are_refuted() -> None:
    """Uniform cells that spread more and score lower, and a unified HGAD that falls behind, refute their claims."""
    widths = {"affine": 0.1, "uniform": 1.0}

    def points(cell: Cell) -> float:
        worse = (cell.coupling == "uniform") + 3.0 * (cell.model == "hgad")
        return 85.0 + SPREAD[cell.seed] * widths[cell.coupling] * (1 + 0.01 * len(cell.data)) - worse

    found = verdicts(make_results(points))
    for name in ("uniform-spread", "uniform-mean", "hgad-affine-given-gain", "hgad-affine-predicted-loss"):
        assert found[name].verdict == REFUTED, name
    assert "(−" in found["uniform-mean"].numbers


def test_unclear_differences_are_noise() -> None:
    """A gain of three points with seeds that differ by ten, and a loss on two data sets of three, stay undecided."""
    found = verdicts(make_results(lambda cell: 80.0 + 10.0 * SPREAD[cell.seed] + 3.0 * (cell.model == "hgad")))
    assert found["hgad-affine-given-gain"].verdict == NOISE

    def points(cell: Cell) -> float | None:
        step = {"magnetic_tile": -1.0, "pcb": -0.5}.get(cell.data, 0.8)
        return 80.0 + step * (cell.coupling == "uniform") if cell.model == "fastflow" else None

    assert verdicts(make_results(points))["uniform-mean"].verdict == NOISE


def test_what_is_not_measured_is_open() -> None:
    """Without results, with one side of a comparison, and for a spread of one seed there is no verdict."""
    assert {claim.verdict for claim in judge(make_results(lambda cell: None))} == {OPEN}
    one_side = verdicts(make_results(lambda cell: 90.0 if cell.coupling == "affine" and cell.data != UNIFIED else None))
    assert one_side["uniform-mean"].verdict == OPEN
    one_seed = verdicts(make_results(lambda cell: 90.0 if cell.seed == 0 else None))
    assert one_seed["uniform-spread"].verdict == OPEN
    assert one_seed["uniform-mean"].verdict == CONFIRMED


def test_one_seed_of_a_unified_model_decides_nothing() -> None:
    """A lead of ten points in one seed has no interval, so it is no confirmation."""
    found = verdicts(make_results(lambda cell: 80.0 + 10.0 * (cell.model == "hgad") if cell.seed == 0 else None))
    assert found["hgad-affine-given-gain"].verdict == NOISE
    assert found["hgad-affine-given-gain"].numbers == "90.00 against 80.00 (+10.00), no interval from one seed"


def test_pairs_have_the_same_seeds() -> None:
    """While a table is unfinished, a pair is compared over the seeds that both have: a good seed of one side is no lead."""

    def points(cell: Cell) -> float | None:
        return None if cell.coupling == "uniform" and cell.seed == 0 else (70.0, 90.0, 90.0)[cell.seed]

    found = verdicts(make_results(points))["uniform-mean"].numbers
    assert found.startswith("mean 90.00 against 90.00 (+0.00) over 12 pairs")


@pytest.mark.parametrize(
    ("changes", "p"), [((1.0, 1.0, 1.0), 0.25), ((1.0, -1.0), 1.0), ((0.0, 0.0), 1.0), ((3.0, 1.0, -1.0), 0.75)]
)
def test_sign_flip_p_by_hand(changes: Sequence[float], p: float) -> None:
    """The share of the sign patterns whose sum is at least as far from 0, counted by hand."""
    assert sign_flip_p(changes) == pytest.approx(p)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_sign_flip_p_by_brute_force(count: int) -> None:
    """The same as trying every pattern of signs."""
    changes = np.random.default_rng(count).normal(0.4, 1.0, count)
    sums = [abs(np.dot(signs, changes)) for signs in product((-1, 1), repeat=count)]
    expected = np.mean([total >= abs(changes.sum()) - 1e-12 for total in sums])
    assert sign_flip_p(list(changes)) == pytest.approx(expected)


def test_sign_flip_p_of_many_changes_is_close() -> None:
    """Above the limit of the exact count, random signs agree with the normal approximation."""
    changes = np.random.default_rng(0).normal(0.3, 1.0, MOST_FLIPS + 20)
    expected = 2 * stats.norm.sf(abs(changes.sum()) / np.sqrt((changes**2).sum()))
    assert sign_flip_p(list(changes)) == pytest.approx(expected, abs=0.01)


def test_interval_is_that_of_scipy() -> None:
    """The interval of a difference of unified models is Welch's, as SciPy computes it."""
    mine, its = (91.0, 90.2, 93.5), (85.0, 85.3, 84.9)
    sides = {"hgad": mine, "fastflow": its}
    claim = verdicts(make_results(lambda cell: sides.get(cell.model, mine)[cell.seed]))["hgad-affine-given-gain"]
    interval = stats.ttest_ind(mine, its, equal_var=False).confidence_interval(0.95)
    assert claim.numbers.endswith(f"95 % interval {interval.low:+.2f} to {interval.high:+.2f}")


def test_pooled_spread_by_hand() -> None:
    """Variances 1 (3 seeds) and 8 (2 seeds) pool to (2 * 1 + 1 * 8) / 3; single seeds are ignored."""
    assert pooled_spread([(1.0, 2.0, 3.0), (0.0, 4.0), (7.0,)]) == pytest.approx((10 / 3) ** 0.5)
    assert pooled_spread([(7.0,)]) is None


def test_explanations_stand_beside_their_claims() -> None:
    """The explanation of a claim in the YAML is printed under the table of claims."""
    results = make_results(lambda cell: 90.0)
    table = Table.model_validate({**results.table.model_dump(), "explanations": {"altub-mean": "Because."}})
    text = render(Results(table, results.groups, results.records, []), "r.svg")
    assert "*AltUB has no worse mean than a standard normal base* — Because." in text
