"""Choice of the frames that a shadow judges."""

from __future__ import annotations

import itertools
import random

import pytest

from edgead.stream.shadow.stretches import Stretches


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_the_share_is_kept_in_stretches(share: float) -> None:
    """In the long run the share of the frames is taken, in whole stretches of successive frames."""
    chosen = Stretches(share, 100, random.Random(1))
    taken = [chosen.take() for _ in range(200_000)]
    assert sum(one for one, _ in taken) / len(taken) == pytest.approx(share, rel=0.02)
    begun = [index for index, (_, begins) in enumerate(taken) if begins]
    if share == 1.0:
        assert begun == [0]
        return
    for start in begun[:-1]:
        assert all(one for one, _ in taken[start : start + 100])
    pauses = {second - first for first, second in itertools.pairwise(begun)}
    assert len(pauses) > 5, "the pauses vary"


def test_a_gap_ends_a_stretch() -> None:
    """After a gap the next frame that is taken begins a stretch, and the share is still a limit."""
    chosen = Stretches(0.5, 10, random.Random(1))
    n_taken = 0
    for index in range(10_000):
        taken, _ = chosen.take()
        n_taken += taken
        if index % 7 == 0:
            chosen.break_off()
            after = chosen.take()
            n_taken += after[0]
            assert after[1] == after[0]
    assert n_taken / (10_000 * 8 / 7) <= 0.51


def test_every_frame_is_as_likely() -> None:
    """The first stretch is not always at the beginning: a short stream is watched at any place."""
    starts = [
        next(i for i in range(2000) if chosen.take()[0])
        for chosen in (Stretches(0.1, 100, random.Random(n)) for n in range(50))
    ]
    assert min(starts) < 200 < 600 < max(starts)
