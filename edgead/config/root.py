"""Every setting, with its default, range and meaning; what a detector's name changes stands in `presets.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from edgead.config.stream import (
    AlertConfig,
    CameraConfig,
    ClipConfig,
    Section,
    SpoolConfig,
    StreamConfig,
    WebConfig,
    ZoneConfig,
    check_unique,
)
from edgead.config.presets import MIXES, PRESETS, TRAIN_PRESETS
from edgead.config.sinks import SinkSettings


class DataConfig(Section):
    """What to learn from."""

    root: Path = Field(Path("data"), description="Folder of good images, or a data set in a known layout.")
    early_stop_fraction: float = Field(
        0.08, gt=0, lt=0.5, description="Share of the good images that decides when to stop."
    )
    calibration_fraction: float = Field(
        0.12, gt=0, lt=0.5, description="Share of the good images kept for the threshold."
    )


class ModelConfig(Section):
    """Which detector; `name` picks the defaults of the other keys."""

    name: Literal["usf", "fastflow", "cflow", "uflow", "hgad", "vae-usf"] = Field(
        "usf",
        description="usf (FastFlow, uniform coupling, per-position start), fastflow, cflow, uflow, hgad or vae-usf.",
    )
    coupling: Literal["uniform", "affine"] | None = Field(
        None, description="Coupling of the flow's blocks; unset: uniform for usf and vae-usf, affine for the others."
    )
    mix: Literal["rotation", "permutation", "soft_permutation", "lu"] | None = Field(
        None, description="How channels are mixed between couplings; unset: as published, lu for uniform couplings."
    )
    base: Literal["normal", "altub"] = Field(
        "normal", description="Base distribution: standard normal, or a learnable Gaussian trained alternately (AltUB)."
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
    pyramid: tuple[int, ...] = Field(
        (), description="Image sizes at which every level is seen, in pixels; empty: image_size alone."
    )
    level_weights: tuple[float, ...] = Field((), description="Weight of each level's standardised map; empty: all 1.")
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
    hidden_ratio: float = Field(1.5, gt=0, le=16, description="Hidden width of a subnet per channel of its input.")
    clamp: float = Field(2.0, gt=0, le=10, description="Largest log scale of an affine coupling.")
    position_channels: int = Field(
        0, ge=0, le=1024, multiple_of=4, description="Channels of the position code that couplings see; 0: none."
    )
    likelihood_map: bool = Field(False, description="Count each position's log-determinant in the map (affine only).")
    loss: Literal["nll", "log_sigmoid"] = Field("nll", description="Training objective of the flow.")
    top_fraction: float = Field(0.02, gt=0, le=1, description="Share of the map that the image score averages over.")
    segmentation: Literal["threshold", "nfa"] = Field(
        "threshold",
        description="Marked positions: map above the pixel threshold, or regions by their number of false detections.",
    )
    components: int = Field(10, ge=1, le=100, description="hgad: Gaussians per class.")
    score: Literal["product", "likelihood"] = Field(
        "product", description="hgad: likelihood map times entropy map, or the likelihood map alone."
    )
    latent_size: int = Field(256, ge=2, le=4096, description="vae-usf: dimensions of the latent.")
    decoded_size: int = Field(
        64, ge=16, le=512, multiple_of=16, description="vae-usf: side of the reconstructed picture, in pixels."
    )
    vae_score: Literal["both", "reconstruction", "latent"] = Field(
        "both", description="vae-usf: an image's score: the likelihood of picture and latent, or of one of them."
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", "usf")
        if not isinstance(name, str):
            return values
        preset = dict(PRESETS.get(name, {}))
        if values.get("coupling") is None:
            preset["coupling"] = "uniform" if name in ("usf", "vae-usf") else "affine"
            values = {key: value for key, value in values.items() if key != "coupling"}
        coupling = values.get("coupling", preset.get("coupling"))
        if values.get("mix") is None:
            preset["mix"] = "rotation" if name == "usf" else "lu" if coupling == "uniform" else MIXES.get(name, "lu")
            values = {key: value for key, value in values.items() if key != "mix"}
        if "pyramid" in preset and "image_size" in values and isinstance(values["image_size"], int):
            size = values["image_size"]
            preset["pyramid"] = tuple(size // (320 // part) for part in preset["pyramid"])
        return {**preset, **values}

    @model_validator(mode="after")
    def _lists_agree(self) -> ModelConfig:
        count = self.n_levels
        if self.level_weights and len(self.level_weights) != count:
            raise ValueError(
                f"level_weights needs one number per level (got {len(self.level_weights)} for {count} levels)"
            )
        if not all(0 < weight < math.inf for weight in self.level_weights):
            raise ValueError(f"level_weights must be above 0 and finite (got {list(self.level_weights)})")
        if any(size not in (1, 3, 5) for pair in self.kernels for size in pair):
            raise ValueError(f"kernels may be 1, 3 or 5 (got {list(self.kernels)})")
        if any(size < 32 or self.image_size % size for size in self.pyramid):
            raise ValueError(
                f"pyramid sizes must divide image_size {self.image_size} and be 32 or more (got {list(self.pyramid)})"
            )
        if self.position_channels and any(size != 1 for pair in self.kernels for size in pair):
            raise ValueError(f"position_channels needs kernels of 1 (got {list(self.kernels)})")
        return self

    @model_validator(mode="after")
    def _nfa_needs_norms(self) -> ModelConfig:
        if self.segmentation != "nfa":
            return self
        why = ""
        if self.name in ("hgad", "vae-usf"):
            why = f"a score made of the norms of standard normal latents, which {self.name} has not"
        elif self.likelihood_map and self.coupling == "affine":
            why = "a score without log-determinants: set coupling=uniform or likelihood_map=false"
        if why:
            raise ValueError(f"segmentation=nfa needs {why}")
        return self

    @model_validator(mode="after")
    def _vae_is_whole(self) -> ModelConfig:
        if self.name != "vae-usf":
            return self
        if self.n_levels != 1:
            raise ValueError(
                f"vae-usf has one encoder: join its features in one level, as in 16+32 (got {self.levels})"
            )
        if self.image_size % self.decoded_size:
            raise ValueError(f"decoded_size must divide image_size {self.image_size} (got {self.decoded_size})")
        unused = {
            "positions": self.positions,
            "couplings=auto": self.couplings == "auto",
            "position_channels": self.position_channels,
            "level_weights": self.level_weights,
            "loss=log_sigmoid": self.loss != "nll",
        }
        self._refuse(unused)
        return self

    @model_validator(mode="after")
    def _hgad_has_its_own_parts(self) -> ModelConfig:
        if self.name != "hgad":
            return self
        unused = {
            "base=altub (its centres are learnt)": self.base != "normal",
            "couplings=auto": self.couplings == "auto",
            "level_weights": self.level_weights,
            "loss=log_sigmoid (it is a part of its own)": self.loss != "nll",
        }
        self._refuse(unused)
        return self

    def _refuse(self, unused: dict[str, object]) -> None:
        """Say which of the settings that this detector does not read were given."""
        wrong = [key for key, given in unused.items() if given]
        if wrong:
            raise ValueError(f"{self.name} has no use for {', '.join(wrong)}")

    @property
    def n_levels(self) -> int:
        """Number of scales: every level at every size of the pyramid."""
        return len(self.levels) * max(1, len(self.pyramid))


class TrainConfig(Section):
    """How the flows are fitted."""

    epochs: int = Field(6, ge=0, le=10000, description="Most passes over the good images.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images per step.")
    fibers: int = Field(
        0, ge=0, le=2**20, description="Feature vectors per step of flows without spatial context; 0: whole maps."
    )
    learning_rate: float = Field(
        2e-3, gt=0, le=1, description="Largest step of AdamW, after a tenth of the steps; cosine to 1 %."
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate along the training.")
    noise: float = Field(1.0, ge=0, le=10, description="Deviation of the noise on whitened features while training.")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="Of AdamW, on the subnets' weights.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    patience: int = Field(5, ge=1, description="Epochs without a better held-out loss before stopping (keep=best).")
    keep: Literal["best", "last"] = Field(
        "best", description="The epoch with the best held-out loss, or the last one, never stopping early."
    )
    altub_interval: int = Field(
        5, ge=2, description="Every so many steps only the base distribution is updated (AltUB)."
    )
    altub_learning_rate: float = Field(0.05, gt=0, le=1, description="Step of Adam on the base distribution (AltUB).")
    altub_warm_up: float = Field(
        0.1, ge=0, lt=1, description="Share of the training before the first step on the base alone (AltUB)."
    )
    inter_class_fraction: float = Field(
        0.08, ge=0, le=1, description="hgad: share of the epochs that learn the class centres alone."
    )
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
    cache_dir: Path | None = Field(
        None, description="Folder of features that several runs share; unset: each run keeps its own while it trains."
    )
    min_images: int = Field(20, ge=10, description="Good images needed to train.")
    false_alarm_rate: float = Field(0.005, gt=0, lt=0.5, description="Promised share of good images that alarm.")
    calibration_images: int = Field(64, ge=1, le=4096, description="Good images stored for INT8 calibration.")
    held_out_images: int = Field(
        200, ge=0, le=4096, description="Held-out good images stored, for the thresholds of FP16 and INT8 engines."
    )
    reference_images: int = Field(8, ge=1, le=256, description="Images stored with their reference maps.")


class EngineConfig(Section):
    """How the model runs on this machine."""

    threads: int = Field(
        0, ge=0, le=256, description="CPU threads of ONNX Runtime; 0 = one per core that this process may use."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto = what the engine was built for, or the CPU where ONNX Runtime cannot use the GPU; cpu; cuda = no "
        "engine of the CPU.",
    )


class Config(Section):
    """The whole configuration of one run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    engine: EngineConfig = EngineConfig()
    stream: StreamConfig = StreamConfig()
    alerts: AlertConfig = AlertConfig()
    spool: SpoolConfig = SpoolConfig()
    clips: ClipConfig = ClipConfig()
    web: WebConfig = WebConfig()
    sinks: tuple[SinkSettings, ...] = Field((), description="Where events are delivered to.")
    cameras: tuple[CameraConfig, ...] = Field((), description="Cameras of a stream that has several, or zones.")

    @model_validator(mode="before")
    @classmethod
    def _apply_train_preset(cls, values: Any) -> Any:
        model = values.get("model", {}) if isinstance(values, dict) else {}
        name = model.name if isinstance(model, ModelConfig) else model.get("name") if isinstance(model, dict) else None
        train = values.get("train", {}) if isinstance(values, dict) else None
        if isinstance(train, dict) and isinstance(name, str):
            return {**values, "train": {**TRAIN_PRESETS.get(name, {}), **train}}
        return values

    @model_validator(mode="after")
    def _cameras_are_whole(self) -> Config:
        check_unique(self.cameras)
        for camera in self.cameras:
            self.stream_of(camera)
            self.alerts_of(camera)
            for zone in camera.zones:
                self.alerts_of(camera, zone)
        return self

    def stream_of(self, camera: CameraConfig) -> StreamConfig:
        """The stream's settings with what the camera changes."""
        return StreamConfig.model_validate({**self.stream.model_dump(), **camera.stream})

    def alerts_of(self, camera: CameraConfig, zone: ZoneConfig | None = None) -> AlertConfig:
        """The alert settings with what the camera and then the zone change."""
        changes = {**camera.alerts, **(zone.alerts if zone else {})}
        return AlertConfig.model_validate({**self.alerts.model_dump(), **changes})

    @model_validator(mode="after")
    def _vae_sees_whole_pictures(self) -> Config:
        if self.model.name == "vae-usf" and self.train.fibers:
            raise ValueError(f"vae-usf learns from whole pictures: train.fibers must be 0 (got {self.train.fibers})")
        return self
