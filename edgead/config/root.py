"""Root of the configuration; the defaults that depend on the detector are in `families.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from edgead.config import defaults
from edgead.config.families import FAMILIES
from edgead.config.model import ModelConfig
from edgead.config.models import ModelHealthConfig, ShadowConfig
from edgead.config.section import Section
from edgead.config.sinks import SinkSettings
from edgead.config.stream import (
    AlertConfig,
    CameraConfig,
    ClipConfig,
    SpoolConfig,
    StreamConfig,
    WebConfig,
    ZoneConfig,
    check_unique,
)
from edgead.config.training import PRESET_SIZES, DataConfig, EngineConfig, TrainConfig


@dataclass(frozen=True)
class Origin:
    """Where settings come from; settings are equal wherever they come from.

    Attributes:
        file: File that they were read from; None = no file.
        overrides: Value per dotted key that was given beside it.
    """

    file: Path | None = field(default=None, compare=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, compare=False)


class Config(Section):
    """Configuration of a run."""

    _origin: Origin = PrivateAttr(default_factory=lambda: Origin())

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    engine: EngineConfig = EngineConfig()
    stream: StreamConfig = StreamConfig()
    alerts: AlertConfig = AlertConfig()
    spool: SpoolConfig = SpoolConfig()
    clips: ClipConfig = ClipConfig()
    web: WebConfig = WebConfig()
    shadow: ShadowConfig = ShadowConfig()
    model_health: ModelHealthConfig = ModelHealthConfig()
    sinks: tuple[SinkSettings, ...] = Field((), description="Sinks that events are delivered to.")
    cameras: tuple[CameraConfig, ...] = Field(
        (), description="Cameras of a stream, where it has several cameras or zones."
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_train_preset(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = _with_choices(values)
        model = values.get("model", {}) if isinstance(values, dict) else {}
        name = model.name if isinstance(model, ModelConfig) else model.get("name") if isinstance(model, dict) else None
        train = values.get("train", {}) if isinstance(values, dict) else None
        if isinstance(train, dict) and isinstance(name, str):
            preset = FAMILIES[name].train if name in FAMILIES else {}
            return {**values, "train": {**preset, **train}}
        return values

    @model_validator(mode="after")
    def _cameras_are_valid(self) -> Config:
        check_unique(self.cameras)
        for camera in self.cameras:
            self.stream_of(camera)
            self.alerts_of(camera)
            for zone in camera.zones:
                self.alerts_of(camera, zone)
        return self

    @property
    def origin(self) -> Origin:
        """Where the settings come from."""
        return self._origin

    def stream_of(self, camera: CameraConfig) -> StreamConfig:
        """Stream settings, with those that the camera overrides."""
        return StreamConfig.model_validate({**self.stream.model_dump(), **camera.stream})

    def alerts_of(self, camera: CameraConfig, zone: ZoneConfig | None = None) -> AlertConfig:
        """Alert settings, with those that the camera and then the zone override."""
        changes = {**camera.alerts, **(zone.alerts if zone else {})}
        return AlertConfig.model_validate({**self.alerts.model_dump(), **changes})

    @model_validator(mode="after")
    def _autoencoder_sees_whole_images(self) -> Config:
        if self.model.family.is_autoencoder and self.train.fibers:
            raise ValueError(
                f"{self.model.name} learns from whole images: train.fibers must be 0 (got {self.train.fibers})"
            )
        return self

    @model_validator(mode="after")
    def _only_closed_forms_choose(self) -> Config:
        chosen = [key for key in ("preset", "backbones") if getattr(self.train, key) not in (defaults.PRESET, None, ())]
        if chosen and (self.model.couplings != "never" or self.model.start is not None):
            raise ValueError(
                f"train.{chosen[0]} chooses between closed forms of usf, and {self.model.name} with these settings is none: leave it "
                f"out, or set model.image_size and model.backbone (got {getattr(self.train, chosen[0])!r})"
            )
        return self

    @model_validator(mode="after")
    def _views_have_one_map(self) -> Config:
        data, model = self.data, self.model
        if (data.crop or data.tiles != "1x1" or data.keep_aspect) and model.segmentation == "nfa":
            raise ValueError("data.crop, data.tiles and data.keep_aspect need model.segmentation=threshold (got nfa)")
        if (data.crop or data.tiles != "1x1" or data.keep_aspect) and model.start == "closed-form":
            raise ValueError("data.crop, data.tiles and data.keep_aspect need model.start=published (got closed-form)")
        return self


def _with_choices(values: dict[str, Any]) -> dict[str, Any]:
    """Settings where a value that is given is not chosen by the training, and trained parts ask for a training."""
    model, train = values.get("model", {}), values.get("train", {})
    if not isinstance(model, dict) or not isinstance(train, dict):
        return values
    model, train = dict(model), dict(train)
    if "epochs" in train and model.get("name", defaults.MODEL) == defaults.MODEL:
        model.setdefault("couplings", "auto")
    if "epochs" in train and model.get("name") == "hgad":
        model.setdefault("start", "published")
    if "top_fraction" in model:
        train.setdefault("top_fractions", ())
    if "image_size" not in model and train.get("preset") in PRESET_SIZES:
        sizes = PRESET_SIZES[train["preset"]]
        model["image_size"] = sizes[0]
        train.setdefault("larger_sizes", sizes[1:])
    if "backbone" in model and "preset" in train:
        train.setdefault("backbones", ())
    if "image_size" in model:
        train.setdefault("larger_sizes", ())
    if model.get("centres"):
        train.setdefault("forms", ("centres",))
    elif "positions" in model or model.get("centres") == 0:
        train.setdefault("forms", ("positions",))
    return {**values, "model": model, "train": train}
