"""Promise of a training: the false-alarm rate and the threshold that scores of good images give, and nothing else."""

from __future__ import annotations

from numpy.typing import ArrayLike

from edgead.config.root import Config
from edgead.evaluation.threshold import checked_scores, rate_to_promise, threshold_from_scores


def rate_of(config: Config, n: int) -> float:
    """False-alarm rate that n good images promise: the one asked for, else 0.5 % or the smallest that they certify."""
    return rate_to_promise(config.train.false_alarm_rate, config.train.promised_rate, n, config.train.confidence)


def promised_threshold(config: Config, scores: ArrayLike) -> float:
    """Threshold of the image score.

    Args:
        config: Settings with the rate and the confidence.
        scores: Left-out scores of independent good images `(n,)`.
    """
    values = checked_scores(scores)
    return threshold_from_scores(values, rate_of(config, len(values)), config.train.confidence).value
