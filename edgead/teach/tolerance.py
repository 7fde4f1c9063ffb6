r"""Learning a false alarm: the least change of a closed-form model that makes a good picture's map ordinary where it differs.

With the linear map W of a position, :math:`W^T W = G^{-1}`, and the offset d of the picture from the mean, its squared norm is
:math:`s = |W d|^2`. The covariance :math:`G' = G + \beta d d^T` with :math:`\beta = 1 / s_0 - 1 / s` gives it the norm
:math:`s_0` (Sherman & Morrison, 1950), and with :math:`z = W d`

.. math:: W' = \bigl(I + \tfrac{1}{s} ((1 + \beta s)^{-1/2} - 1)\, z z^T\bigr) W, \qquad W'^T W' = G'^{-1}

The mean stays, so that no norm grows: no good picture scores higher than before, and the thresholds from the left-out scores
keep their rate. Among centres, a further one on the line from the nearest centre to the picture's feature, at the squared
distance :math:`s_0` from the latter, does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgead.teach.centres import nearest
from edgead.teach.closed_form import ClosedForm, Level
from edgead.teach.form import Floats

# A graph may compare its centres in as many equal parts: a number that divides stays one.
_PARTS = 8
# Rounding to float32 may leave a norm a little above its limit.
_SLACK = 1e-4


@dataclass(frozen=True)
class Change:
    """Proposed change of one level.

    Attributes:
        rows: New linear maps `(C, C)` by position.
        centres: Further centres `(m, C)`.
        positions: Positions where the picture differs.
    """

    rows: dict[int, Floats]
    centres: Floats
    positions: tuple[int, ...]


def tolerate(model: ClosedForm, inputs: Sequence[Floats], level_of_map: float) -> list[Change]:
    """Changes that bring the maps of copies of a picture down to a value wherever they exceed it.

    Args:
        model: The model; it is not changed.
        inputs: Inputs `(N, P, C)` of each level, of the picture and its copies.
        level_of_map: Largest map value that they should have.

    Returns:
        One change for each level; without positions where nothing exceeds the value.
    """
    found = []
    for level, x in zip(model.levels, inputs, strict=True):
        limit = level_of_map / len(model.levels) / level.gain + level.mean
        limits = (np.maximum(limit, level.mean) * level.channels).ravel()
        norms = level.energies(x) * level.channels
        above = norms > limits * (1.0 + _SLACK)
        if level.centres is None:
            found.append(_of_positions(level, x, above, limits))
        else:
            found.append(_of_centres(level, x, above, limits))
    return found


def apply(model: ClosedForm, changes: Sequence[Change]) -> ClosedForm:
    """A model with some changes; the constants that stay are shared."""
    levels = []
    added = max(len(change.centres) for change in changes)
    if added and all(level.centres is not None and len(level.centres) % _PARTS == 0 for level in model.levels):
        added += -added % _PARTS
    for level, change in zip(model.levels, changes, strict=True):
        centres = level.centres
        if centres is not None:
            # all levels have as many centres: a repeated one changes nothing
            repeated = np.repeat(centres[:1], added - len(change.centres), axis=0)
            centres = np.concatenate([centres, change.centres, repeated])
        levels.append(replace(level, centres=centres, rows={**level.rows, **change.rows}))
    return ClosedForm(levels, model.map_size, model.top)


def _of_positions(level: Level, x: Floats, above: NDArray[np.bool_], limits: Floats) -> Change:
    rows: dict[int, Floats] = {}
    for position in np.flatnonzero(above.any(axis=0)):
        limit = float(limits[position])
        weight = level.row(int(position)).astype(np.float64)
        z = x[above[:, position], position].astype(np.float64) @ weight.T
        for _ in range(len(z)):
            norms = np.square(z).sum(axis=1)
            largest = int(norms.argmax())
            s = float(norms[largest])
            if s <= limit:
                break
            axis = z[largest] / np.sqrt(s)
            # (1 + beta s)^-1/2 is the square root of limit / s
            shrink = np.sqrt(limit / s) - 1.0
            z = z + shrink * np.outer(z @ axis, axis)
            weight += shrink * np.outer(axis, axis @ weight)
        rows[int(position)] = weight.astype(np.float32)
    return Change(rows, np.zeros((0, level.channels), np.float32), tuple(rows))


def _of_centres(level: Level, z: Floats, above: NDArray[np.bool_], limits: Floats) -> Change:
    assert level.centres is not None
    places = np.flatnonzero(above.any(axis=0))
    rows = z[above].astype(np.float32)
    own = np.broadcast_to(limits, above.shape)[above]
    labels, norms = nearest(rows, level.centres) if len(rows) else (np.zeros(0, np.int64), np.zeros(0, np.float32))
    new: list[Floats] = []
    base = level.centres[labels]
    while len(rows) and bool((norms > own * (1.0 + _SLACK)).any()):
        largest = int((norms / own).argmax())
        # from the nearest of the centres of before: steps from one new centre to the next would not end
        away = float(np.square(rows[largest] - base[largest]).sum())
        share = np.sqrt(own[largest] / away)
        new.append((rows[largest] + share * (base[largest] - rows[largest])).astype(np.float32))
        norms = np.minimum(norms, np.square(rows - new[-1]).sum(axis=1))
        norms[largest] = min(norms[largest], own[largest])
    stacked = np.stack(new) if new else np.zeros((0, level.channels), np.float32)
    return Change({}, stacked, tuple(int(place) for place in places))
