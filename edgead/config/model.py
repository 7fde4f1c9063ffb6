"""Settings of the detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from edgead.config import defaults
from edgead.config.families import FAMILIES, ModelFamily, names_text
from edgead.config.section import Section

CLOSED_FORM, PUBLISHED = "closed-form", "published"
_OF_COUPLINGS = (
    "coupling", "mix", "base", "blocks", "kernels", "hidden_ratio", "clamp", "position_channels", "likelihood_map", "loss",
)  # fmt: skip


def _known_name(value: Any) -> Any:
    if not isinstance(value, str) or value not in FAMILIES:
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": names_text("'")})
    return value


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


def _start(values: dict[str, Any]) -> str:
    """Start of a family that has two: settings of the published form ask for it."""
    of_published = (*_OF_COUPLINGS, "components", "score", "loss_terms", "pyramid")
    is_published = any(values.get(key) is not None for key in of_published) or values.get("couplings") not in (
        None, "never",
    )  # fmt: skip
    return PUBLISHED if is_published else CLOSED_FORM


def _asks_for_training(key: str, value: Any) -> bool:
    """Whether a setting makes sense for trained couplings alone."""
    if key == "segmentation":
        return bool(value == "nfa")
    return key in _OF_COUPLINGS and value is not None


class ModelConfig(Section):
    """Choice of detector; `name` decides the defaults of the other keys."""

    name: Annotated[str, BeforeValidator(_known_name)] = Field(
        defaults.MODEL,
        description=f"Detector; {'; '.join(f'{family.name} = {family.summary}' for family in FAMILIES.values())}.",
    )
    start: Literal["closed-form", "published"] | None = Field(
        None,
        description="hgad: closed-form fits one model per class without any training, published trains the flow and mixture of the "
        "paper; unset: closed-form, unless a setting of the published form is given.",
    )
    coupling: Literal["uniform", "affine"] | None = Field(
        None, description="Coupling of the flow's blocks; unset: uniform for usf and vae-usf, affine for the others."
    )
    mix: Literal["rotation", "permutation", "soft_permutation", "lu"] | None = Field(
        None, description="Channel mixing between couplings; unset: as published, lu for uniform couplings."
    )
    base: Literal["normal", "altub"] = Field(
        defaults.BASE,
        description="Base distribution: standard normal, or a learnable Gaussian trained alternately (AltUB).",
    )
    backbone: str = Field(defaults.BACKBONE, description="Name of any timm model that offers feature maps.")
    weights: str | None = Field(
        None,
        description="Backbone weights: lite0, lite1 or lite2 (packages), timm (hub) or a file (.safetensors, .pth, .bin); unset: the installed package, else timm.",
    )
    image_size: int = Field(
        defaults.IMAGE_SIZE,
        ge=64,
        le=2048,
        description="Side of the square input, in pixels; training takes the nearest multiple of the backbone's strides.",
    )
    levels: tuple[str, ...] = Field(
        ("16+32:64",),
        min_length=1,
        description="Feature levels: STRIDE[@BLOCK][:CHANNELS], joined by + to share one grid; a transformer has a default of its own.",
    )
    pyramid: tuple[int, ...] = Field(
        (), description="Image sizes at which every level is computed, in pixels; empty: image_size alone."
    )
    level_weights: tuple[float, ...] = Field((), description="Weight of each level's standardised map; empty: all 1.")
    positions: bool = Field(True, description="Begin with one linear map per position, fitted in closed form.")
    centres: int = Field(
        0,
        ge=0,
        le=65536,
        description="usf: number of centres of the features, whitened alike at all positions; 0: one Gaussian per position.",
    )
    class_forms: tuple[Literal["positions", "centres"], ...] = Field(
        (), description="hgad in closed form: form of each class, in the order of the classes; chosen by the training."
    )
    class_centres: tuple[int, ...] = Field(
        (),
        description="hgad in closed form: number of centres of each class; empty: centres; chosen by the training.",
    )
    class_fractions: tuple[float, ...] = Field(
        (),
        description="hgad in closed form: share of the map behind the image score of each class; chosen by the training.",
    )
    class_sizes: tuple[int, ...] = Field(
        (),
        description="hgad in closed form: side of each class's input in pixels, which divides image_size; empty: image_size; chosen by "
        "the training.",
    )
    class_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="hgad in closed form: share of a class's map, lowest values first, whose mean says how far the image is from the "
        "class; chosen by the training.",
    )
    composition: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        "",
        description="Closed form of one class: feature map (STRIDE[@BLOCK], such as 8) by which an image is also judged for how much it "
        "shows of each kind of thing, wherever that lies, so that missing, extra and swapped parts raise an alarm; empty: it is not.",
    )
    blocks: int = Field(2, ge=0, le=64, description="Number of couplings per level.")
    couplings: Literal["never", "auto", "always"] = Field(
        "auto",
        description="Trained couplings: never fits the model in closed form, auto drops them unless they help to find "
        "pseudo-defects, always keeps them.",
    )
    kernels: tuple[tuple[int, int], ...] = Field(
        ((5, 1),),
        min_length=1,
        description="Kernel sizes of each subnet's two convolutions, repeated along the blocks.",
    )
    hidden_ratio: float = Field(
        1.5, gt=0, le=16, description="Hidden width of a subnet, relative to its input channels."
    )
    clamp: float = Field(2.0, gt=0, le=10, description="Limit of an affine coupling's log scale.")
    position_channels: int = Field(
        0, ge=0, le=1024, multiple_of=4, description="Channels of the position code given to the couplings; 0: none."
    )
    likelihood_map: bool = Field(False, description="Include each position's log-determinant in the map (affine only).")
    loss: Literal["nll", "log_sigmoid"] = Field("nll", description="Training objective of the flow.")
    top_fraction: float = Field(
        0.02, gt=0, le=1, description="Share of the map, highest values first, that the image score averages over."
    )
    segmentation: Literal["threshold", "nfa"] = Field(
        "threshold",
        description="Marked positions: map values above the pixel threshold, or regions by their number of false alarms (NFA).",
    )
    components: int = Field(10, ge=1, le=100, description="hgad: number of Gaussians per class.")
    score: Literal["product", "likelihood"] = Field(
        "product", description="hgad: likelihood map times entropy map, or the likelihood map alone."
    )
    loss_terms: tuple[Literal["information", "entropy", "intra", "log_sigmoid"], ...] = Field(
        ("information", "entropy", "intra", "log_sigmoid"),
        description="hgad as published: terms of its loss besides the likelihood.",
    )
    latent_size: int = Field(256, ge=2, le=4096, description="vae-usf: number of dimensions of the latent.")
    decoded_size: int = Field(
        64, ge=16, le=512, multiple_of=16, description="vae-usf: side of the reconstructed image, in pixels."
    )
    vae_score: Literal["both", "reconstruction", "latent"] = Field(
        "both", description="vae-usf: image score from the likelihood of reconstruction and latent, or of one of them."
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", defaults.MODEL)
        family = FAMILIES.get(name) if isinstance(name, str) else None
        if family is None:
            return values
        of_start = family.model
        if family.closed_form is not None:
            values = {**values, "start": values.get("start") or _start(values)}
            of_start = family.closed_form if values["start"] == CLOSED_FORM else family.model
        preset = {"coupling": family.coupling, **of_start}
        if (
            family.closed_form is None
            and preset.get("couplings") == "never"
            and any(_asks_for_training(key, value) for key, value in values.items())
        ):
            preset["couplings"] = "auto"
        values = {key: value for key, value in values.items() if value is not None or key not in ("coupling", "mix")}
        coupling = values.get("coupling", preset["coupling"])
        preset["mix"] = family.mixes.get(coupling) if isinstance(coupling, str) else None
        if "pyramid" in preset and "image_size" in values and isinstance(values["image_size"], int):
            size = values["image_size"]
            preset["pyramid"] = tuple(size // (defaults.IMAGE_SIZE // part) for part in preset["pyramid"])
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
        if not self.family.has_norms:
            why = f"a score made of the norms of standard normal latents, which {self.name} does not have"
        elif self.likelihood_map and self.coupling == "affine":
            why = "a score without log-determinants: set coupling=uniform or likelihood_map=false"
        if why:
            raise ValueError(f"segmentation=nfa needs {why}")
        return self

    @model_validator(mode="after")
    def _start_agrees(self) -> ModelConfig:
        if self.family.closed_form is None:
            if self.start or self.class_forms or self.class_centres or self.class_fractions or self.class_sizes:
                raise ValueError(f"{self.name} has no choice of model.start or model.class_forms; hgad has")
            return self
        expected = "never" if self.start == CLOSED_FORM else "always"
        if self.couplings != expected:
            raise ValueError(
                f"{self.name} has no use for couplings={self.couplings} with start={self.start}: set {expected}"
            )
        for name in ("class_centres", "class_fractions", "class_sizes"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.class_forms):
                raise ValueError(f"{name} needs one number per class, as class_forms has one form")
        if not all(0 <= count <= 65536 for count in self.class_centres):
            raise ValueError(f"class_centres must be 0 to 65536 (got {list(self.class_centres)})")
        if any(size < 32 or self.image_size % size for size in self.class_sizes):
            raise ValueError(
                f"class_sizes must divide image_size {self.image_size} and be 32 or more (got {list(self.class_sizes)})"
            )
        if not all(0 < fraction <= 1 for fraction in self.class_fractions):
            raise ValueError(f"class_fractions must be above 0 and at most 1 (got {list(self.class_fractions)})")
        if self.start == PUBLISHED and (self.centres or self.class_forms or self.class_centres or self.class_sizes):
            raise ValueError("start=published has no use for centres or class_forms: set start=closed-form")
        return self

    @model_validator(mode="after")
    def _centres_stand_alone(self) -> ModelConfig:
        if self.centres and self.couplings != "never":
            raise ValueError(f"centres have no trained couplings: set couplings=never (got {self.couplings})")
        if self.segmentation == "nfa" and self.couplings == "never":
            raise ValueError("segmentation=nfa needs held-out images: set couplings=auto or always (got never)")
        return self

    @model_validator(mode="after")
    def _composition_is_in_closed_form(self) -> ModelConfig:
        if self.composition and (self.couplings != "never" or self.start is not None):
            raise ValueError(
                f"composition needs the closed form of one class: name=usf with couplings=never (got {self.name}, {self.couplings})"
            )
        return self

    @model_validator(mode="after")
    def _autoencoder_is_whole(self) -> ModelConfig:
        if not self.family.is_autoencoder:
            return self
        if self.n_levels != 1:
            raise ValueError(
                f"{self.name} has one encoder: join its features in one level, as in 16+32 (got {self.levels})"
            )
        if self.image_size % self.decoded_size:
            raise ValueError(f"decoded_size must divide image_size {self.image_size} (got {self.decoded_size})")
        return self

    @model_validator(mode="after")
    def _family_reads_every_setting(self) -> ModelConfig:
        wrong = [refused for refused in self.family.refused if refused.applies(getattr(self, refused.setting))]
        if wrong:
            raise ValueError(f"{self.name} has no use for {', '.join(map(str, wrong))}")
        return self

    @property
    def family(self) -> ModelFamily:
        """Description of the detector that `name` chooses."""
        return FAMILIES[self.name]

    @property
    def preset(self) -> Mapping[str, Any]:
        """Defaults of `model` settings for this detector and its start."""
        family = self.family
        return family.closed_form if family.closed_form is not None and self.start == CLOSED_FORM else family.model

    @property
    def n_levels(self) -> int:
        """Number of scales: every level at every size of the pyramid."""
        return len(self.levels) * max(1, len(self.pyramid))
