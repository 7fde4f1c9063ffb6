"""Events to a program: what it gets, what its end means, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgead.config.sinks import CommandSettings
from edgead.errors import ConfigError
from edgead.stream.delivery.command import CommandSink
from edgead.stream.delivery.sink import DeliveryError, RefusedError

from .receivers import event, wait_until


def command(*argv: str, timeout_s: float = 10.0, snapshot: Path | None = None) -> CommandSink:
    settings = CommandSettings(argv=argv, timeout_s=timeout_s)
    return CommandSink(settings, media=lambda alert, kind: snapshot if kind == "snapshot" else None)


def shell(script: str, **changes: Any) -> CommandSink:
    return command("/bin/sh", "-c", script, **changes)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_what_a_program_gets(tmp_path: Path) -> None:
    """The event on standard input, key facts in the environment, arguments as they are."""
    script = "import json, os, sys; json.dump([sys.argv[1:], json.load(sys.stdin), dict(os.environ)], open(sys.argv[1], 'w'))"
    out = tmp_path / "out.json"
    sink = command(sys.executable, "-c", script, str(out), "$HOME; `ls` *", snapshot=tmp_path / "x.jpg")
    sink.deliver([event(7, camera="line\0 1")])
    arguments, given, environment = json.loads(out.read_text())
    assert arguments == [str(out), "$HOME; `ls` *"]
    assert given == event(7, camera="line\0 1").payload
    facts = {key.removeprefix("EDGEAD_"): value for key, value in environment.items() if key.startswith("EDGEAD_")}
    assert facts == {
        "KEY": "0123456789ab-7", "SEQUENCE": "7", "KIND": "alert_opened", "AT": "2026-11-23T02:15:00.000Z",
        "CAMERA": "line  1", "ZONE": "picture", "ALERT": str(event(7).alert_id), "SEVERITY": "high",
        "SNAPSHOT": str(tmp_path / "x.jpg"),
    }  # fmt: skip
    sink.deliver([event(8, "camera_lost", zone=None)])
    _, given, environment = json.loads(out.read_text())
    assert (environment["EDGEAD_ZONE"], environment["EDGEAD_ALERT"], environment["EDGEAD_SNAPSHOT"]) == ("", "", "")


def test_a_program_gets_no_secret_of_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stream's environment it has user, paths, language and what the settings name; no token and no password."""
    for name in (
        "EDGEAD_WEB_TOKEN",
        "EDGEAD_MQTT_PASSWORD",
        "BROKER_PASSWORD",
        "NOTIFY_SOCKET",
        "LC_TIME",
        "TZ",
        "LAMP",
    ):
        monkeypatch.setenv(name, f"of {name}")
    out = tmp_path / "out.json"
    script = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    settings = CommandSettings(argv=(sys.executable, "-c", script, str(out)), environment=("LAMP", "NOT_THERE"))
    CommandSink(settings, media=lambda alert, kind: None).deliver([event(7)])
    environment = json.loads(out.read_text())
    given = {name for name, value in environment.items() if value == f"of {name}"}
    assert given == {"LC_TIME", "TZ", "LAMP"}
    assert environment["PATH"] == os.environ["PATH"]
    assert not {"EDGEAD_WEB_TOKEN", "EDGEAD_MQTT_PASSWORD", "NOT_THERE"} & environment.keys()


def test_a_program_need_not_read(tmp_path: Path) -> None:
    """One that ends without reading a long event has it all the same."""
    shell("exit 0").deliver([event(1, detail="x" * 1_000_000)])


@pytest.mark.parametrize(("code", "kind"), [(1, DeliveryError), (127, DeliveryError), (65, RefusedError)])
def test_ends_that_are_not_delivery(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    """Another code than 0 is tried again, 65 refuses; what the program said is kept, without secrets."""
    counter = tmp_path / "n"
    script = (
        f"echo x >> {counter}; [ $(wc -l < {counter}) = 1 ] && exit 0; echo 'cannot mqtt://a:geheim@b' >&2; exit {code}"
    )
    with pytest.raises(DeliveryError, match=rf"ended with {code}: cannot mqtt://\*\*\*@b") as caught:
        shell(script).deliver([event(1), event(2), event(3)])
    assert type(caught.value) is kind
    assert caught.value.n_delivered == 1
    assert "geheim" not in str(caught.value)


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """Also one that ignores SIGTERM, and what it started."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 60 & echo $! $$ > {pids}; wait; sleep 60"
    start_s = time.monotonic()
    with pytest.raises(DeliveryError, match=r"killed after 0\.3 s"):
        shell(script, timeout_s=0.3).deliver([event(1)])
    assert time.monotonic() - start_s < 30
    numbers = [int(text) for text in pids.read_text().split()]
    assert len(numbers) == 2
    wait_until(lambda: not any(is_running(number) for number in numbers))


def test_what_a_program_leaves_behind_is_ended(tmp_path: Path) -> None:
    """A job in the background neither holds the delivery up nor stays."""
    pids = tmp_path / "pids"
    start_s = time.monotonic()
    shell(f"sleep 60 & echo $! > {pids}; exit 0").deliver([event(1)])
    assert time.monotonic() - start_s < 30
    wait_until(lambda: not is_running(int(pids.read_text())))
    assert not [thread for thread in threading.enumerate() if thread.name == "edgead command output"]


def test_a_talkative_program(tmp_path: Path) -> None:
    """Megabytes of output are read and forgotten, but for the end."""
    script = "import sys; sys.stdout.write('x' * 5_000_000 + ' the end'); sys.exit(3)"
    with pytest.raises(DeliveryError, match=r"the end$") as caught:
        command(sys.executable, "-c", script).deliver([event(1)])
    assert len(caught.value.message) < 500


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """Said at the start; one that disappears later is tried again."""
    with pytest.raises(ConfigError, match="no-such-program"):
        command("no-such-program")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    sink = command(str(program))
    program.unlink()
    with pytest.raises(DeliveryError, match="could not be started"):
        sink.deliver([event(1)])
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    sink.deliver([event(1)])
