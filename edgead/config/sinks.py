"""Settings of the sinks that alerts are delivered to, one model per kind; sinks from URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from typing_extensions import Self

from edgead.errors import ConfigError
from edgead.redaction import ESCAPES, address_problem, remember_secrets

MQTT_PASSWORD = "EDGEAD_MQTT_PASSWORD"
WEBHOOK_SECRET = "EDGEAD_WEBHOOK_SECRET"


class _SinkSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    kind: str = Field(description="Kind of sink.")
    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name under which the delivery position is stored; unset: kind and address.",
    )
    start: Literal["now", "beginning"] = Field(
        "now",
        alias="from",
        description="First event of a new sink: from now on, or from the beginning of the stored history.",
    )
    retry_max_s: float = Field(60.0, gt=0, le=86400, description="Maximum back-off between two attempts, in seconds.")
    give_up_s: float = Field(
        600.0,
        ge=0,
        le=30 * 86400,
        description="Time after which an event that the receiver permanently rejects is set aside, in seconds; never before 3 attempts.",
    )

    @model_validator(mode="after")
    def _remember_secrets(self) -> Self:
        for _, value in self:
            for secret in value.values() if isinstance(value, dict) else [value]:
                if isinstance(secret, SecretStr):
                    remember_secrets(secret.get_secret_value())
        return self

    @property
    def address(self) -> str:
        """Destination, without secrets."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """Name under which the delivery position is stored."""
        return self.name or f"{self.kind}:{self.address}"


class CustomSettings(_SinkSettings):
    """Delivery settings of a sink from a program's own code; a settings file cannot name one."""

    kind: Literal["custom"] = "custom"


def _one_of(what: str, values: dict[str, Any]) -> None:
    given = [key for key, value in values.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{what} must be given once (got {' and '.join(given)})")


class MqttSettings(_SinkSettings):
    """MQTT broker: QoS 1, persistent session, last will."""

    kind: Literal["mqtt"] = Field("mqtt", description="Kind of sink: mqtt.")
    host: str = Field(min_length=1, description="Host name or address of the broker.")
    port: int | None = Field(None, ge=1, le=65535, description="Port of the broker; unset: 1883, with TLS 8883.")
    tls: bool = Field(False, description="Encrypt the connection and verify the broker's certificate.")
    ca: Path | None = Field(None, description="CA certificates for verifying the broker; unset: the system's.")
    certificate: Path | None = Field(None, description="Client certificate, PEM; requires the key.")
    key: Path | None = Field(None, description="Client private key, PEM; requires the certificate.")
    user: str | None = Field(None, description="User name at the broker.")
    password: SecretStr | None = Field(None, description="Password at the broker; a file or the environment is safer.")
    password_file: Path | None = Field(None, description="File that contains the password.")
    password_env: str | None = Field(None, description="Environment variable that contains the password.")
    prefix: str = Field("edgead", description="First part of every topic.")
    device: str | None = Field(None, min_length=1, description="Second part of every topic; unset: the spool's id.")
    client_id: str | None = Field(None, min_length=1, description="MQTT client id; unset: edgead- and the spool's id.")
    discovery: str | None = Field(
        None,
        min_length=1,
        description="Home Assistant discovery prefix, usually homeassistant; unset: zones are not announced.",
    )
    commands: bool | None = Field(
        None, description="Accept acknowledgements by MQTT; unset: if Home Assistant discovery is set."
    )
    score_s: float = Field(
        5.0,
        gt=0,
        le=86400,
        description="Interval of the scores for Home Assistant, in seconds; unchanged ones are left out.",
    )
    keepalive_s: int = Field(
        30,
        ge=5,
        le=3600,
        description="MQTT keep-alive, in seconds; the broker sends the last will after 1.5 times this.",
    )
    timeout_s: float = Field(10.0, gt=0, le=600, description="Timeout for the broker, in seconds.")

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        # it is shown in messages, and may be an address with a password by mistake
        if re.search(r"[\x00-\x20\x7f/@?#\\]", value):
            raise ValueError("must be a host name or an IP address; port, user and password have keys of their own")
        return value

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
    def takes_commands(self) -> bool:
        """Whether the sink acknowledges alerts on request."""
        return self.discovery is not None if self.commands is None else self.commands

    @property
    def resolved_port(self) -> int:
        return self.port or (8883 if self.tls else 1883)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.resolved_port}"


