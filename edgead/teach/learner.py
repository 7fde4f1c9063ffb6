"""Learning false alarms one by one: twins of the picture stop alarming, and what was found before is found still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgead.data.variations import change_image, vary
from edgead.imaging import Image
from edgead.teach.closed_form import ClosedForm
from edgead.teach.form import Floats
from edgead.teach.probes import Probes
from edgead.teach.tolerance import Change, apply, tolerate

# Copies that are learned with the picture, and others that must stop alarming.
COPIES, TWINS = 5, 5
SILENT = 0.9
SHIFT_PX = 0.5
STRENGTH = 0.5
# Where between an ordinary map value and the threshold the picture's map is brought to; the first that silences the twins.
SHARES = (0.5, 0.25, 0.0)
# Artificial defects that may be lost since the first version, and share that must still be found where the picture differs.
LOST, KEPT = 0.021, 0.8
# Share of the places at which something that looks like a learned picture must still be found.
ELSEWHERE = 0.8
Refusal = Literal["silent", "defect-like", "twins", "gate", "spread"]


@dataclass(frozen=True)
class Known:
    """Picture judged a defect: its name, and its inputs `(1, P, C)` of each level."""

    name: str
    inputs: Sequence[Floats]


@dataclass(frozen=True)
class Outcome:
    """What came of one picture.

    Attributes:
        score: Its score under the model before.
        score_after: Its score under the changed model; the same if it is refused.
        n_positions: Number of positions where it differs.
        elsewhere: Share of the places at which what looks like it, or like a picture learned before, is still found, of those
            at which it was found before any of them was learned; the least of all pictures.
        refusal: Why it is not learned; None if it is.
        reason: The same as a sentence.
        warning: What should be looked at although it is learned; empty if there is nothing.
    """

    score: float
    score_after: float
    n_positions: int = 0
    elsewhere: float = 1.0
    refusal: Refusal | None = None
    reason: str = ""
    warning: str = ""


class Learner:
    """Changes a model picture by picture.

    Args:
        model: The model; it is not changed.
        inputs_of: Function from a picture `(h, w, 3)` at input size to the inputs `(1, P, C)` of the levels.
        probes: Artificial defects and what the first version found of them.
        threshold: Image threshold.
        ordinary: Map value of an ordinary position.
        looks_defective: Whether a score is so high that good pictures hardly explain it.

    Attributes:
        model: The model with all pictures that were learned.
        probes: The probes, with what these pictures look like.
        learned: Inputs `(1, P, C)` of each level, of each picture that was learned.
    """

    def __init__(
        self,
        model: ClosedForm,
        inputs_of: Callable[[Image], list[Floats]],
        probes: Probes,
        *,
        threshold: float,
        ordinary: float,
        looks_defective: Callable[[float], bool] = lambda score: False,
    ) -> None:
        self.model = model
        self._inputs_of = inputs_of
        self.probes = probes
        self.learned: list[list[Floats]] = []
        self._found: NDArray[np.bool_] | None = None
        self._threshold = threshold
        self._ordinary = ordinary
        self._looks_defective = looks_defective

    def learn(self, image: Image, defects: Sequence[Known], *, seed: int = 0, sure: bool = False) -> Outcome:
        """Learn a good picture that raised an alarm, or say why not; the model changes only if it is learned.

        Args:
            image: The picture `(h, w, 3)`, uint8 RGB, at input size.
            defects: Pictures judged a defect.
            seed: Seed of its copies.
            sure: Whether a picture that looks defective is confirmed to be good.
        """
        own = self._inputs_of(image)
        score = self._score(self.model, own)
        if score <= self._threshold:
            return Outcome(score, score, refusal="silent", reason="It raises no alarm under this model any more.")
        warning = ""
        if self._looks_defective(score):
            text = (
                f"Its score {score:.3g} (threshold {self._threshold:.3g}) is so high that good parts hardly explain it: it looks "
                "like a defect."
            )
            if not sure:
                return Outcome(score, score, refusal="defect-like", reason=text)
            warning = f"{text} It was learned because it was confirmed to be good."
        copies = [own, *(self._inputs_of(twin(image, seed, number)) for number in range(COPIES))]
        twins = [self._inputs_of(twin(image, seed, COPIES + number)) for number in range(TWINS)]
        learned = [np.concatenate(parts) for parts in zip(*copies, strict=True)]
        checked = [np.concatenate(parts) for parts in zip(own, *twins, strict=True)]
        for share in SHARES:
            changes = tolerate(self.model, learned, self._ordinary + share * (self._threshold - self._ordinary))
            changed = apply(self.model, changes)
            after = changed.scores(changed.energies(checked))
            silent, score_after = float(np.mean(after[1:] <= self._threshold)), float(after[0])
            if silent >= SILENT and score_after <= self._threshold:
                break
        else:
            reason = f"{1.0 - silent:.0%} of its twins would still raise an alarm."
            return Outcome(score, score, refusal="twins", reason=reason)
        n = sum(len(change.positions) for change in changes)
        found = self.probes.found(changed, self._threshold)
        if reason := self._worse(changed, changes, defects, found):
            return Outcome(score, score, n, refusal="gate", reason=reason, warning=warning)
        kinds = self._kinds_with(own)
        new = [kind[-1:] for kind in kinds]
        shares = [*self.probes.kind_shares, float(self.probes.kind_found(self.model, new, self._threshold)[0])]
        left = self.probes.kind_found(changed, kinds, self._threshold)
        elsewhere = min((float(now) / then for now, then in zip(left, shares, strict=True) if then > 0.0), default=1.0)
        if elsewhere < ELSEWHERE:
            text = (
                f"What looks like the pictures learned so far would be found at {elsewhere:.0%} of the places at which it was "
                "found before."
            )
            if not sure:
                return Outcome(score, score, n, elsewhere, "spread", text, warning)
            warning = f"{warning} {text}".strip()
        self.model, self._found = changed, found
        self.learned.append(own)
        self.probes = replace(self.probes, kinds=[kind.astype(np.float16) for kind in kinds], kind_shares=shares)
        return Outcome(score, score_after, n, elsewhere, warning=warning)

    def _kinds_with(self, own: Sequence[Floats]) -> list[Floats]:
        """What the learned pictures and a new one add to good ones, `(k + 1, P, C)` of each level."""
        found = []
        for level, good, kinds, x in zip(self.model.levels, self.probes.good, self.probes.kinds, own, strict=True):
            values = (level.energies(x)[0] - level.mean.ravel()) * level.gain.ravel()
            added = x[0] - good.astype(np.float32).mean(axis=0)
            added[values * len(self.model.levels) <= self._ordinary] = 0.0
            found.append(np.concatenate([kinds.astype(np.float32), added[None]]))
        return found

    def lost(self) -> int:
        """Number of artificial defects that the first version found and this one does not."""
        if self._found is None:
            self._found = self.probes.found(self.model, self._threshold)
        return int(np.sum(self.probes.first_found & ~self._found))

    def _worse(
        self, changed: ClosedForm, changes: Sequence[Change], defects: Sequence[Known], found: NDArray[np.bool_]
    ) -> str:
        """Reason to refuse a changed model that finds the artificial defects `found` `(m,)`; empty if it finds none worse."""
        limit, first = self._threshold, self.probes.first_found
        missed = [
            known.name
            for known in defects
            if self._score(self.model, known.inputs) > limit >= self._score(changed, known.inputs)
        ]
        if missed:
            return f"{', '.join(missed[:5])}, judged a defect, would not be found any more."
        lost = int(np.sum(first & ~found))
        if lost > LOST * len(first):
            return (
                f"{lost} of {int(first.sum())} artificial defects that the first version finds would not be found any more "
                f"(allowed: {int(LOST * len(first))})."
            )
        for index, change in enumerate(changes):
            if not change.positions:
                continue
            before = float(self.probes.first_shares[index][list(change.positions)].mean())
            after = float(self.probes.share_found(changed, index, change.positions, limit).mean())
            if after < KEPT * before:
                return (
                    f"Where the picture differs, {after:.0%} of artificial defects would be found, and the first version finds "
                    f"{before:.0%} there."
                )
        return ""

    def _score(self, model: ClosedForm, inputs: Sequence[Floats]) -> float:
        return float(model.scores(model.energies(inputs))[0])


def twin(image: Image, seed: int, number: int) -> Image:
    """The same part as the next picture may show it: moved a little, with other noise, light or compression.

    Args:
        image: Picture `(h, w, 3)`, uint8 RGB, at input size.
        seed: Seed of the picture.
        number: Number of the twin.
    """
    random = np.random.default_rng((seed, number))
    size = (image.shape[0], image.shape[1])
    moved = change_image(image, "shift", float(random.uniform(0.0, SHIFT_PX)), random, size)
    return vary(moved, random, STRENGTH, size)
