"""Choice of the frames that a shadow judges: stretches of successive frames."""

from __future__ import annotations

import random


class Stretches:
    """Picks stretches of successive frames of one camera, a share of all in the long run.

    Successive frames, because an alert is a matter of several. The pauses vary by half their length, so that stretches do
    not keep step with a machine.

    Args:
        share: Share of the frames, in (0, 1]; may be lowered.
        length: Number of frames in a stretch.
        chance: Source of random numbers.
    """

    def __init__(self, share: float, length: int, chance: random.Random) -> None:
        self.share = share
        self._length = length
        self._chance = chance
        self._left = 0
        self._was_taken = False
        self._credit = 0.0
        self._need = self._pause() * chance.random()

    def take(self) -> tuple[bool, bool]:
        """Whether to judge the next frame, and whether a stretch begins with it."""
        self._credit += self.share
        if self._left == 0:
            if self._credit < self._need:
                self._was_taken = False
                return False, False
            self._left = self._length
        begins, self._was_taken = not self._was_taken, True
        self._left -= 1
        self._credit -= 1.0
        if self._left == 0:
            self._need = self._pause() * self._chance.uniform(0.5, 1.5)
        return True, begins

    def break_off(self) -> None:
        """End the stretch: the next frame does not follow the last one, or is not judged."""
        if self._left:
            self._left = 0
            self._need = self._pause() * self._chance.uniform(0.5, 1.5)
        self._was_taken = False

    def _pause(self) -> float:
        """Credit that pays for a stretch; during it, more is earned."""
        return self._length * (1.0 - self.share)
