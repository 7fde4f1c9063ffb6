"""Alerts that other rules would have opened on scores of the past."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgead.stream.alerts import AlertRules


def count_openings(
    rules: AlertRules, times_s: NDArray[np.float64], scores: NDArray[np.float32], breaks_s: Sequence[float] = ()
) -> int:
    """Number of alerts that the state machine of `stream.alerts` would have opened on these frames.

    The marked area is not known of past frames: with a `min_area` this is the largest possible number. With `latch`, every
    alert counts as acknowledged when it is over.

    Args:
        rules: Rules for opening and closing.
        times_s: Times `(n,)` of the frames, rising, in seconds.
        scores: Their scores `(n,)`, raw units.
        breaks_s: Times of outages and faults: frames before and after one are never counted together.
    """
    values = np.asarray(scores, np.float64)
    anomalous, quiet = (values > rules.threshold).tolist(), (values <= rules.closing_level).tolist()
    firsts = set(np.searchsorted(times_s, np.asarray(breaks_s, np.float64), side="right").tolist())
    recent: deque[bool] = deque(maxlen=rules.window_frames)
    n_alerts, n_quiet, is_open, closed_s = 0, 0, False, -np.inf
    for index, time_s in enumerate(times_s.tolist()):
        if index in firsts:
            recent.clear()
            n_quiet = 0
        if is_open:
            n_quiet = n_quiet + 1 if quiet[index] else 0
            if n_quiet >= rules.close_frames:
                is_open, closed_s = False, time_s
            continue
        recent.append(anomalous[index])
        is_cooling = time_s - closed_s < rules.cooldown_s
        if anomalous[index] and not is_cooling and sum(recent) >= rules.open_frames:
            n_alerts, n_quiet, is_open = n_alerts + 1, 0, True
            recent.clear()
    return n_alerts
