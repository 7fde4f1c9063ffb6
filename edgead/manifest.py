"""Schema of `bundle.json` and of the records in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from typing_extensions import Self

import edgead
from edgead.heatmap import HeatmapScale
from edgead.imaging import Decoding, Reading, ResizeRule
from edgead.pose import AlignmentRule
from edgead.views import TileGrid, Views

SCHEMA_VERSION = 3
POOLED = "all"
# Good images that a threshold needs, at least.
MIN_IMAGES = 5

Pixels = Annotated[int, Field(ge=1, le=16384)]
Count = Annotated[int, Field(ge=0)]
# Standardised norms have the mean 1 over good images; beyond these factors a record is damaged, not unusual.
GoodMean = Annotated[float, Field(gt=0.01, lt=100.0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # Keys that bundles of before do not have.
    OMITTED_IF_EMPTY: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        return {key: value for key, value in values.items() if key not in self.OMITTED_IF_EMPTY or value}


class Preprocessing(_Record):
    """Conversion of a frame to the graph's input; the code is in `imaging.py` and `data/decoding.py`.

    Defaults are the rules of bundles until schema 2; `current` gives those of a new bundle.
    """

    OMITTED_IF_EMPTY = frozenset({"views", "alignment"})

    image_size: tuple[Pixels, Pixels] = Field(description="Input (height, width) in pixels.")
    white_level: int | float = Field(
        gt=0, lt=2**32, description="Value that becomes 255 in images of more than 8 bits; ignored for 8-bit images."
    )
    float_white_level: float | None = Field(
        None,
        gt=0,
        lt=2**32,
        description="The same for images of floats; none: the training images had none, see `imaging.py`.",
    )
    colour: Literal["RGB"] = "RGB"
    resize: ResizeRule = Field("area-or-bilinear", description="Rule of `imaging.resize`.")
    decoding: Decoding = Field(
        "as-stored", description="`upright`: every image is turned by its EXIF orientation, and alpha is ignored."
    )
    alignment: AlignmentRule | None = Field(
        None,
        description="Alignment of frames to the reference picture in `alignment.npz`, before crop and tiles; none: as they are.",
    )
    views: Views | None = Field(
        None, description="Crop and tiles of a frame; none: the whole frame is squeezed to the input size."
    )

    @staticmethod
    def current(
        image_size: tuple[int, int],
        white_level: float = 255,
        float_white_level: float | None = None,
        views: Views | None = None,
        alignment: AlignmentRule | None = None,
    ) -> Preprocessing:
        """Rules for a bundle that is made now."""
        return Preprocessing(
            image_size=image_size, white_level=white_level, float_white_level=float_white_level,
            resize="area-then-bilinear", decoding="upright", views=views, alignment=alignment,
        )  # fmt: skip

    @property
    def grid(self) -> TileGrid | None:
        """Tiles of a frame; None without crop and tiles."""
        return None if self.views is None else TileGrid(self.views, self.image_size, self.resize)

    @property
    def reading(self) -> Reading:
        """Keyword arguments of `read_image`."""
        return {
            "white_level": self.white_level,
            "float_white_level": self.float_white_level,
            "decoding": self.decoding,
        }


class GraphIO(_Record):
    """Names of the graph's inputs and outputs, and the map size."""

    OMITTED_IF_EMPTY = frozenset({"top_positions"})

    image: str = "image"
    class_bias: str | None = None
    anomaly_map: str = "anomaly_map"
    pred_score: str = "pred_score"
    map_size: tuple[Pixels, Pixels]
    top_positions: int | None = Field(
        None,
        ge=1,
        description="Number of map values that the score of an image, or of a tile, averages over; none: 2 % of its map.",
    )


class ThresholdRecord(_Record):
    """Threshold with its promised false-alarm rate; made by `evaluation/threshold.py`."""

    OMITTED_IF_EMPTY = frozenset({"confidence"})

    value: float
    false_alarm_rate: float = Field(ge=0.0, le=1.0)
    certified: bool = Field(description="True: split-conformal bound; false: extrapolated by a tail fit.")
    interval: tuple[float, float] | None = Field(description="95 % interval of an extrapolated value.")
    n_images: Count
    confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1.0,
        description="Probability, over the choice of held-out images, that this threshold keeps its rate; none: the rate is "
        "kept on average over such choices.",
    )

    @model_validator(mode="after")
    def _interval_is_ordered(self) -> Self:
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"the interval {self.interval} must be ordered")
        return self

    def problem(self, scores: Collection[float]) -> str:
        """Contradiction between the record and the scores of good images that it was made from; empty if there is none.

        Checks what needs no fit of the tail; `evaluation/stored_thresholds.py` computes the whole record again.
        """
        n = len(scores)
        if n < MIN_IMAGES or self.n_images != n:
            return f"it states {self.n_images} images beside {n} scores; at least {MIN_IMAGES} are needed"
        if not 0.0 < self.false_alarm_rate < 1.0:
            return f"its false-alarm rate {self.false_alarm_rate:g} must be between 0 and 1"
        if self.certified:
            return "" if self.value in scores else f"it is certified, but {self.value:g} is none of its scores"
        if self.interval is None:
            return "it is extrapolated, but has no interval"
        return (
            "" if self.value >= max(scores) else f"it is extrapolated to {self.value:g}, below a score of a good image"
        )