class WebhookSettings(_SinkSettings):
    """HTTP receiver: one signed POST per event."""

    kind: Literal["webhook"] = Field("webhook", description="Kind of sink: webhook.")
    url: SecretStr = Field(
        description="URL of the receiver, http:// or https://; shown without user, password, path and query."
    )
    secret: SecretStr | None = Field(None, description="Signing key; a file or the environment is safer.")
    secret_file: Path | None = Field(None, description="File that contains the signing key.")
    secret_env: str | None = Field(None, description="Environment variable that contains the signing key.")
    headers: dict[str, SecretStr] = Field({}, description="Additional request headers, such as Authorization.")
    ca: Path | None = Field(None, description="CA certificates for verifying the receiver; unset: the system's.")
    snapshot: bool = Field(False, description="Include the snapshot in the JSON of an opening alert, as Base64.")
    connect_timeout_s: float = Field(5.0, gt=0, le=600, description="Timeout for the connection, in seconds.")
    read_timeout_s: float = Field(15.0, gt=0, le=600, description="Timeout for the response, in seconds.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text.partition("://")[0].lower() not in ("http", "https") or re.search(r"[\x00-\x20\x7f]", text):
            raise ValueError("must be a http:// or https:// URL without spaces")
        problem = address_problem(text)
        if problem is not None or urlsplit(text).port == 0:
            raise ValueError(f"must be a http:// or https:// URL; {problem or 'its port is 0'}. {ESCAPES}")
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
    """File with one JSON object per line."""

    kind: Literal["jsonl"] = Field("jsonl", description="Kind of sink: jsonl.")
    path: Path = Field(description="Path of the file; its folder is created.")
    max_mb: float = Field(
        100.0,
        gt=0,
        le=1e6,
        description="Size at which the file is rotated to FILE.1, that one to FILE.2 and so on, in MB.",
    )
    keep: int = Field(5, ge=0, le=1000, description="Number of rotated files to keep.")

    @property
    def address(self) -> str:
        return str(self.path)


class CommandSettings(_SinkSettings):
    """Program that is run for every event, with its JSON on standard input."""

    kind: Literal["command"] = Field("command", description="Kind of sink: command.")
    argv: tuple[str, ...] = Field(min_length=1, description="Program and arguments, run without a shell.")
    environment: tuple[str, ...] = Field(
        (),
        description="Names of environment variables that the program gets too; without it, it gets those of user, paths, "
        "language and time zone alone.",
    )
    timeout_s: float = Field(
        30.0, gt=0, le=86400, description="Timeout of a run, in seconds; the program and its children are then killed."
    )

    @field_validator("argv")
    @classmethod
    def _can_be_run(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or any("\0" in word for word in value):
            raise ValueError("must begin with a program and contain no NUL")
        return value

    @property
    def address(self) -> str:
        return Path(self.argv[0]).name


SinkSettings = Annotated[MqttSettings | WebhookSettings | JsonlSettings | CommandSettings, Field(discriminator="kind")]


def sink_from_url(url: str) -> SinkSettings:
    """Sink from a URL on the command line.

    - `mqtt://[USER@]HOST[:PORT][/PREFIX][?discovery=homeassistant]`; `mqtts://` with TLS, `?ca=FILE`. The password is
      taken from the environment: `EDGEAD_MQTT_PASSWORD`.
    - `http://…`, `https://…`: a webhook, signed if `EDGEAD_WEBHOOK_SECRET` is set in the environment.
    - `file:NAME.jsonl`

    Raises:
        ConfigError: If it names no sink, or has options that the sink does not take.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in ("mqtt", "mqtts", "http", "https") and (problem := address_problem(url)):
        raise ConfigError(f"The {scheme} sink cannot be used: {problem}.", hint=ESCAPES)
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
    # what stands before the colon of an address without a scheme may be a user
    begins = f" that begins with {scheme}:" if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", url) else ""
    raise ConfigError(
        f"--sink got an address{begins}, which names no sink; allowed: mqtt://, mqtts://, http://, https://, file:NAME.jsonl.",
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
    """Read a secret from a value, a file or the environment; None where there is none.

    Raises:
        ConfigError: If the file or variable is missing or empty.
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
        hint = (
            f"Set it before the start (`export {variable}=…`); for a service write `{variable}=…` to the file of "
            "`edgead service --environment-file`."
            if file is None
            else f"Write it to {file}, in a single line."
        )
        raise ConfigError(f"The {what} is empty: {source} holds nothing.", hint=hint)
    remember_secrets(text)
    return text
