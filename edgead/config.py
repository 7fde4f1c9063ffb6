"""Every setting, with its default, range and meaning: the only place where a default value stands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

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
        0.12, gt=0, lt=0.5, description="Share of the good images kept for the threshold."
    )


PRESETS: dict[str, dict[str, Any]] = {
    "usf": {},
    # Yu et al., 2021, with the 3-1 kernels of the WideResNet row; no per-position layer, one stride per level
    "fastflow": {
        "coupling": "affine",
        "mix": "permutation",
        "levels": ("8", "16", "32"),
        "level_weights": (1.0, 1.0, 1.0),
        "positions": False,
        "blocks": 8,
        "kernels": ((3, 3), (1, 1)),
        "hidden_ratio": 0.5,
        "couplings": "always",
    },
}


class ModelConfig(_Section):
    """Which detector; `name` picks the defaults of the other keys."""

    name: Literal["usf", "fastflow"] = Field(
        "usf", description="usf: FastFlow with the uniform coupling and a per-position start; fastflow: as published."
    )
    coupling: Literal["uniform", "affine"] = Field("uniform", description="Coupling of the flow's blocks.")
    mix: Literal["rotation", "permutation", "lu"] = Field(
        "rotation", description="How channels are mixed between couplings."
    )
    backbone: str = Field("tf_efficientnet_lite0", description="Any timm model that offers feature maps.")
    weights: str | None = Field(
        None,
        description="lite0 (packaged), timm (hub) or a .safetensors file; unset: lite0 for its backbone, else timm.",
    )
    image_size: int = Field(320, ge=64, le=2048, multiple_of=32, description="Side of the square input, in pixels.")
    levels: tuple[str, ...] = Field(
        ("16+32:64",), min_length=1, description="Feature levels: STRIDE[:CHANNELS], joined by + to share one grid."
    )
    level_weights: tuple[float, ...] = Field((1.0,), description="Weight of each level's standardised map.")
    positions: bool = Field(True, description="Start with one linear map per position, fitted in closed form.")
    blocks: int = Field(2, ge=0, le=64, description="Couplings per level.")
    couplings: Literal["auto", "always"] = Field(
        "auto", description="auto drops trained couplings that do not help to find pseudo-defects; always keeps them."
    )
    kernels: tuple[tuple[int, int], ...] = Field(
        ((5, 1),),
        min_length=1,
        description="Kernel sizes of each subnet's two convolutions, repeated along the blocks.",
    )
    hidden_ratio: float = Field(0.75, gt=0, le=8, description="Hidden width of a subnet per channel of its level.")
    top_fraction: float = Field(0.02, gt=0, le=1, description="Share of the map that the image score averages over.")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, dict):
            name = values.get("name", "usf")
            return {**(PRESETS.get(name, {}) if isinstance(name, str) else {}), **values}
        return values

    @model_validator(mode="after")
    def _lists_agree(self) -> ModelConfig:
        if len(self.level_weights) != len(self.levels):
            raise ValueError(
                f"level_weights needs one number per level (got {len(self.level_weights)} for {len(self.levels)} levels)"
            )
        if not all(0 < weight < math.inf for weight in self.level_weights):
            raise ValueError(f"level_weights must be above 0 and finite (got {list(self.level_weights)})")
        if any(size not in (1, 3, 5) for pair in self.kernels for size in pair):
            raise ValueError(f"kernels may be 1, 3 or 5 (got {list(self.kernels)})")
        return self


class TrainConfig(_Section):
    """How the flows are fitted."""

    epochs: int = Field(6, ge=0, le=10000, description="Most passes over the good images.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images per step.")
    learning_rate: float = Field(
        2e-3, gt=0, le=1, description="Largest step of AdamW, after a tenth of the steps; cosine to 1 %."
    )
    noise: float = Field(1.0, ge=0, le=10, description="Deviation of the noise on whitened features while training.")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="Of AdamW, on the subnets' weights.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    patience: int = Field(5, ge=1, description="Epochs without a better held-out NLL before stopping.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of every random choice.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    ridge: float = Field(0.001, gt=0, le=1, description="Added to each covariance, as a share of the mean variance.")
    shrinkage: tuple[float, ...] = Field(
        (0.0, 0.05, 0.2, 0.8),
        min_length=1,
        description="Shares of the all-position covariance to try per position; pseudo-defects decide.",
    )
    pseudo_defects: int = Field(2, ge=1, le=20, description="Pseudo-defective copies of each early-stopping image.")
    cache_memory_mb: int = Field(1200, ge=0, description="Features above this size go to disk.")
    min_images: int = Field(20, ge=10, description="Good images needed to train.")
    false_alarm_rate: float = Field(0.005, gt=0, lt=0.5, description="Promised share of good images that alarm.")
    calibration_images: int = Field(64, ge=1, le=4096, description="Good images stored for INT8 calibration.")
    reference_images: int = Field(8, ge=1, le=256, description="Images stored with their reference maps.")


class EngineConfig(_Section):
    """How the model runs on this machine."""

    threads: int = Field(
        0, ge=0, le=256, description="CPU threads of ONNX Runtime; 0 = one per core that this process may use."
    )


class StreamConfig(_Section):
    """How frames are taken and shown."""

    queue_size: int = Field(4, ge=1, le=1000, description="Frames that a file source may read ahead.")
    record_fps: float = Field(25.0, gt=0, le=240, description="Frame rate of --record when the source has none.")
    folder_fps: float = Field(
        2.0, gt=0, le=240, description="Pictures of a folder per second, in a recording and in the times of alerts."
    )
    opacity: float = Field(0.6, ge=0, le=1, description="How strongly the heatmap covers the picture.")
    open_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for a source's first frame, in seconds."
    )
    read_timeout_s: float = Field(
        5.0, gt=0, le=600, description="Longest wait for a live source's next frame, in seconds."
    )
    max_restarts: int = Field(10, ge=0, le=1000, description="Reconnections to a live source per restart window.")
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
        0.0, ge=0, le=86400, description="Pause after an alert before the next may open, in seconds; it hides defects."
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
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
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
    # a section whose keys are all commented out is read as None
    return {key: {} if value is None and key in Config.model_fields else value for key, value in content.items()}


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key} cannot be set: {section} is not a section.")
    values[name] = value


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