class ClassThresholds(_Record):
    """Thresholds of one class, with the scores of held-out good images behind them.

    `scores` and `map_maxima` (the largest map value of each image) are kept so that the rate can be changed without
    the images.
    """

    scores: tuple[float, ...] = Field(repr=False)
    map_maxima: tuple[float, ...] = Field(repr=False)
    threshold: ThresholdRecord
    pixel_threshold: ThresholdRecord
    heatmap_low: float
    heatmap_high: float

    @model_validator(mode="after")
    def _fits_its_scores(self) -> Self:
        for name, record, scores in (
            ("threshold", self.threshold, self.scores),
            ("pixel_threshold", self.pixel_threshold, self.map_maxima),
        ):
            if problem := record.problem(scores):
                raise ValueError(f"{name}: {problem}")
        if not self.heatmap_low < self.pixel_threshold.value < self.heatmap_high:
            raise ValueError(
                f"the heatmap's scale {self.heatmap_low:g} to {self.heatmap_high:g} must contain the pixel threshold "
                f"{self.pixel_threshold.value:g}"
            )
        return self

    @property
    def heatmap_scale(self) -> HeatmapScale:
        return HeatmapScale(self.heatmap_low, self.pixel_threshold.value, self.heatmap_high)


class LevelNorm(_Record):
    """Graph output `(N, h, w)`: the mean square of a level's latent over its channels.

    It is standardised in the graph: over good images, every position has the mean and deviation of a standard normal
    latent, 1 and sqrt(2 / channels). `good_mean` is its mean over held-out good images.
    """

    output: str
    channels: int = Field(ge=1)
    size: tuple[Pixels, Pixels]
    good_mean: GoodMean


class NfaThreshold(_Record):
    """Limit on the number of false detections for one class, from held-out good images.

    `smallest` (the smallest log10 number of false detections on each held-out good image) is kept so that the rate can
    be changed without the images.
    """

    smallest: tuple[float, ...]
    log_epsilon: ThresholdRecord = Field(description="The rate is the share of good images with any marked region.")

    @model_validator(mode="after")
    def _fits_its_images(self) -> Self:
        # fewer false detections are more anomalous: the sign makes the values scores
        record = self.log_epsilon.model_copy(update={"value": -self.log_epsilon.value})
        if problem := record.problem([-value for value in self.smallest]):
            raise ValueError(f"log_epsilon: {problem}")
        return self


class NfaRecord(_Record):
    """Segmentation by number of false detections; made and used by `evaluation/segmentation.py`."""

    rule: Literal["published", "complete"] = Field(description="Rule that decides which of nested regions is kept.")
    levels: tuple[LevelNorm, ...] = Field(min_length=1)
    thresholds: dict[str, NfaThreshold] = Field(description="Per class, and `all` for an unknown class.")


class MaskRule(_Record):
    """Rule that marks the regions of anomalous images; made by training, used by `evaluation/marking.py`.

    Levels are shares of the way from the map value of an ordinary position (`heatmap_low`) to the threshold of the image
    score, so that they move with it.
    """

    extent: float = Field(gt=0.0, le=1.0, description="Level above which a position belongs to a region.")
    seed: float = Field(gt=0.0, le=16.0, description="Level that a region must exceed somewhere.")
    closing: int = Field(1, ge=1, le=15, description="Side in positions of the square that closes gaps; 1: none.")
    min_area: int = Field(1, ge=1, le=1024, description="Positions that a region needs.")

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> Self:
        if self.seed < self.extent:
            raise ValueError(f"seed {self.seed:g} is below extent {self.extent:g}")
        if self.closing % 2 == 0:
            raise ValueError(f"closing {self.closing} must be odd")
        return self


