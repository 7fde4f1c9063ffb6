"""What the precision page compares: a YAML file expanded to jobs, each one form of one bundle."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

TABLE = Path(__file__).with_name("table.yaml")
COMMAND = "python -m tools.precision"
UNIFIED = "unified"
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
    """A precision, and how it is reached."""

    precision: Literal["fp32", "fp16", "int8"]
    recipe: str | None = None
    gated: bool = False
    layout: Literal["onnxruntime", "tensorrt"] = "onnxruntime"


class Table(_Part):
    """The YAML file."""

    data_sets: tuple[str, ...]
    seed: int
    budget: dict[str, Any]
    models: dict[str, ModelPart]
    forms: dict[str, Form]
    recipes: tuple[str, ...]
    recipe_models: dict[Literal["onnxruntime", "tensorrt"], tuple[str, ...]]

    @model_validator(mode="after")
    def _names_exist(self) -> Table:
        unknown = {name for names in self.recipe_models.values() for name in names} - set(self.models)
        unknown |= {name for name in self.recipes if not recipe_path(name).is_file()}
        if unknown:
            raise ValueError(f"unknown models or recipes: {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True)
class Job:
    """One form of one bundle.

    Attributes:
        model: Its key in the table.
        data: A data set, or `unified`.
        form: Its name on the page; that of a recipe is `recipe-<layout>-<recipe>`.
        how: The form.
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
    """Read and check the YAML file; pydantic's `ValidationError` says what is wrong."""
    return Table.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def recipe_path(name: str) -> Path:
    """The file of a recipe."""
    return RECIPES / f"{name}.yaml"


def recipe_form(layout: str, recipe: str) -> str:
    """The name of an ungated form that a recipe makes."""
    return f"recipe-{layout}-{recipe}"


def jobs_of(table: Table, pattern: str | None = None) -> list[Job]:
    """All jobs, those of the main table first."""
    jobs = []
    for form, how in table.forms.items():
        for name, model in table.models.items():
            jobs += [Job(name, data, form, how) for data in ((UNIFIED,) if model.unified else table.data_sets)]
    for layout, models in table.recipe_models.items():
        for recipe in table.recipes:
            how = Form(precision="int8", recipe=recipe, layout=layout)
            jobs += [
                Job(name, data, recipe_form(layout, recipe), how)
                for name in models
                for data in ((UNIFIED,) if table.models[name].unified else table.data_sets)
            ]
    return [job for job in jobs if pattern is None or fnmatchcase(job.id, pattern)]


def settings_of(table: Table, job: Job) -> dict[str, Any]:
    """Settings of the job's training that differ from edgead's defaults, by dotted key."""
    model = table.models[job.model]
    return {**({} if model.usual else table.budget), **model.settings, "train.seed": table.seed}
