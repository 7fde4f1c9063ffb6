"""Where alerts are delivered to: one model per kind of sink, and how a URL names one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from edgead.errors import ConfigError

MQTT_PASSWORD = "EDGEAD_MQTT_PASSWORD"
WEBHOOK_SECRET = "EDGEAD_WEBHOOK_SECRET"


class _SinkSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    kind: str
    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="What its place in the history is kept under; unset: its kind and address.",
    )
    start: Literal["now", "beginning"] = Field(
        "now", alias="from", description="Where a sink begins that was not there before: now, or with all that is kept."
    )
    retry_max_s: float = Field(60.0, gt=0, le=86400, description="Longest pause between two attempts, in seconds.")
    give_up_s: float = Field(
        600.0,
        ge=0,
        le=30 * 86400,
        description="An event that the receiver refuses for good is set aside after so many seconds and 3 attempts.",
    )

    @property
    def address(self) -> str:
        """Where it delivers to, without secrets."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """The name that its place in the history is kept under."""
        return self.name or f"{self.kind}:{self.address}"


class CustomSettings(_SinkSettings):
    """How a sink from a program's own code is treated; a settings file cannot name one."""

    kind: Literal["custom"] = "custom"


def _one_of(what: str, values: dict[str, Any]) -> None:
    given = [key for key, value in values.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{what} must be given once (got {' and '.join(given)})")


class MqttSettings(_SinkSettings):
    """A broker: QoS 1, persistent client, last will."""

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(min_length=1, description="Name or address of the broker.")
    port: int | None = Field(None, ge=1, le=65535, description="Unset: 1883, with TLS 8883.")
    tls: bool = Field(False, description="Encrypt, and check the broker's certificate.")
    ca: Path | None = Field(None, description="Certificates to check the broker by; unset: the system's.")
    certificate: Path | None = Field(None, description="This client's certificate, PEM.")
    key: Path | None = Field(None, description="This client's private key, PEM.")
    user: str | None = Field(None, description="User name.")
    password: SecretStr | None = Field(None, description="Password; better in a file or the environment.")
    password_file: Path | None = Field(None, description="File with the password.")
    password_env: str | None = Field(None, description="Environment variable with the password.")
    prefix: str = Field("edgead", description="First part of every topic.")
    device: str | None = Field(None, min_length=1, description="Second part of every topic; unset: the spool's id.")
    client_id: str | None = Field(None, min_length=1, description="Unset: edgead- and the spool's id.")
    discovery: str | None = Field(
        None,
        min_length=1,
        description="Announce every zone to Home Assistant under this prefix, usually homeassistant.",
    )
    keepalive_s: int = Field(30, ge=5, le=3600, description="The broker sends the last will after 1.5 times that.")
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest wait for the broker, in seconds.")

    @field_validator("prefix", "discovery")
    @classmethod
    def _is_topic(cls, value: str | None) -> str | None:
        if value is not None and (re.search(r"[+#\0]", value) or value.startswith(("$", "/")) or not value.strip("/")):
            raise ValueError("must be a topic without +, #, and a leading $ or /")
        return value

    @model_validator(mode="after")
    def _fits(self) -> MqttSettings:
        _one_of("the password", {k: getattr(self, k) for k in ("password", "password_file", "password_env")})
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.tls and (self.ca or self.certificate):
            raise ValueError("ca, certificate and key need tls: true")
        if self.user is None and (self.password or self.password_file or self.password_env):
            raise ValueError("a password needs a user")
        return self

    @property
    def resolved_port(self) -> int:
        return self.port or (8883 if self.tls else 1883)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.resolved_port}"


