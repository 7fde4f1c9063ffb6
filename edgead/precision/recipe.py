"""INT8 calibration recipe, a YAML file for `build-engine --recipe FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgead.errors import ConfigError
from edgead.precision.ranges import RangeMethod
from edgead.safe_yaml import parse_yaml, read_yaml_text


class Recipe(BaseModel):
    """Settings of the INT8 calibration; `calibration/default.yaml` has the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: RangeMethod = Field("minmax", description="Method that chooses the range of an activation.")
    percentile: float = Field(99.99, gt=50, le=100, description="Percentage of values that `percentile` keeps.")
    images: int = Field(32, ge=4, le=4096, description="Maximum number of good images for the ranges.")
    equalise: Literal["none", "streams", "all"] = Field(
        "streams",
        description="Tensors whose channels are rescaled: residual streams only (exact), or also those before clips.",
    )
    margin: float = Field(
        2.0, ge=1, le=100, description="For `all`: factor over the largest value of good images before a clip cuts."
    )
    balance: float = Field(
        1.0, ge=0, le=1, description="1 makes the ranges of a tensor's channels equal, 0 keeps them."
    )
    centre: bool = Field(
        True,
        description="For TensorRT: centre clipped activations around 0, so that all integers are used.",
    )
    rounding: Literal["nearest", "second_order"] = Field(
        "second_order",
        description="Rounding of weights: to the nearest integers, or so that each layer's output changes least, if that changes "
        "the maps less.",
    )
    bias_correction: bool = Field(True, description="Correct each channel's bias by the mean error of rounding.")
    outlier: float | None = Field(
        None,
        ge=1,
        description="Layers with an error above this many medians stay in higher precision; unset: the value measured for "
        "the backend.",
    )
    min_coverage: float = Field(
        0.9, ge=0, le=1, description="Minimum share of multiply-adds in integers when outliers are left out."
    )
    keep_float: tuple[str, ...] = Field((), description="Patterns of the names of nodes that stay in higher precision.")


def read_recipe(path: Path | None) -> Recipe:
    """Read a recipe; without a path, the defaults.

    Raises:
        ConfigError: If the file cannot be read or does not follow the schema.
    """
    if path is None:
        return Recipe()
    text = read_yaml_text(path, str(path), kind="recipe", hint="`calibration/` in the repository has examples.")
    try:
        return Recipe.model_validate(parse_yaml(text, f"The recipe {path} cannot be read: it") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"The recipe {path} is wrong at {place}: {first['msg']}.",
            hint=f"Known keys: {', '.join(Recipe.model_fields)}.",
        ) from error
