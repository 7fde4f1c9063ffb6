"""Numbers that others published, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

TABLE = Path(__file__).with_name("published.yaml")


class Published(BaseModel):
    """Means of one method over the classes of a benchmark.

    Attributes:
        method: Name of the method.
        protocol: A model per class, one for all, or not said by the source.
        values: Percent by key of `METRICS`.
        about: What has to be known to compare; may be empty.
        source: Paper or repository in which the numbers were read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field(min_length=1)
    protocol: Literal["per-class", "unified", "unknown"]
    values: dict[str, float] = Field(min_length=1)
    about: str = ""
    source: str = Field(min_length=1)


@cache
def read_published() -> Mapping[str, tuple[Published, ...]]:
    """Published numbers by name of the benchmark."""
    content = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return TypeAdapter(dict[str, tuple[Published, ...]]).validate_python(content)
