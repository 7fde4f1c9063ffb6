"""The command line as a person meets it: help, exit codes, errors, start-up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from edgead.cli import app
from edgead.config.families import FAMILIES
from edgead.config.file import load_config

ROOT = Path(__file__).parents[2]
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def edgead(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edgead", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_is_in_the_reference(verb: str, tmp_path: Path) -> None:
    """Every verb explains itself, gives every option a sentence, and stands in docs/cli.md."""
    done = edgead(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = VERBS[verb]
    verbs = getattr(command, "commands", {verb: command}).values()
    assert all(nested.help for nested in verbs)
    assert all(parameter.help for nested in verbs for parameter in nested.params if parameter.name != "help")
    assert f"edgead {verb}" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_command_line_has_its_verbs() -> None:
    """The verbs under test come from the command line itself; those of the mission are among them."""
    assert VERBS.keys() >= {
        "train",
        "eval",
        "export",
        "build-engine",
        "stream",
        "bench",
        "doctor",
        "demo",
        "config",
        "bundle",
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_help_states_the_defaults_of_the_settings(family: str) -> None:
    """The defaults in the help of `train` equal those of the settings, for every model."""
    config = load_config(None, {"model.name": family})
    helps = {parameter.name: parameter.help for parameter in VERBS["train"].params}
    shown = "6 for usf, 40 for the others"
    assert helps["epochs"].endswith(f"default: {shown}.")
    assert str(config.train.epochs) == ("6" if family == "usf" else "40")
    assert f"{family}{' (default)' if family == load_config(None, {}).model.name else ''}" in helps["model"]
    values = {
        "data": f"./{config.data.root}", "base": config.model.base, "backbone": config.model.backbone,
        "image_size": config.model.image_size, "device": config.train.device, "seed": config.train.seed,
    }  # fmt: skip
    for name, value in values.items():
        assert helps[name].endswith(f"default: {value}."), name


def children_s() -> float:
    """Processor time of all processes that this one has started and waited for: other load of the machine does not count."""
    times = os.times()
    return times.children_user + times.children_system


def test_help_is_quick_and_light(tmp_path: Path) -> None:
    """`edgead --help` loads neither torch nor numpy nor OpenCV and answers within half a second."""
    before_s = children_s()
    done = edgead("--help", cwd=tmp_path)
    assert children_s() - before_s < 2.0, "half a second when idle; a busy processor is slower"
    assert all(verb in done.stdout for verb in VERBS)
    code = (
        "import sys; sys.argv = ['edgead', '--help']\n"
        "from edgead.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'onnxruntime', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "--data", "nowhere"], 1, "nowhere"),
        (["train", "--data", "nowhere", "--dry-run"], 0, "no folder nowhere"),
        (["train", "--data", ".", "--dry-run"], 1, "empty"),
        (["train", "--set", "model.colour=red"], 2, "model.colour"),
        (["train", "--set", "train.epochs=-1", "--set", "model.blocks=x"], 2, "2 setting(s)"),
        (["train", "--set", "epochs"], 2, "section.key=value"),
        (["train", "--model", "resnet"], 2, "model.name"),
        (["train", "--config", "none.yaml"], 2, "none.yaml"),
        (["eval"], 1, "edgead train"),
        (["eval", "--false-alarm-rate", "2"], 1, "no bundle"),
        (["build-engine", "--fp16", "--int8"], 2, "one precision"),
        (["build-engine", "--backend", "vulkan"], 2, "vulkan"),
        (["stream"], 2, "--camera"),
        (["stream", "--source", "http://ad:x@y:PART/z@127.0.0.1:8701/a.mjpg"], 1, "%40, : as %3A, / as %2F"),
        (["bench", "--frame-size", "big"], 2, "HEIGHTxWIDTH"),
        (["doctor", "nowhere"], 4, "nowhere"),
        (["bundle", "verify", "nowhere"], 1, "nowhere"),
        (["demo", "--part", "spoon", "--out", "x"], 2, "disc"),
        (["fly"], 2, "fly"),
    ],
)
def test_errors_have_their_exit_code_and_say_what_was_seen(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    """Every command ends with its documented exit code and names the value, without a traceback."""
    done = edgead(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr + done.stdout
    assert "PART" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_bug_gives_exit_code_3_and_a_log(tmp_path: Path) -> None:
    """An unexpected exception becomes one line, a log file with the traceback, and exit code 3."""
    code = (
        "import sys; sys.argv = ['edgead', 'doctor']\n"
        "import edgead.commands.doctor as module\n"
        "def broken(*a, **k): raise RuntimeError('boom')\n"
        "module.doctor = broken\n"
        "from edgead.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert "boom" in done.stderr
    assert "Traceback" not in done.stderr
    log = Path(re.search(r"\S+\.log", done.stderr).group())  # type: ignore[union-attr]
    assert "Traceback" in log.read_text()
    log.unlink()


def test_interrupt_gives_exit_code_130(tmp_path: Path) -> None:
    """Ctrl-C ends a command with exit code 130 and no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgead", "demo", "--out", "d"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "d").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("world", "code", "cleans_up"), [("2", 0, False), ("2", 4, True), ("1", 0, True)])
def test_a_process_among_others_ends_at_once(world: str, code: int, cleans_up: bool, tmp_path: Path) -> None:
    """All that it said is out; the interpreter's clean-up, which can abort it, is left out after a success."""
    script = (
        "import atexit, edgead.cli as cli\n"
        "def app():\n"
        "    print('said')\n"
        f"    raise SystemExit({code})\n"
        "cli.app = app\n"
        "atexit.register(print, 'cleaned up')\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "WORLD_SIZE": world, "RANK": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.split("\n")[:-1] == ["said", *["cleaned up"] * cleans_up]


def test_json_of_doctor_is_json(tmp_path: Path) -> None:
    """`doctor --json` prints one JSON object with the documented keys."""
    done = edgead("doctor", "--json", cwd=tmp_path)
    content = json.loads(done.stdout)
    assert content.keys() >= {"checks", "ok"}
    assert all(check.keys() >= {"name", "status", "detail"} for check in content["checks"])


def test_config_lists_every_key(tmp_path: Path) -> None:
    """`edgead config` names every setting with its default."""
    done = edgead("config", cwd=tmp_path)
    for key in ("data.root", "model.levels", "train.epochs", "engine.threads", "stream.opacity", "alerts.open_frames"):
        assert key in done.stdout


def test_the_reference_is_that_of_the_command_line() -> None:
    """docs/cli.md is what `tools/cli_reference.py` writes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cli_reference.py"), "--check"], check=False, timeout=60
    )
    assert done.returncode == 0, "run: python tools/cli_reference.py"
