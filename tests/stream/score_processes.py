"""Streams of good scores with a uniform marginal and every kind of dependence; a quantile function gives other marginals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

Floats = NDArray[np.float64]
Process = Callable[[np.random.Generator, int], Floats]


def independent(rng: np.random.Generator, n: int) -> Floats:
    return rng.random(n)


def autoregressive(phi: float) -> Process:
    """Gaussian AR(1): correlated in the bulk, independent far out in the tail."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        noise = rng.normal(size=n) * np.sqrt(1.0 - phi**2)
        noise[0] = rng.normal()
        return np.asarray(stats.norm.cdf(signal.lfilter([1.0], [1.0, -phi], noise)))

    return draw


def moving_maximum(length: int) -> Process:
    """Each shock stays for `length` frames: clustered in the tail."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        shocks = rng.random(n + length - 1)
        return np.lib.stride_tricks.sliding_window_view(shocks, length).max(axis=1) ** length

    return draw


def looks(length: int) -> Process:
    """A part stays in view for `length` frames and scores the same in all of them."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return np.repeat(rng.random(n // length + 2), length)[rng.integers(length) :][:n]

    return draw


def student_looks(length: int, degrees: float, correlation: float) -> Process:
    """Looks of equicorrelated Student-t scores: noise within a look, and yet odd together."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        n_looks = n // length + 1
        part, noise = rng.normal(size=(n_looks, 1)), rng.normal(size=(n_looks, length))
        mixed = np.sqrt(correlation) * part + np.sqrt(1.0 - correlation) * noise
        scale = np.sqrt(degrees / rng.chisquare(degrees, size=(n_looks, 1)))
        return np.asarray(stats.t.cdf(mixed * scale, degrees)).ravel()[:n]

    return draw


def alternating(length: int) -> Process:
    """Every other frame shows the part, the ones between are independent: lighting from two sides."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        scores = looks(length)(rng, n)
        scores[1::2] = rng.random(scores[1::2].size)
        return scores

    return draw


def odd_bursts(length: int, share: float) -> Process:
    """Ordinary frames are independent, but a rare odd part stays for a look: the tail unlike everything below it."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        n_looks = n // length + 1
        odd = rng.random(n_looks) < share
        scores = rng.random((n_looks, length)) * (1.0 - share)
        scores[odd] = 1.0 - share * rng.random((int(odd.sum()), 1))
        return scores.ravel()[:n]

    return draw


PROCESSES: dict[str, Process] = {
    "independent": independent,
    "autoregressive 0.9": autoregressive(0.9),
    "autoregressive 0.99": autoregressive(0.99),
    "antithetic": autoregressive(-0.9),
    "moving maximum": moving_maximum(6),
    "bursts of 3": looks(3),
    "looks of 25": looks(25),
    "Student looks": student_looks(25, 3.0, 0.7),
    "alternating": alternating(20),
    "odd bursts of 3": odd_bursts(3, 0.003),
}
