"""Jobs of the precision page, expanded from a YAML file: each is one form of one bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

TABLE = Path(__file__).with_name("table.yaml")
COMMAND = "python -m tools.precision"
UNIFIED = "unified"
Layout = Literal["onnxruntime", "tensorrt"]
RECIPES = Path(__file__).parents[2] / "calibration"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(_Part):
    """A detector: `usual` takes edgead's defaults instead of the budget, `unified` is one model of all data sets."""

    label: str
    settings: dict[str, Any] = {}
    usual: bool = False
    unified: bool = False


class Form(_Part):
    """A precision, and how it is reached; of some models, or of all."""

    precision: Literal["fp32", "fp16", "int8"]
    recipe: str | None = None
    gated: bool = False
    layout: Layout = "onnxruntime"
    models: tuple[str, ...] = ()


class RecipePart(_Part):
    """Recipes that are compared in one layout."""

    layout: Layout
    gated: bool = False
    models: tuple[str, ...]
    recipes: tuple[str, ...] = Field(min_length=1)


class Table(_Part):
    """The YAML file."""

    data_sets: tuple[str, ...]
    seed: int
    budget: dict[str, Any]
    models: dict[str, ModelPart]
    forms: dict[str, Form]
    recipes: tuple[RecipePart, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Table:
        used = [name for parts in (self.forms.values(), self.recipes) for part in parts for name in part.models]
        recipes = [name for part in self.recipes for name in part.recipes]
        unknown = set(used) - set(self.models) | {name for name in recipes if not recipe_path(name).is_file()}
        if unknown:
            raise ValueError(f"unknown models or recipes: {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True)
class Job:
    """One form of one bundle.

    Attributes:
        model: Key of the model in the table.
        data: Data set, or `unified`.
        form: Name of the form on the page; that of a recipe is `recipe-<layout>-<recipe>`.
        how: Description of the form.
    """

    model: str
    data: str
    form: str
    how: Form

    @property
    def bundle(self) -> str:
        """Folder name of the trained model."""
        return f"{self.model}-{self.data}"

    @property
    def id(self) -> str:
        """Unique, a file name, and what `--only` matches."""
        return f"{self.bundle}-{self.form}"


def read_table(path: Path = TABLE) -> Table:
    """Read and check the YAML file; an invalid table raises pydantic's `ValidationError`."""
    return Table.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def recipe_path(name: str) -> Path:
    """The file of a recipe."""
    return RECIPES / f"{name}.yaml"


def recipe_form(table: Table, part: RecipePart, recipe: str) -> str:
    """The name of the form that a recipe makes; one of the table's forms where it is the same."""
    wanted = Form(precision="int8", recipe=recipe, gated=part.gated, layout=part.layout)
    for name, form in table.forms.items():
        if form.model_copy(update={"models": ()}) == wanted and set(part.models) <= set(form.models or table.models):
            return name
    return "-".join(["recipe", part.layout, *(["gated"] if part.gated else []), recipe])


def jobs_of(table: Table, pattern: str | None = None) -> list[Job]:
    """All jobs, those of the main table first."""
    jobs: dict[str, Job] = {}

    def add(models: Sequence[str], form: str, how: Form) -> None:
        for name in models:
            for data in places(table, name):
                job = Job(name, data, form, how)
                jobs.setdefault(job.id, job)

    for form, how in table.forms.items():
        add(how.models or tuple(table.models), form, how)
    for part in table.recipes:
        for recipe in part.recipes:
            how = Form(precision="int8", recipe=recipe, gated=part.gated, layout=part.layout)
            add(part.models, recipe_form(table, part, recipe), how)
    return [job for job in jobs.values() if pattern is None or fnmatchcase(job.id, pattern)]


def places(table: Table, model: str) -> tuple[str, ...]:
    """Where a model is trained: on each data set, or on all of them at once."""
    return (UNIFIED,) if table.models[model].unified else table.data_sets


def settings_of(table: Table, job: Job) -> dict[str, Any]:
    """Settings of the job's training that differ from edgead's defaults, by dotted key."""
    model = table.models[job.model]
    return {**({} if model.usual else table.budget), **model.settings, "train.seed": table.seed}
