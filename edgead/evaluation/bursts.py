r"""How far events come in bursts, from their counts in successive blocks of time, and how sure that is.

Bursts that begin independently of each other and have sizes of a logarithmic distribution give negative binomial counts
(Quenouille, 1949), whose variance is D times their mean, for every length of time that is long against a burst. Given their total
n, the counts :math:`y_b` of blocks of the length :math:`t_b` have the Dirichlet-multinomial probability (Mosimann, 1962)

.. math:: \frac{\Gamma(A)}{\Gamma(A + n)} \prod_b \frac{\Gamma(\alpha_b + y_b)}{\Gamma(\alpha_b) y_b!} \; n!, \qquad
   \alpha_b = A \frac{t_b}{\sum t}, \qquad A = \frac{n}{D - 1}

without the unknown rate; single events, D = 1, give the multinomial one. A burst that is longer than a block would look like several, so that
pairs of blocks, pairs of these and so on are looked at too; inside a joined block the events then are spread at random. All
that is weighed by Bayes' rule instead of one best value: a few events leave open whether they come in bursts, and a forecast
has to say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Probability of single events before their times are looked at, and without two of them, which would say something. All
# orders of size of bursts are as likely. Chosen by simulation (`python -m tools.shadow --simulate`), so that bursts are
# covered and the forecast of single events grows little.
SINGLE, SINGLE_UNSEEN = 0.1, 0.85
EXCESSES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
LEAST_BLOCKS = 4


@dataclass(frozen=True)
class Dispersion:
    """A possible dispersion, the variance of a count over that of independent events.

    Attributes:
        seen, coming: That of the observed and of the coming counts, 1 or more.
        weight: Its probability.
    """

    seen: float = 1.0
    coming: float = 1.0
    weight: float = 1.0


INDEPENDENT = (Dispersion(),)


def dispersions(events: Floats, seconds: Floats, share: float = 1.0) -> tuple[Dispersion, ...]:
    """Possible dispersions with their probabilities.

    Args:
        events: Number of events in each block `(B,)`, in their order.
        seconds: Observed time in each block `(B,)`, in seconds.
        share: Share of the time that was observed, in (0, 1]: it thins the bursts that all of the time shows.
    """
    used = seconds > 0.0
    events, seconds = events[used], seconds[used]
    single = SINGLE if events.sum() > 1.0 else SINGLE_UNSEEN
    found: list[tuple[float, float, float]] = [(1.0, single, _spread(events, seconds))]
    scales = _scales(events, seconds)
    prior = (1.0 - single) / len(EXCESSES) / len(scales)
    for counts, lengths, inside in scales:
        for excess in EXCESSES:
            found.append((1.0 + excess, prior, inside + _clustered(counts, lengths, share * excess)))
    largest = max(value for _, _, value in found)
    weights: dict[float, float] = {}
    for coming, prior, value in found:
        weights[coming] = weights.get(coming, 0.0) + prior * math.exp(value - largest)
    total = sum(weights.values())
    return tuple(Dispersion(1.0 + share * (coming - 1.0), coming, own / total) for coming, own in weights.items())


def _scales(events: Floats, seconds: Floats) -> list[tuple[Floats, Floats, float]]:
    """Counts and lengths of the blocks, of joined ones and so on, each with the log-probability of the blocks inside them."""
    found, counts, lengths = [], events, seconds
    while True:
        inside = _spread(events, seconds) - _spread(counts, lengths)
        found.append((counts, lengths, inside))
        if len(counts) < 2 * LEAST_BLOCKS:
            return found
        starts = np.arange(0, len(counts), 2)
        counts, lengths = np.add.reduceat(counts, starts), np.add.reduceat(lengths, starts)


def _spread(counts: Floats, lengths: Floats) -> float:
    """Log-probability of counts of independent events given their total, but for the factorials of the finest blocks."""
    seen = counts > 0.0
    return float((counts[seen] * np.log(lengths[seen] / lengths.sum())).sum())


def _clustered(counts: Floats, lengths: Floats, excess: float) -> float:
    """Log-probability of counts of bursts given their total; all blocks that are left out have no events."""
    total = float(counts.sum())
    if total == 0.0:
        return 0.0
    whole = total / excess
    result = math.lgamma(whole) - math.lgamma(whole + total)
    for count, length in zip(counts.tolist(), lengths.tolist(), strict=True):
        if count > 0.0:
            own = whole * length / float(lengths.sum())
            result += math.lgamma(own + count) - math.lgamma(own)
    return result
