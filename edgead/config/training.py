"""Settings of data, training and engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from edgead.config import defaults
from edgead.config.section import Section

# Inputs and further backbones; those of `balanced` are the defaults of the settings.
PRESET_SIZES = {"fast": (224, 320), "accurate": (320, 448, 640)}
PRESET_BACKBONES = {"accurate": ("tf_efficientnet_lite2",)}


class DataConfig(Section):
    """Training data."""

    root: Path = Field(Path(defaults.DATA_ROOT), description="Folder of good images, or a data set in a known layout.")
    good: tuple[Path, ...] = Field((), description="Folders of good images, in place of those recognised in data.root.")
    bad: tuple[Path, ...] = Field((), description="Folders of defective images, in place of those recognised.")
    masks: tuple[Path, ...] = Field(
        (), description="Folders of masks or annotations of the images in data.good and data.bad."
    )
    exclude: tuple[str, ...] = Field(
        (), description="Good images to leave out, by name or pattern such as batch7/*.png, relative to the data set."
    )
    known_defects: tuple[Path, ...] = Field(
        (),
        description="Folders of pictures with known defects, with a folder for each kind and masks in ground_truth: five or more help "
        "to choose the form of the model, never its thresholds.",
    )
    judged_defects: bool = Field(
        False,
        description="Use the pictures judged defect of a data set (--from-dataset) as known defects; false: they are its test images.",
    )
    white_level: float | None = Field(
        None,
        gt=0,
        description="Value that becomes white in images of more than 8 bits; unset: found from the good images.",
    )
    crop: tuple[float, ...] = Field(
        (),
        description="Part of every frame to judge: x, y, width, height of a box, or the corners x, y, x, y, ... of a polygon; as "
        "shares of the frame from 0 to 1, or in pixels of the training images. Empty: the whole frame.",
    )
    tiles: str = Field(
        "1x1",
        pattern=r"^(native|[1-9][0-9]?x[1-9][0-9]?)$",
        description="Tiles that each frame is cut into, columns x rows, such as 3x2; each is judged at the full input size. "
        "native: as few as keep the frame's own scale.",
    )
    overlap: float = Field(0.1, ge=0, le=0.5, description="Overlap of neighbouring tiles, as a share of a tile's side.")
    keep_aspect: bool = Field(
        False, description="Scale both sides of a frame or tile alike and pad it, instead of stretching it to a square."
    )
    align: Literal["off", "auto", "on"] = Field(
        "off",
        description="Alignment of every frame to a reference picture made of good images, for parts that do not lie still: on; "
        "auto: where good images then resemble each other clearly more.",
    )
    align_angle: float = Field(
        20.0, ge=0, le=180, description="Largest rotation of a part either way against the reference, in degrees."
    )
    align_shift: float = Field(
        0.1, ge=0, le=0.25, description="Largest shift of a part either way, as a share of the frame's sides."
    )
    align_scale: float = Field(
        0.08, ge=0, le=0.3, description="Largest change of a part's size either way, as a share."
    )
    early_stop_fraction: float = Field(
        0.08, gt=0, lt=0.5, description="Share of the good images used to decide when training stops."
    )
    threshold_fraction: float = Field(
        0.12, gt=0, lt=0.5, description="Share of the good images held out for the thresholds, with trained couplings."
    )
    group_pattern: str | None = Field(
        None,
        description="Regular expression on paths below the data folder: good images with the same match, or first group of it, "
        "show one part and are left out together (model.couplings=never).",
    )

    @field_validator("crop")
    @classmethod
    def _crop_is_an_area(cls, crop: tuple[float, ...]) -> tuple[float, ...]:
        if crop and (len(crop) < 4 or len(crop) % 2):
            raise ValueError(
                f"a crop is 4 numbers x, y, width, height, or 3 corners x, y or more; got {len(crop)} numbers"
            )
        if not all(0 <= value < math.inf for value in crop):
            raise ValueError("the numbers of a crop must be 0 or more")
        sides = crop[2:] if len(crop) == 4 else [max(axis) - min(axis) for axis in (crop[::2], crop[1::2]) if axis]
        if not all(side > 0 for side in sides):
            raise ValueError("a crop must have a width and a height above 0")
        if len(crop) == 4 and max(crop) <= 1 and max(crop[0] + crop[2], crop[1] + crop[3]) > 1 + 1e-9:
            raise ValueError("a crop in shares of the frame must end at 1 at most: x + width and y + height")
        return crop

    @field_validator("tiles")
    @classmethod
    def _tiles_are_few(cls, tiles: str) -> str:
        if tiles != "native" and math.prod(map(int, tiles.split("x"))) > 256:
            raise ValueError(f"a frame may have 256 tiles at most, got {tiles}")
        return tiles


class TrainConfig(Section):
    """Training of the flows."""

    epochs: int = Field(defaults.EPOCHS, ge=0, le=10000, description="Maximum number of passes over the good images.")
    batch_size: int = Field(16, ge=1, le=4096, description="Number of images per training step.")
    fibers: int = Field(
        0, ge=0, le=2**20, description="Feature vectors per step, for flows without spatial context; 0: whole maps."
    )
    learning_rate: float = Field(
        2e-3,
        gt=0,
        le=1,
        description="Peak AdamW learning rate, after a warm-up of a tenth of the steps; the cosine schedule ends at 1 % of it.",
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning-rate schedule after the warm-up.")
    noise: float = Field(
        1.0, ge=0, le=10, description="Standard deviation of the noise added to whitened features while training."
    )
    weight_decay: float = Field(1e-2, ge=0, le=10, description="AdamW weight decay, subnet weights only.")
    gradient_clip: float = Field(1.0, gt=0, description="Maximum norm of the gradient; larger ones are scaled down.")
    patience: int = Field(
        5, ge=1, description="Number of epochs without a better held-out loss before training stops (keep=best)."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Epoch to keep: best by held-out loss, or the last one without early stopping."
    )
    altub_interval: int = Field(
        5, ge=2, description="Number of steps between updates of the base distribution alone (AltUB)."
    )
    altub_learning_rate: float = Field(
        0.05, gt=0, le=1, description="Adam learning rate of the base distribution (AltUB)."
    )
    altub_warm_up: float = Field(
        0.1, ge=0, lt=1, description="Share of the training before the first update of the base alone (AltUB)."
    )
    inter_class_fraction: float = Field(
        0.08, ge=0, le=1, description="hgad: share of the epochs that train the class centres alone."
    )
    seed: int = Field(defaults.SEED, ge=0, le=2**31 - 1, description="Random seed of the whole run.")
    device: str = Field(defaults.DEVICE, description="Training device: auto, cpu, cuda, cuda:N or mps.")
    ridge: float = Field(
        0.001, gt=0, le=1, description="Ridge added to each covariance, as a share of the mean variance."
    )
    shrinkage: tuple[float, ...] = Field(
        (0.0, 0.05, 0.2, 0.8),
        min_length=1,
        description="Candidate weights of the all-position covariance in each position's own; pseudo-defects decide between them.",
    )
    pseudo_defects: int = Field(
        2,
        ge=1,
        le=20,
        description="Number of pseudo-defective copies of each early-stopping image, or of each image of a closed form.",
    )
    pseudo_limit: int = Field(
        250, ge=10, le=10000, description="Largest number of pseudo-defective copies that choose a closed form."
    )
    variation: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Weight of good images changed in light, noise and compression in a closed form, so that such changes raise "
        "fewer alarms; null: 1 or 0.3, the larger one that costs hardly any pseudo-defects, 0: none.",
    )
    variation_limit: int = Field(
        250, ge=1, le=10000, description="Largest number of good images that are changed in this way."
    )
    preset: Literal["fast", "balanced", "accurate"] = Field(
        defaults.PRESET,
        description="Inputs and backbones that a closed form of usf tries, unless they are set: fast 224 and 320 px, balanced 320 and "
        "640 px, accurate 320, 448 and 640 px with lite2 besides the default backbone.",
    )
    backbones: tuple[str, ...] | None = Field(
        None,
        description="Backbones that a closed form of usf tries besides model.backbone, at every size; unset: those of the preset.",
    )
    larger_sizes: tuple[int, ...] = Field(
        (640,),
        description="Input sizes in pixels that a closed form tries besides model.image_size, where the images have the "
        "pixels; none if model.image_size is set.",
    )
    forms: tuple[Literal["positions", "centres"], ...] = Field(
        ("positions", "centres"),
        min_length=1,
        description="Closed forms to try: one Gaussian per position, or centres of features that are whitened alike.",
    )
    centres: int = Field(2048, ge=2, le=65536, description="Number of centres to try.")
    centre_ridge: float = Field(
        0.01, gt=0, le=1, description="Ridge of the covariance behind the centres, as a share of the mean variance."
    )
    top_fractions: tuple[float, ...] = Field(
        (0.0025, 0.005, 0.01, 0.02, 0.04),
        description="Shares of the map to try for the image score of a closed form; empty: model.top_fraction.",
    )
    leave_out_suspects: bool = Field(
        True,
        description="Leave out good images whose scores in a closed form lie so far beyond all others that they look defective; "
        "they are named and drawn.",
    )
    budget_ms: float | None = Field(
        None,
        gt=0,
        description="Longest time of the backbone for a larger input or another backbone, in milliseconds, on this machine or that of "
        "budget_bench; unset: any.",
    )
    budget_bench: tuple[Path, ...] = Field(
        (),
        description="Results of `edgead bench --json FILE` on the board: times of the backbone are then estimated for it from multiply-adds; "
        "empty: measured on this machine.",
    )
    cache_memory_mb: int = Field(
        1200, ge=0, description="Largest size of features kept in memory, in MB; larger ones go to disk."
    )
    cache_dir: Path | None = Field(
        None, description="Feature cache shared by several runs; unset: each run keeps its own while it trains."
    )
    class_memory_mb: float = Field(
        500,
        gt=0,
        description="hgad in closed form: largest size of all classes' weights in float32, in MB; beyond it the classes that lose least "
        "take centres in place of a Gaussian per position.",
    )
    class_cost: float = Field(
        1.5,
        gt=0,
        description="hgad in closed form: most multiply-adds per image of all classes together, in times of the backbone's, where each weight "
        "that is read counts as 30; beyond it the classes that lose least take fewer centres.",
    )
    add_to: Path | None = Field(
        None,
        description="Bundle of hgad in closed form whose model gets the classes of the new images; its other classes stay as they "
        "are. Unset: a new model.",
    )
    min_images: int = Field(20, ge=10, description="Minimum number of good images for training.")
    false_alarm_rate: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="False-alarm rate of the thresholds, as a share of good images; unset: 0.005, or for a closed form the "
        "smallest that the good images certify.",
    )
    confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="Probability with which the thresholds keep that rate, e.g. 0.95: they are higher, and need more held-out "
        "images to be certified. Unset: the rate is kept on average over trainings.",
    )
    calibration_images: int = Field(
        64, ge=1, le=4096, description="Number of good images stored in the bundle for INT8 calibration."
    )
    held_out_images: int = Field(
        200,
        ge=0,
        le=4096,
        description="Number of held-out good images stored in the bundle, for the thresholds of FP16 and INT8 engines.",
    )
    reference_images: int = Field(
        8, ge=1, le=256, description="Number of images stored in the bundle with their reference maps."
    )

    @property
    def other_backbones(self) -> tuple[str, ...]:
        """Backbones to try besides that of the model."""
        return PRESET_BACKBONES.get(self.preset, ()) if self.backbones is None else self.backbones

    @property
    def promised_rate(self) -> float:
        """False-alarm rate of the thresholds, where the images certify it."""
        return self.false_alarm_rate or defaults.FALSE_ALARM_RATE


class EngineConfig(Section):
    """Inference on this machine."""

    threads: int = Field(
        0, ge=0, le=256, description="Number of CPU threads of ONNX Runtime; 0: one per core available to this process."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Inference device: auto takes the one the engine was built for, or the CPU where ONNX Runtime "
        "cannot use the GPU; cuda refuses to run on the CPU.",
    )
