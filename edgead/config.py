"""Every setting, with its default, range and meaning: the only place where a default value stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgead.errors import ConfigError

DEFAULT_CONFIG = Path("edgead.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """What to learn from."""

    root: Path = Field(Path("data"), description="Folder of good images, or a data set in a known layout.")
    early_stop_fraction: float = Field(
        0.08, gt=0, lt=0.5, description="Share of the good images that decides when to stop."
    )
    calibration_fraction: float = Field(
        0.2, gt=0, lt=0.5, description="Share of the good images kept for the threshold."
    )


class EngineConfig(_Section):
    """How the model runs on this machine."""

    threads: int = Field(0, ge=0, le=256, description="CPU threads of ONNX Runtime; 0 = one per physical core.")


class StreamConfig(_Section):
    """How frames are taken and shown."""

    queue_size: int = Field(4, ge=1, le=1000, description="Frames that a file source may read ahead.")
    record_fps: float = Field(25.0, gt=0, le=240, description="Frame rate of --record when the source has none.")
    opacity: float = Field(0.6, ge=0, le=1, description="How strongly the heatmap covers the picture.")
    open_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for a source's first frame, in seconds."
    )
    read_timeout_s: float = Field(
        5.0, gt=0, le=600, description="Longest wait for a live source's next frame, in seconds."
    )
    max_restarts: int = Field(5, ge=0, le=1000, description="Reconnections to a live source per restart window.")
    restart_window_s: float = Field(300.0, gt=0, description="Length of the restart window, in seconds.")


class AlertConfig(_Section):
    """When a run of anomalous frames becomes an alert."""

    open_frames: int = Field(
        3, ge=1, le=10000, description="Anomalous frames needed to open an alert (N of the last M)."
    )
    window_frames: int = Field(5, ge=1, le=10000, description="Frames looked back on (M).")
    close_frames: int = Field(
        5, ge=1, le=10000, description="Frames in a row below the closing level that end an alert."
    )
    close_ratio: float = Field(
        0.9, gt=0, le=1, description="Closing level as a share of the way from the median good score to the threshold."
    )
    cooldown_s: float = Field(
        2.0, ge=0, le=86400, description="Pause after an alert before the next may open, in seconds."
    )

    @model_validator(mode="after")
    def _window_holds_open(self) -> AlertConfig:
        if self.open_frames > self.window_frames:
            raise ValueError(
                f"open_frames must not exceed window_frames (got {self.open_frames} > {self.window_frames})"
            )
        return self


class Config(_Section):
    """The whole configuration of one run."""

    data: DataConfig = DataConfig()
    engine: EngineConfig = EngineConfig()
    stream: StreamConfig = StreamConfig()
    alerts: AlertConfig = AlertConfig()


def load_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """Read a YAML file, apply overrides and validate.

    Args:
        path: The file; None reads `./edgead.yaml` when it is there and else takes the defaults.
        overrides: Value per dotted key, for example `{"train.epochs": 20}`; stronger than the file.

    Raises:
        ConfigError: Listing every unknown key and every value out of range.
    """
    if path is None and DEFAULT_CONFIG.is_file():
        path = DEFAULT_CONFIG
    values = _read_yaml(path) if path is not None else {}
    for key, value in overrides.items():
        _set_dotted(values, key, value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        where = str(path) if path is not None else "the options"
        lines = [f"{_dotted(item['loc'])}: {item['msg']} (got {item['input']!r})" for item in error.errors()]
        raise ConfigError(
            f"{len(lines)} setting(s) in {where} cannot be used:\n  " + "\n  ".join(lines),
            hint="`edgead config` lists every key with its meaning, range and default.",
        ) from error


def parse_override(text: str) -> tuple[str, Any]:
    """Split `section.key=value`; the value is read as YAML.

    Raises:
        ConfigError: If there is no `=` or no dotted key.
    """
    key, separator, value = text.partition("=")
    if not separator or "." not in key:
        raise ConfigError(f"--set takes section.key=value, got {text!r}.", hint="For example: --set train.epochs=20")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of --set {key} is not valid YAML: {value!r}.", hint="Quote it.") from error


def describe_config() -> list[tuple[str, str, str]]:
    """Dotted key, default and meaning of every setting, in order."""
    rows = []
    for section_name, section in Config.model_fields.items():
        for name, field in section.default.__class__.model_fields.items():
            rows.append((f"{section_name}.{name}", str(field.default), field.description or ""))
    return rows


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections with keys, got a {type(content).__name__}.")
    return content


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key} cannot be set: {section} is not a section.")
    values[name] = value


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
