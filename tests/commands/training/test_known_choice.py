"""Known defects take part in the choice of a form by their number, and each is judged by a choice without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.training.form_choice import Choice, best_choice
from edgead.commands.training.known_choice import (
    EQUAL,
    ChoicesWithout,
    Tally,
    folds_of,
    level_weights_to_try,
    weight_of_known,
)
from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores

RATES = (0.01, 0.05)
SHARES = (0.01, 0.04)
Scores = dict[float, NDArray[np.float64]]


def form(number: int = 0, size: int = 320) -> Choice:
    return Choice(size, "positions", 0.1 * number, 1.0, 0.0, 10.0)


def scores(seed: int, n_known: int) -> tuple[Scores, Scores, Scores]:
    """Scores of 200 good images, 100 artificial and some known defects, by share of the map."""
    random = np.random.default_rng(seed)
    power, known = random.uniform(1.0, 3.0, 2)
    good = {share: random.normal(size=200) for share in SHARES}
    artificial = {share: random.normal(power, 1.0, size=100) for share in SHARES}
    return good, artificial, {share: random.normal(known, 1.0, size=n_known) for share in SHARES}


def chosen_without(left: set[int], candidates: list[Choice], tallies: list[Tally], n_known: int) -> Choice:
    """The choice of a search that has never seen some known defects, from the beginning."""
    used = [number for number in range(n_known) if number not in left]
    return best_choice([tally.judge(one, used, decide=True) for one, tally in zip(candidates, tallies, strict=True)])


@pytest.mark.parametrize(("n", "weight"), [(5, 0.2), (EQUAL, 0.5), (60, 0.75)])
def test_the_weight_grows_with_the_number(n: int, weight: float) -> None:
    """Five known defects weigh a fifth, twenty as much as all artificial ones."""
    assert weight_of_known(n) == pytest.approx(weight)


def test_one_of_five_known_defects_does_not_overrule_many_artificial_ones() -> None:
    """A form that finds 5 points more of the artificial defects stays the best, although another finds one known defect more."""
    few = {share: np.array([[True] * 3 + [False] * 2] * 2) for share in SHARES}
    more = {share: np.array([[True] * 4 + [False]] * 2) for share in SHARES}
    strong = Tally(dict.fromkeys(SHARES, 0.80), few).judge(form(1), range(5), decide=True)
    weak = Tally(dict.fromkeys(SHARES, 0.74), more).judge(form(2), range(5), decide=True)
    assert best_choice([strong, weak]) is strong
    twenty = [Tally(one.artificial, {k: np.tile(v, 4) for k, v in one.known.items()}) for one in
              (Tally(dict.fromkeys(SHARES, 0.80), few), Tally(dict.fromkeys(SHARES, 0.74), more))]  # fmt: skip
    strong, weak = (one.judge(form(number), range(20), decide=True) for number, one in enumerate(twenty, 1))
    assert best_choice([strong, weak]) is weak


def test_known_defects_choose_the_share_of_the_map() -> None:
    """With none the largest share that finds nearly as much is taken; large known defects that only one share finds change it."""
    artificial = {0.01: 0.50, 0.04: 0.52}
    known = {0.01: np.ones((2, 20), bool), 0.04: np.zeros((2, 20), bool)}
    tally = Tally(artificial, known)
    without = tally.judge(form(), range(20), decide=False)
    assert (without.top_fraction, without.known_weight, without.merit) == (0.04, 0.0, 0.52)
    assert without.known_power == 0.0, "they are counted even where they decide nothing"
    chosen = tally.judge(form(), range(20), decide=True)
    assert (chosen.top_fraction, chosen.power, chosen.known_power) == (0.01, 0.5, 1.0)
    assert chosen.merit == pytest.approx(0.75)


def test_known_defects_that_every_share_finds_hide_no_loss() -> None:
    """A large share that loses a seventh of the artificial defects is not taken, although the mean with the known ones hardly changes."""
    artificial = {0.01: 0.70, 0.04: 0.60}
    known = {share: np.ones((2, 20), bool) for share in artificial}
    chosen = Tally(artificial, known).judge(form(), range(20), decide=True)
    assert 0.5 * (0.60 + 1.0) >= 0.9 * 0.5 * (0.70 + 1.0), "the mean alone would take it"
    assert chosen.top_fraction == 0.01
    # known defects that contradict the artificial ones decide by what is found of both
    apart = {0.01: np.zeros((2, 60), bool), 0.04: np.ones((2, 60), bool)}
    assert Tally({0.01: 0.8, 0.04: 0.2}, apart).judge(form(), range(60), decide=True).top_fraction == 0.04


def test_without_known_defects_the_choice_is_that_of_artificial_ones() -> None:
    """Merit is then the power, to the last digit."""
    good, artificial, _ = scores(1, 0)
    tally = Tally.of(good, artificial, {}, RATES)
    choice = tally.judge(form(), range(0), decide=False)
    thresholds = [threshold_from_scores(good[choice.top_fraction], rate).value for rate in RATES]
    power = np.mean([np.mean(artificial[choice.top_fraction] > threshold) for threshold in thresholds])
    assert choice.merit == choice.power == pytest.approx(power, abs=1e-6)
    assert choice.known_power is None


@pytest.mark.parametrize("seed", range(8))
def test_each_fold_chooses_as_if_its_defects_did_not_exist(seed: int) -> None:
    """Kept while the forms are tried, the choices are those of searches that never saw the defects."""
    n_known, folds = 7, (0, 1, 1, 3, 4, 5, 6)
    trials = [scores(100 * seed + number, n_known) for number in range(6)]
    candidates = [form(number, 320 if number < 4 else 640) for number in range(6)]
    tallies = [Tally.of(*trial, RATES) for trial in trials]
    without = ChoicesWithout(folds, decide=True)
    for one, tally, (_, _, known) in zip(candidates, tallies, trials, strict=True):
        without.take(without.better(one, tally), known, dict.fromkeys(SHARES, 2.0))
    for fold in sorted(set(folds)):
        left = {number for number, own in enumerate(folds) if own == fold}
        expected = chosen_without(left, candidates, tallies, n_known)
        assert without.best[fold] == expected
        known = trials[
            candidates.index(replace(expected, top_fraction=1.0, power=0.0, known_power=None, known_weight=0.0))
        ][2]
        for number in left:
            assert without.judged[number].score == known[expected.top_fraction][number]


def test_a_defect_has_no_part_in_the_choice_that_judges_it() -> None:
    """The score of a known defect does not change the form that judges it, but does change the choice with all of them."""
    chosen, judges = set(), set()
    for value in (-10.0, 10.0):
        without, every = ChoicesWithout(tuple(range(5)), decide=True), []
        for number in range(4):
            good, artificial, known = scores(number, 5)
            for share in SHARES:
                known[share] = known[share].copy()
                known[share][2] = value if number == 1 else -value
            tally = Tally.of(good, artificial, known, RATES)
            # equal power of the artificial defects leaves the choice to the known ones
            tally = Tally(dict.fromkeys(SHARES, 0.5), tally.known)
            without.take(without.better(form(number), tally), known, dict.fromkeys(SHARES, 2.0))
            every.append(tally.judge(form(number), range(5), decide=True))
        judges.add(without.best[2])
        chosen.add(best_choice(every).shrinkage)
    assert len(judges) == 1
    assert len(chosen) == 2


def test_the_finished_model_judges_where_the_fold_has_chosen_its_form() -> None:
    """Other folds keep the judgement of their own form, and are counted."""
    without = ChoicesWithout((0, 1), decide=True)
    final = replace(form(1), top_fraction=0.04)
    other = replace(form(2), top_fraction=0.04)
    known = {0.04: np.array([1.0, 1.5])}
    without.take({0: final}, known, {0.04: 2.0})
    without.take({1: other}, known, {0.04: 1.2})
    assert [one.is_found for one in without.judged.values()] == [False, True]
    varied = replace(final, variation=0.3, power=0.9)
    found = without.judged_finally(varied, np.array([1.8, 0.0]), 1.7)
    assert [(one.score, one.threshold, one.is_found) for one in found] == [(1.8, 1.7, True), (1.5, 1.2, True)]
    assert without.n_others(varied) == 1


def test_pictures_of_one_part_and_kind_are_left_out_together() -> None:
    """The pattern that tells parts among good images tells them here, within a kind; other names are folds of their own."""
    names = [("part1_a", "dent"), ("part1_b", "dent"), ("part1_c", "crack"), ("part2_a", "dent"), ("x", "dent")]
    samples = [Sample(Path(f"{name}.png"), f"{name}.png", "part", True, kind) for name, kind in names]
    assert folds_of(samples, r"part(\d+)_") == (0, 0, 2, 3, 4)
    assert folds_of(samples, None) == (0, 1, 2, 3, 4)


def test_weights_of_levels_are_tried_only_where_known_defects_decide() -> None:
    """Equal weights, and each level at three times the others; given weights stay, and a single level has none."""
    assert level_weights_to_try((), 2, decide=True) == ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0))
    assert level_weights_to_try((), 2, decide=False) == ((),)
    assert level_weights_to_try((1.0, 2.0), 2, decide=True) == ((),)
    assert level_weights_to_try((), 1, decide=True) == ((),)
