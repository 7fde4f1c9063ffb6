"""Schema of `bundle.json` and of the records in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import edgead
from edgead.heatmap import HeatmapScale

SCHEMA_VERSION = 2
POOLED = "all"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocessing(_Record):
    """Conversion of a frame to the graph's input; the code is in `imaging.py`."""

    image_size: tuple[int, int] = Field(description="Input (height, width) in pixels.")
    white_level: int = Field(description="16-bit value that becomes 255; ignored for 8-bit images.")
    colour: Literal["RGB"] = "RGB"
    resize: Literal["area-or-bilinear"] = "area-or-bilinear"


class GraphIO(_Record):
    """Names of the graph's inputs and outputs, and the map size."""

    image: str = "image"
    class_bias: str | None = None
    anomaly_map: str = "anomaly_map"
    pred_score: str = "pred_score"
    map_size: tuple[int, int]


class ThresholdRecord(_Record):
    """Threshold with its promised false-alarm rate; made by `evaluation/threshold.py`."""

    value: float
    false_alarm_rate: float
    certified: bool = Field(description="True: split-conformal bound; false: extrapolated by a tail fit.")
    interval: tuple[float, float] | None = Field(description="95 % interval of an extrapolated value.")
    n_images: int


class ClassThresholds(_Record):
    """Thresholds of one class, with the scores of held-out good images behind them.

    `scores` and `map_maxima` (the largest map value of each image) are kept so that the rate can be changed without
    the images.
    """

    scores: tuple[float, ...]
    map_maxima: tuple[float, ...]
    threshold: ThresholdRecord
    pixel_threshold: ThresholdRecord
    heatmap_low: float
    heatmap_high: float

    @property
    def heatmap_scale(self) -> HeatmapScale:
        return HeatmapScale(self.heatmap_low, self.pixel_threshold.value, self.heatmap_high)


class LevelNorm(_Record):
    """Graph output `(N, h, w)`: the mean square of a level's latent over its channels.

    It is standardised in the graph: over good images, every position has the mean and deviation of a standard normal
    latent, 1 and sqrt(2 / channels). `good_mean` is its mean over held-out good images.
    """

    output: str
    channels: int
    size: tuple[int, int]
    good_mean: float


class NfaThreshold(_Record):
    """Limit on the number of false detections for one class, from held-out good images.

    `smallest` (the smallest log10 number of false detections on each held-out good image) is kept so that the rate can
    be changed without the images.
    """

    smallest: tuple[float, ...]
    log_epsilon: ThresholdRecord = Field(description="The rate is the share of good images with any marked region.")


class NfaRecord(_Record):
    """Segmentation by number of false detections; made and used by `evaluation/segmentation.py`."""

    rule: Literal["published", "complete"] = Field(description="Rule that decides which of nested regions is kept.")
    levels: tuple[LevelNorm, ...]
    thresholds: dict[str, NfaThreshold] = Field(description="Per class, and `all` for an unknown class.")


class Parity(_Record):
    """Largest relative difference of anomaly maps between two forms of the model, on the reference images."""

    folded_vs_unfolded: float
    onnx_vs_unfolded: float
    n_images: int
    verdict_flips: int


class Cost(_Record):
    """Cost of the exported graph: multiply-adds per image and number of weights."""

    multiply_adds: int
    flow_multiply_adds_unfolded: int
    flow_multiply_adds_folded: int
    parameters: int


class Provenance(_Record):
    """Origin of the bundle: time, data, seed, versions, settings and training metrics."""

    created_at: str
    data_root: str
    data_digest: str
    n_images: dict[str, int]
    seed: int
    versions: dict[str, str]
    config: dict[str, Any]
    metrics: dict[str, float]


class Manifest(_Record):
    """Content of `bundle.json`."""

    schema_version: int = SCHEMA_VERSION
    edgead_version: str = edgead.__version__
    model: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    graph: GraphIO
    thresholds: dict[str, ClassThresholds] = Field(description="Per class, and `all` for an unknown class.")
    nfa: NfaRecord | None = Field(
        None, description="Segmentation by number of false detections; none: by the pixel threshold."
    )
    parity: Parity
    cost: Cost
    provenance: Provenance
    sha256: dict[str, str] = Field(description="Digest of every other file of the bundle, by relative path.")
