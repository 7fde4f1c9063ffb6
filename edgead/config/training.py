"""Settings of data, training and engine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgead.config import defaults
from edgead.config.section import Section


class DataConfig(Section):
    """What to learn from."""

    root: Path = Field(Path(defaults.DATA_ROOT), description="Folder of good images, or a data set in a known layout.")
    early_stop_fraction: float = Field(
        0.08, gt=0, lt=0.5, description="Share of the good images that decides when to stop."
    )
    threshold_fraction: float = Field(
        0.12, gt=0, lt=0.5, description="Share of the good images kept for the threshold."
    )


class TrainConfig(Section):
    """How the flows are fitted."""

    epochs: int = Field(defaults.EPOCHS, ge=0, le=10000, description="Most passes over the good images.")
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
    seed: int = Field(defaults.SEED, ge=0, le=2**31 - 1, description="Of every random choice.")
    device: str = Field(defaults.DEVICE, description="auto, cpu, cuda, cuda:N or mps.")
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
