"""Files of docker/: they parse, fit each other, and use only metrics that edgead exports."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgead.config.file import load_config
from edgead.line.model_control import StoreControl
from edgead.line.model_store import ModelStore
from edgead.web.metrics import metrics_text
from tools.dockerfile import instructions

from ..line.test_model_store import add
from ..web.parts import MemoryStore, judged, make_stream, shadow_report, tell

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
RULES = yaml.safe_load((DOCKER / "prometheus/alerts.yml").read_text())
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/edgead.json").read_text())
_METRIC = re.compile(r"\b(?:edgead_[a-z0-9_]+|process_[a-z0-9_]+)\b")
_LABELS = re.compile(r"\bby \(([^)]*)\)|\{\{ ?(?:\$labels\.)?(\w+) ?\}\}")


def expressions() -> list[str]:
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def exported(tmp_path: Path) -> tuple[set[str], set[str]]:
    """Names of samples, and labels, that a stream exports."""
    store = ModelStore(tmp_path / "models")
    add(store, "a")
    stream = make_stream(tmp_path, shadow=shadow_report, models=StoreControl(store))
    tell(stream.monitor)
    stream.monitor.accept(judged())
    assert isinstance(stream.store, MemoryStore)
    stream.store.add("20261123T021500Z-3f9a2c")
    names, labels = set(), {"instance", "job"}
    for line in metrics_text(stream).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
        else:
            labels |= set(re.findall(r'(\w+)="', line))
    return names, labels


def test_rules_and_dashboard_use_metrics_that_exist(tmp_path: Path) -> None:
    """Every metric and every label in an expression or a text is exported; each metric is looked at somewhere."""
    names, labels = exported(tmp_path)
    used = {name for text in expressions() for name in _METRIC.findall(text)}
    assert used - names == set()
    assert {name for name in names if not name.endswith(("_sum", "_count"))} - used == set()
    texts = (DOCKER / "prometheus/alerts.yml").read_text() + json.dumps(DASHBOARD)
    found = {label.strip() for pair in _LABELS.findall(texts) for label in ",".join(pair).split(",") if label.strip()}
    assert found - {"value"} - labels == set()


def test_images_have_versions() -> None:
    """No image floats: each has a tag, and none is `latest`; the image that is built has edgead's own version."""
    images = [service["image"] for service in COMPOSE["services"].values()]
    base = dict(instructions((DOCKER / "Dockerfile").read_text()))["ARG"]
    assert base == "SITE_PACKAGES="
    images += re.findall(r"^ARG BASE=(\S+)", (DOCKER / "Dockerfile").read_text(), re.M)
    assert len(images) == 5
    for image in images:
        assert re.search(r":[a-z0-9][a-z0-9.-]+$", image), image
        assert not image.endswith(":latest")


def test_every_container_is_confined() -> None:
    """Read-only root, no capabilities, no new ones, a user other than root, and ports on this machine alone."""
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert name == "edgead" or service["user"].split(":")[0] not in ("0", "root"), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert ("USER", "edgead") in instructions((DOCKER / "Dockerfile").read_text())


def test_mounted_files_exist(tmp_path: Path) -> None:
    """Each file that compose mounts is in the repository, or made by make_secrets.py; each volume is declared."""
    made = make_secrets(tmp_path)
    for service in COMPOSE["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if not source.startswith("./"):
                assert source in COMPOSE["volumes"]
            elif source.startswith("./secrets/"):
                assert (made / Path(source).name).is_file()
            elif source != "./bundle":
                assert (DOCKER / source).exists(), source


def test_the_settings_of_the_stream_are_valid() -> None:
    """The mounted settings load, and their broker and user are those of compose."""
    (sink,) = load_config(DOCKER / "line.yaml", {}).sinks
    assert getattr(sink, "host", None) in COMPOSE["services"]


def test_prometheus_scrapes_the_stream() -> None:
    """It asks the service and port of compose, with the token that compose mounts where it looks."""
    config = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["edgead:8080"]}]
    mounts = COMPOSE["services"]["prometheus"]["volumes"]
    assert f"./secrets/web-token:{job['authorization']['credentials_file']}:ro" in mounts


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_accepts_rules_and_their_tests(tmp_path: Path) -> None:
    """Prometheus' own checker takes every rule and every expression of the dashboard, and the rules' tests hold."""
    groups = [{"name": "panels", "rules": [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(expressions())]}]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": groups}))
    for words in (
        ("check", "rules", "prometheus/alerts.yml"), ("test", "rules", "prometheus/alerts_test.yml"),
        ("check", "rules", str(tmp_path / "panels.yml")),
    ):  # fmt: skip
        done = subprocess.run(["promtool", *words], cwd=DOCKER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def make_secrets(folder: Path) -> Path:
    subprocess.run([sys.executable, DOCKER / "make_secrets.py", folder / "secrets"], check=True, capture_output=True)
    return folder / "secrets"


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Others cannot enter the folder; a second call changes nothing; token and file for Prometheus agree."""
    made = make_secrets(tmp_path)
    assert made.stat().st_mode & 0o777 == 0o700
    before = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in made.iterdir()}
    make_secrets(tmp_path)
    assert {path.name: hashlib.sha256(path.read_bytes()).digest() for path in made.iterdir()} == before
    assert f"EDGEAD_WEB_TOKEN={(made / 'web-token').read_text()}\n" in (made / "edgead.env").read_text()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Mosquitto with the mounted configuration, its paths and port changed; port and password."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    made = make_secrets(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = (DOCKER / "mosquitto/mosquitto.conf").read_text().replace("listener 1883", f"listener {port} 127.0.0.1")
    text = text.replace("/mosquitto/config/passwd", str(made / "mosquitto.passwd"))
    (tmp_path / "mosquitto.conf").write_text(text.replace("/mosquitto/data/", f"{tmp_path}/") + "user root\n")
    process = subprocess.Popen([program, "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    try:
        password = re.search(r"MQTT_PASSWORD=(.*)", (made / "edgead.env").read_text())
        assert password
        yield port, password[1]
    finally:
        process.terminate()
        process.wait(10)


def test_the_broker_takes_the_password_and_no_other(broker: tuple[int, str]) -> None:
    """A real Mosquitto reads the hash: the right password is let in, a wrong one and none are not."""
    client = pytest.importorskip("paho.mqtt.client")
    port, password = broker
    assert [answer(client, port, word) for word in (password, "wrong", None)] == [0, 135, 135]


def answer(client: Any, port: int, password: str | None) -> int:
    codes: list[int] = []
    one = client.Client(client.CallbackAPIVersion.VERSION2, protocol=client.MQTTv5)
    one.on_connect = lambda *arguments: codes.append(arguments[3].value)
    if password is not None:
        one.username_pw_set("edgead", password)
    end_s = time.monotonic() + 20
    while not codes and time.monotonic() < end_s:
        try:
            one.connect("127.0.0.1", port)
        except OSError:
            time.sleep(0.2)
            continue
        while not codes and time.monotonic() < end_s:
            one.loop(0.1)
    one.disconnect()
    return codes[0]
