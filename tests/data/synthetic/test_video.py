"""Synthetic video: its schedule is the ground truth of its frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.data.synthetic.parts import PARTS
from edgead.data.synthetic.video import SyntheticVideo

SMALL = (64, 64)


@pytest.mark.parametrize("part", PARTS)
def test_the_schedule_equals_the_masks(part: str) -> None:
    """A frame has a mask exactly where the schedule has a defect."""
    video = SyntheticVideo(part, seed=3, n_frames=62, size=SMALL, frames_per_part=3, defect_every=3)
    scheduled = {index for timed in video.schedule for index in range(timed.first_frame, timed.last_frame + 1)}
    masked = {index for index, (_, mask) in enumerate(video.frames()) if mask.any()}
    assert masked == scheduled
    assert len(video.schedule) >= 6


def test_frames_can_be_asked_for_in_any_order() -> None:
    """A frame is the same on its own as in order, and the same in another object of the same seed."""
    settings = {"seed": 8, "n_frames": 24, "size": SMALL, "frames_per_part": 4, "defect_every": 2}
    in_order = list(SyntheticVideo("board", **settings).frames())  # type: ignore[arg-type]
    again = SyntheticVideo("board", **settings)  # type: ignore[arg-type]
    for index in (23, 0, 9, 10, 9):
        image, mask = again.frame(index)
        np.testing.assert_array_equal(image, in_order[index][0])
        np.testing.assert_array_equal(mask, in_order[index][1])


def test_a_part_stands_still_but_for_noise() -> None:
    """Frames of one part differ by noise and vibration, much less than frames of two parts, and are never equal."""
    video = SyntheticVideo("disc", n_frames=8, size=SMALL, frames_per_part=4, defect_every=0)
    first, last, following = (video.frame(index)[0].astype(int) for index in (0, 3, 4))
    assert 0 < np.abs(first - last).mean() < 0.5 * np.abs(last - following).mean()


@given(seed=st.integers(0, 1000), every=st.integers(2, 9), hold=st.integers(1, 30), n_frames=st.integers(1, 2000))
def test_defects_come_at_the_stated_rate(seed: int, every: int, hold: int, n_frames: int) -> None:
    """One part in each run of `defect_every` is defective, never the first; the frames lie within the video."""
    video = SyntheticVideo("cap", seed=seed, n_frames=n_frames, frames_per_part=hold, defect_every=every)
    parts = [timed.first_frame // hold for timed in video.schedule]
    complete_runs = (n_frames // hold) // every
    assert complete_runs <= len(parts) <= complete_runs + 1
    assert [part // every for part in parts] == list(range(len(parts)))
    assert all(part % every != 0 for part in parts)
    assert all(timed.first_frame <= timed.last_frame < n_frames for timed in video.schedule)


def test_every_kind_of_defect_takes_its_turn() -> None:
    """In as many defects as there are kinds, each kind appears once."""
    kinds = PARTS["board"].defects
    video = SyntheticVideo("board", n_frames=2 * len(kinds), frames_per_part=1, defect_every=2)
    assert sorted(timed.defect for timed in video.schedule) == list(kinds)


def test_no_defects() -> None:
    """With `defect_every` 0 every part is good."""
    assert SyntheticVideo("cap", n_frames=1000, defect_every=0).schedule == ()


@pytest.mark.parametrize("index", [-1, 10])
def test_frames_outside_the_video_are_refused(index: int) -> None:
    """A frame before the first or after the last is an IndexError."""
    with pytest.raises(IndexError, match=r"0\.\.9"):
        SyntheticVideo("cap", n_frames=10).frame(index)


@pytest.mark.parametrize("wrong", [{"part": "gear"}, {"n_frames": 0}, {"frames_per_part": 0}, {"defect_every": 1}])
def test_impossible_videos_are_refused(wrong: dict[str, object]) -> None:
    """Impossible settings are refused by the constructor."""
    with pytest.raises(ValueError, match="must be"):
        SyntheticVideo(**{"part": "cap", **wrong})  # type: ignore[arg-type]
