"""Sinks as the configuration and the command line name them, and secrets that never show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from edgead.config.sinks import (
    CommandSettings,
    JsonlSettings,
    MqttSettings,
    SinkSettings,
    WebhookSettings,
    secret_of,
    sink_from_url,
)
from edgead.errors import ConfigError

SINKS: TypeAdapter[list[SinkSettings]] = TypeAdapter(list[SinkSettings])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", MqttSettings(host="broker")),
        ("mqtt://broker:1884/plant/hall", MqttSettings(host="broker", port=1884, prefix="plant/hall")),
        ("mqtts://broker?ca=/ca.pem", MqttSettings(host="broker", tls=True, ca=Path("/ca.pem"))),
        ("mqtt://broker?discovery=homeassistant", MqttSettings(host="broker", discovery="homeassistant")),
        ("mqtt://a%40b:p%2Fw@broker", MqttSettings(host="broker", user="a@b", password=SecretStr("p/w"))),
        ("https://x/y?z=1", WebhookSettings(url=SecretStr("https://x/y?z=1"))),
        ("file:alerts.jsonl", JsonlSettings(path=Path("alerts.jsonl"))),
        ("file:///var/log/a%20b.jsonl", JsonlSettings(path=Path("/var/log/a b.jsonl"))),
    ],
)
def test_urls_name_sinks(url: str, expected: SinkSettings) -> None:
    """Each kind that fits in a URL."""
    assert sink_from_url(url) == expected


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the URL has a user and no password, and for the signature of a webhook."""
    monkeypatch.setenv("EDGEAD_MQTT_PASSWORD", "geheim")
    monkeypatch.setenv("EDGEAD_WEBHOOK_SECRET", "geheim")
    broker, hook = sink_from_url("mqtt://ada@broker"), sink_from_url("http://x/")
    assert isinstance(broker, MqttSettings)
    assert isinstance(hook, WebhookSettings)
    assert (broker.password_env, hook.secret_env) == ("EDGEAD_MQTT_PASSWORD", "EDGEAD_WEBHOOK_SECRET")
    assert secret_of("password", None, None, broker.password_env) == "geheim"


@pytest.mark.parametrize(
    "url",
    ["ftp://geheim@x", "mqtt://", "mqtt://:geheim@x", "mqtt://x?geheim=1", "mqtt://x/+", "http://geheim@x:99999/",
     "https:///geheim", "http://x/ geheim", "file:geheim.txt", "geheim", ""],
)  # fmt: skip
def test_urls_that_name_none(url: str) -> None:
    """A message that says what is allowed, without the URL and what may be in it."""
    with pytest.raises(ConfigError) as caught:
        sink_from_url(url)
    text = caught.value.message
    assert "geheim" not in text.replace("got geheim", "").replace("'geheim'", "")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"kind": "mqtt", "host": "x", "password": "p"}, "needs a user"),
        ({"kind": "mqtt", "host": "x", "user": "u", "password": "p", "password_file": "f"}, "must be given once"),
        ({"kind": "mqtt", "host": "x", "ca": "f"}, "need tls"),
        ({"kind": "mqtt", "host": "x", "tls": True, "key": "f"}, "go together"),
        ({"kind": "mqtt", "host": "x", "prefix": "a/#"}, "must be a topic"),
        ({"kind": "mqtt", "host": "x", "prefix": "$SYS"}, "must be a topic"),
        *(
            ({"kind": "mqtt", "host": host}, "must be a host name")
            for host in ("ada:geheim@broker", "mqtt://broker", "broker/geheim", "a b")
        ),
        ({"kind": "webhook", "url": "x"}, "must be a http"),
        ({"kind": "webhook", "url": "http://x", "secret_env": "A", "secret_file": "b"}, "must be given once"),
        ({"kind": "webhook", "url": "http://x", "headers": {"A B": "c"}}, "no name of a header"),
        ({"kind": "webhook", "url": "http://x", "headers": {"A": "c\r\nB: d"}}, "printable"),
        ({"kind": "command", "argv": []}, "at least 1"),
        ({"kind": "command", "argv": ["a\0"]}, "NUL"),
        ({"kind": "jsonl", "path": "x", "keep": -1}, "greater than"),
        ({"kind": "jsonl", "path": "x", "from": "yesterday"}, "now"),
        ({"kind": "pigeon"}, "mqtt"),
        ({"kind": "jsonl", "path": "x", "unknown": 1}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_fit(values: dict[str, Any], complaint: str) -> None:
    """Each wrong combination is refused."""
    with pytest.raises(ValidationError, match=complaint):
        SINKS.validate_python([values])


def test_names_are_stable_and_show_no_secret() -> None:
    """The name of a delivery position contains neither path nor password, and can be chosen."""
    sinks = SINKS.validate_python(
        [
            {"kind": "mqtt", "host": "x", "user": "u", "password": "geheim"},
            {"kind": "webhook", "url": "https://u:geheim@x/geheim?t=geheim"},
            {"kind": "jsonl", "path": "a/b.jsonl", "name": "log"},
            {"kind": "command", "argv": ["/usr/bin/notify", "--token=geheim"]},
        ]
    )
    assert [sink.identity for sink in sinks] == ["mqtt:x:1883", "webhook:x:443", "log", "command:notify"]


def test_secrets_do_not_show() -> None:
    """Neither in the text of the settings, nor in their JSON, nor in complaints about them."""
    sinks = SINKS.validate_python(
        [
            {"kind": "mqtt", "host": "x", "user": "u", "password": "geheim", "from": "beginning"},
            {"kind": "webhook", "url": "https://x/geheim", "secret": "geheim", "headers": {"Authorization": "geheim"}},
        ]
    )
    assert "geheim" not in repr(sinks) + str(sinks) + SINKS.dump_json(sinks).decode()
    assert sinks[0].start == "beginning"
    with pytest.raises(ValidationError) as caught:
        WebhookSettings(url=SecretStr("nothing geheim"))
    assert "geheim" not in str(caught.value)


def test_a_secret_is_read_from_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without its last line end, the environment, or the settings; nothing is None, and empty is an error."""
    file = tmp_path / "secret"
    file.write_text("ge heim \r\n")
    monkeypatch.setenv("SECRET_FOR_TEST", "other")
    assert secret_of("secret", None, file, None) == "ge heim "
    assert secret_of("secret", None, None, "SECRET_FOR_TEST") == "other"
    assert secret_of("secret", SecretStr("third"), None, None) == "third"
    assert secret_of("secret", None, None, None) is None
    for wrong in (("x", None, tmp_path / "no", None), ("x", None, None, "NOT_SET_FOR_TEST")):
        with pytest.raises(ConfigError, match=r"secret|x"):
            secret_of(*wrong)


def test_a_command_keeps_its_words() -> None:
    """Nothing is split, joined or expanded."""
    (sink,) = SINKS.validate_python([{"kind": "command", "argv": ["notify", "$A b", "*"]}])
    assert sink == CommandSettings(argv=("notify", "$A b", "*"))
