"""Alerts are listed as they arrived, whatever the clock said."""

from __future__ import annotations

from pathlib import Path

from edgead.stream.spool.alert_record import AlertRecord

from .builders import alert_id, opened, spool
from .test_disk_full import no_file_may_grow


def test_alerts_of_a_wrong_clock_do_not_stay_on_top(tmp_path: Path) -> None:
    """Alerts dated years ahead are followed by those that arrive later, also after a restart, on every page."""
    future = [number + 10**6 for number in (1, 2)]
    with spool(tmp_path) as target:
        for number in (1, *future, 2):
            target.append(opened(number))
    with spool(tmp_path) as target:
        target.append(opened(3))
        expected = [alert_id(number) for number in (3, 2, *future[::-1], 1)]
        assert alert_id(future[0]) > alert_id(3)
        assert [one.id for one in target.alerts()] == expected
        pages: list[str] = []
        while page := target.alerts(before=pages[-1] if pages else None, limit=2):
            pages += [one.id for one in page]
        assert pages == expected
        assert [one.id for one in target.alerts(state="held", camera="line 1")] == []
        assert len(target.alerts(camera="line 1", limit=3)) == 3
        # a page goes on after an alert that retention has removed
        assert [one.id for one in target.alerts(before=alert_id(2) + "0", limit=1)] == [alert_id(2)]


def test_alerts_that_wait_for_the_disk_come_first(tmp_path: Path) -> None:
    """What could not be written yet arrived last; a change that waits does not move its alert."""
    with spool(tmp_path) as target:
        target.append(opened(10**6))
        target.append(opened(1))
        with no_file_may_grow(tmp_path):
            for number in (2, 3):
                assert target.append(opened(number)) == 0
            target.update(AlertRecord(id=alert_id(1), note="changed"))
            expected = [alert_id(number) for number in (3, 2, 1, 10**6)]
            assert [one.id for one in target.alerts()] == expected
            for number, alert in enumerate(expected):
                assert [one.id for one in target.alerts(before=alert)] == expected[number + 1 :]
                assert [one.id for one in target.alerts(limit=number)] == expected[:number]
        target.maintain()
        assert [one.id for one in target.alerts()] == expected
