"""Models to compare on a folder of many classes, as cells of `tools.results`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.results.cells import UNIFIED, Cell, Mode, Settings

MODES: tuple[Mode, ...] = ("given", "predicted", "none")
# trained rows: one budget, that of the page of results
_TRAINED: Settings = {
    "model.couplings": "always",
    "model.positions": False,
    "train.batch_size": 8,
    "train.learning_rate": 0.002,
    "train.fibers": 0,
    "train.schedule": "cosine",
    "train.noise": 0.0,
    "train.weight_decay": 0.01,
    "train.gradient_clip": 1.0,
    "train.keep": "last",
}
_PUBLISHED: Settings = {**_TRAINED, "model.start": "published", "model.levels": ["16"]}
# terms of HGAD's loss besides the likelihood
_TERMS = {
    "information": "the mutual information",
    "entropy": "the entropy",
    "intra": "the centres within a class",
    "log_sigmoid": "the log-sigmoid",
}


@dataclass(frozen=True)
class Row:
    """One way to judge all classes.

    Attributes:
        name: What `--only` matches, and the variant of its cells.
        title: Name in the table.
        model, coupling: Parts of the detector.
        unified: Whether one model judges all classes, or each class has its own.
        settings: Settings beside size, epochs and seed.
        modes: Class information that the model takes; empty for a model without.
        epochs: Whether it is trained in epochs.
    """

    name: str
    title: str
    model: str
    coupling: str
    unified: bool = True
    settings: Settings = field(default_factory=dict)
    modes: tuple[Mode, ...] = ()
    epochs: bool = False


# `model.levels` of the plain flow are those of the page of results
ROWS = (
    Row("default_each", "default, a model per class", "usf", "uniform", unified=False),
    Row("default_unified", "default, one model without classes", "usf", "uniform"),
    Row("hgad_closed", "HGAD in closed form", "hgad", "uniform", settings={"model.start": "closed-form"}, modes=MODES),
    Row(
        "fastflow",
        "plain FastFlow, one model",
        "fastflow",
        "affine",
        settings={**_TRAINED, "model.levels": ["16", "32:128"]},
        epochs=True,
    ),
    Row("hgad_published", "HGAD as published", "hgad", "affine", settings=_PUBLISHED, modes=MODES, epochs=True),
    Row("hgad_usf", "HGAD with a uniform flow", "hgad", "uniform", settings=_PUBLISHED, modes=MODES, epochs=True),
    Row(
        "hgad_likelihood",
        "HGAD as published, without the entropy in its score",
        "hgad",
        "affine",
        settings={**_PUBLISHED, "model.score": "likelihood"},
        modes=MODES,
        epochs=True,
    ),
    Row(
        "hgad_one_centre",
        "HGAD as published, one centre per class",
        "hgad",
        "affine",
        settings={**_PUBLISHED, "model.components": 1},
        modes=MODES,
        epochs=True,
    ),
    *(
        Row(
            f"hgad_no_{term}",
            f"HGAD as published, without {name} in its loss",
            "hgad",
            "affine",
            settings={**_PUBLISHED, "model.loss_terms": [other for other in _TERMS if other != term]},
            modes=MODES,
            epochs=True,
        )
        for term, name in _TERMS.items()
    ),
)


def cells_of(
    row: Row, kinds: tuple[str, ...], *, seed: int, size: int, epochs: int, changes: Settings | None = None
) -> list[Cell]:
    """The cells of a row: one, or one for each class.

    Args:
        row: The row.
        kinds: Names of the classes.
        seed: Random seed of the training.
        size: Side of the model's input in px.
        epochs: Passes over the images of the rows that are trained.
        changes: Settings of every row, which replace its own.
    """
    settings = {
        "model.name": row.model,
        "model.image_size": size,
        "train.seed": seed,
        **row.settings,
        **({"model.coupling": row.coupling, "train.epochs": epochs} if row.epochs else {}),
        **(changes or {}),
    }
    places = (UNIFIED,) if row.unified else kinds
    return [Cell(place, row.model, row.coupling, "normal", seed, settings, row.modes, row.name) for place in places]
