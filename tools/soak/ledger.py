"""Check that all events arrived: none lost, none under a second key, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.soak.parts import Received


@dataclass(frozen=True)
class Comparison:
    """Comparison of the events that one sink received with those written.

    Attributes:
        n_written: Events in the spool.
        n_arrived: Different events that arrived.
        n_repeated: Arrivals of an event that had arrived before, under the same key: allowed.
        lost: Sequence numbers that never arrived.
        rekeyed: Sequence numbers that arrived under two keys, or under one that the spool does not have.
        disordered: Sequence numbers that arrived first after a later one.
    """

    n_written: int
    n_arrived: int
    n_repeated: int
    lost: tuple[int, ...]
    rekeyed: tuple[int, ...]
    disordered: tuple[int, ...]

    @property
    def is_kept(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.rekeyed or self.disordered)


def compare(written: dict[int, str], arrived: Sequence[Received]) -> Comparison:
    """Compare the spool's events, key by sequence number, with what arrived, in the order of arrival."""
    keys: dict[int, str] = {}
    rekeyed, disordered = set(), []
    n_repeated, highest = 0, 0
    for one in arrived:
        if written.get(one.sequence) != one.key or keys.get(one.sequence, one.key) != one.key:
            rekeyed.add(one.sequence)
        if one.sequence in keys:
            n_repeated += 1
            continue
        keys[one.sequence] = one.key
        if one.sequence < highest:
            disordered.append(one.sequence)
        highest = max(highest, one.sequence)
    lost = tuple(sorted(set(written) - set(keys)))
    return Comparison(len(written), len(keys), n_repeated, lost, tuple(sorted(rekeyed)), tuple(disordered))