class Parity(_Record):
    """Largest relative difference of anomaly maps between two forms of the model, on the reference images.

    `scores` and `peaks`, the largest relative difference of scores and the largest of maps relative to their peaks, are
    what the limit is for; 0 in bundles until schema 2, whose limit was for the other two.
    """

    folded_vs_unfolded: float = Field(ge=0.0)
    onnx_vs_unfolded: float = Field(ge=0.0)
    n_images: Count
    verdict_flips: Count
    scores: float = Field(0.0, ge=0.0)
    peaks: float = Field(0.0, ge=0.0)


class Cost(_Record):
    """Cost of the exported graph: multiply-adds per image and number of weights."""

    multiply_adds: Count
    flow_multiply_adds_unfolded: Count
    flow_multiply_adds_folded: Count
    parameters: Count


class TaughtRecord(_Record):
    """Origin of a bundle that was made by `edgead teach`: base bundle, machine, version, and how many pictures it left out."""

    base_digest: str
    base_created_at: str
    host: str
    version: int = Field(ge=1)
    left_out: dict[str, int]


class LearnedRecord(_Record):
    """Picture of a false alarm that `edgead learn` taught the model: its digest, alert, score before, and who judged it when."""

    digest: str
    alert: str
    score: float
    positions: Count = Field(description="Positions of the map where it differs.")
    judged_by: str
    learned_at: str
    warning: str = ""


class Provenance(_Record):
    """Origin of the bundle: time, data, seed, versions, settings and training metrics.

    `image_digests` are the first 16 hexadecimal digits of the SHA-256 of each image file that training used, for
    whatever purpose; empty in bundles until schema 2. `dataset_snapshot` is the digest of the snapshot that it was trained on
    (`edgead train --from-dataset`), or empty. `known_digests` are those of known defects, which nothing was fitted to, but which helped
    to choose the form.
    """

    OMITTED_IF_EMPTY = frozenset({"taught", "learned", "dataset_snapshot", "known_digests"})

    created_at: str
    data_root: str
    data_digest: str
    n_images: dict[str, int]
    seed: int
    versions: dict[str, str]
    config: dict[str, Any]
    metrics: dict[str, float]
    image_digests: tuple[str, ...] = ()
    dataset_snapshot: str = ""
    known_digests: tuple[str, ...] = ()
    taught: TaughtRecord | None = Field(None, description="How it was taught; none: a training made it.")
    learned: tuple[LearnedRecord, ...] = Field((), description="False alarms learned since, oldest first.")


class Manifest(_Record):
    """Content of `bundle.json`."""

    OMITTED_IF_EMPTY = frozenset({"class_mask_rules"})

    schema_version: int = SCHEMA_VERSION
    edgead_version: str = edgead.__version__
    model: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    graph: GraphIO
    thresholds: dict[str, ClassThresholds] = Field(description="Per class, and `all` for an unknown class.")
    nfa: NfaRecord | None = Field(
        None, description="Segmentation by number of false detections; none: by `mask_rule` or the pixel threshold."
    )
    mask_rule: MaskRule | None = Field(
        None, description="Rule that marks regions; none, as in bundles of before: the map above the pixel threshold."
    )
    class_mask_rules: dict[str, MaskRule] = Field(
        default_factory=dict,
        description="Rules of classes, in place of `mask_rule` where the class is given or the graph tells it; none for a single "
        "class and in bundles of before.",
    )
    parity: Parity
    cost: Cost
    provenance: Provenance
    sha256: dict[str, str] = Field(
        description="Digest of every file of the bundle, by relative path; that of `bundle.json` itself is missing in older "
        "bundles."
    )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must be distinct and at least one, got {list(self.classes)}")
        parts = {"thresholds": set(self.thresholds)}
        if self.nfa is not None:
            parts["nfa.thresholds"] = set(self.nfa.thresholds)
        for name, found in parts.items():
            if found != {POOLED, *self.classes}:
                expected = ", ".join((POOLED, *self.classes))
                raise ValueError(f"{name} must be of {expected}, got {', '.join(sorted(found))}")
        if any(
            map_side > side for map_side, side in zip(self.graph.map_size, self.preprocessing.image_size, strict=True)
        ):
            raise ValueError(f"graph.map_size {self.graph.map_size} is larger than the image")
        if self.preprocessing.views is not None and self.nfa is not None:
            raise ValueError("crop and tiles have no segmentation by number of false detections")
        if self.mask_rule is not None and self.nfa is not None:
            raise ValueError("a bundle has a mask rule or a segmentation by number of false detections, not both")
        if self.class_mask_rules and (self.mask_rule is None or not set(self.class_mask_rules) <= set(self.classes)):
            names = ", ".join(sorted(self.class_mask_rules))
            raise ValueError(f"class_mask_rules, beside mask_rule, must be of {', '.join(self.classes)}, got {names}")
        return self