class WebhookSettings(_SinkSettings):
    """An HTTP receiver: one signed POST per event."""

    kind: Literal["webhook"] = "webhook"
    url: SecretStr = Field(description="http:// or https://; shown without user, password, path and query.")
    secret: SecretStr | None = Field(None, description="Key of the signature; better in a file or the environment.")
    secret_file: Path | None = Field(None, description="File with the key of the signature.")
    secret_env: str | None = Field(None, description="Environment variable with the key of the signature.")
    headers: dict[str, SecretStr] = Field({}, description="Further headers, such as Authorization.")
    ca: Path | None = Field(None, description="Certificates to check the receiver by; unset: the system's.")
    snapshot: bool = Field(False, description="Send the snapshot with an alert that opens, as Base64 in the JSON.")
    connect_timeout_s: float = Field(5.0, gt=0, le=600, description="Longest wait for the connection, in seconds.")
    read_timeout_s: float = Field(15.0, gt=0, le=600, description="Longest wait for the answer, in seconds.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        try:
            parts = urlsplit(text)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or re.search(r"[\x00-\x20\x7f]", text):
            raise ValueError("must be a http:// or https:// URL without spaces")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, text in value.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ValueError(f"{name!r} is no name of a header")
            if not re.fullmatch(r"[\x20-\x7e]*", text.get_secret_value()):
                raise ValueError(f"the value of the header {name} must be printable ASCII")
        return value

    @model_validator(mode="after")
    def _fits(self) -> WebhookSettings:
        _one_of("the secret", {k: getattr(self, k) for k in ("secret", "secret_file", "secret_env")})
        return self

    @property
    def address(self) -> str:
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


class JsonlSettings(_SinkSettings):
    """A file with one JSON object per line."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(description="The file; its folder is made.")
    max_mb: float = Field(100.0, gt=0, le=1e6, description="A larger file becomes FILE.1, that one FILE.2 and so on.")
    keep: int = Field(5, ge=0, le=1000, description="Old files kept.")

    @property
    def address(self) -> str:
        return str(self.path)


class CommandSettings(_SinkSettings):
    """A program that is run for every event, with its JSON on standard input."""

    kind: Literal["command"] = "command"
    argv: tuple[str, ...] = Field(min_length=1, description="Program and arguments; no shell.")
    timeout_s: float = Field(30.0, gt=0, le=86400, description="Longest run; then it and its children are killed.")

    @field_validator("argv")
    @classmethod
    def _can_be_run(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or any("\0" in word for word in value):
            raise ValueError("must begin with a program and hold no NUL")
        return value

    @property
    def address(self) -> str:
        return Path(self.argv[0]).name


SinkSettings = Annotated[MqttSettings | WebhookSettings | JsonlSettings | CommandSettings, Field(discriminator="kind")]


def sink_from_url(url: str) -> SinkSettings:
    """The sink that a URL on the command line names.

    - `mqtt://[USER@]HOST[:PORT][/PREFIX][?discovery=homeassistant]`; `mqtts://` with TLS, `?ca=FILE`. The password is
      taken from the environment: `EDGEAD_MQTT_PASSWORD`.
    - `http://…`, `https://…`: a webhook, signed when there is `EDGEAD_WEBHOOK_SECRET` in the environment.
    - `file:NAME.jsonl`

    Raises:
        ConfigError: If it names none, or holds what a sink does not take.
    """
    scheme = url.partition(":")[0].lower()
    try:
        if scheme in ("mqtt", "mqtts"):
            return _mqtt_from_url(url, scheme == "mqtts")
        if scheme in ("http", "https"):
            secret_env = WEBHOOK_SECRET if os.environ.get(WEBHOOK_SECRET) else None
            return WebhookSettings(url=SecretStr(url), secret_env=secret_env)
        if scheme == "file" and url.endswith(".jsonl"):
            return JsonlSettings(path=Path(unquote(url.partition(":")[2].removeprefix("//"))))
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"The {scheme} sink cannot be used: {what}.") from None
    except ValueError as error:
        raise ConfigError(f"The {scheme} sink cannot be used: {error}.") from None
    raise ConfigError(
        f"A sink cannot be a {scheme!r} address; allowed: mqtt://, mqtts://, http://, https://, file:NAME.jsonl.",
        hint="For example mqtt://broker.local or file:alerts.jsonl; a command needs the configuration file.",
    )


def _mqtt_from_url(url: str, tls: bool) -> MqttSettings:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port must be a number from 1 to 65535") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - {"ca", "discovery"}
    if unknown:
        raise ValueError(f"the address takes ca and discovery (got {', '.join(sorted(unknown))})")
    user = unquote(parts.username) if parts.username else None
    from_env = MQTT_PASSWORD if user and not parts.password and os.environ.get(MQTT_PASSWORD) else None
    values: dict[str, Any] = {
        "host": parts.hostname or "", "port": port, "tls": tls, "user": user, "password_env": from_env,
        "password": SecretStr(unquote(parts.password)) if parts.password else None, **options,
    }  # fmt: skip
    if prefix := unquote(parts.path).strip("/"):
        values["prefix"] = prefix
    return MqttSettings(**values)


def secret_of(what: str, value: SecretStr | None, file: Path | None, variable: str | None) -> str | None:
    """Read a secret from where it is; None where there is none.

    Raises:
        ConfigError: If the file or the variable is not there, or empty.
    """
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The {what} cannot be read from {file}: {error}.") from error
        source = str(file)
    elif variable is not None:
        text, source = os.environ.get(variable, ""), f"the environment variable {variable}"
    else:
        return None if value is None else value.get_secret_value()
    if not text:
        raise ConfigError(f"The {what} is empty: {source} holds nothing.")
    return text
