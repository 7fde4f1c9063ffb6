"""A model family from outside: described and assembled in this file, then trained, exported and streamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgead.commands.export import export
from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.train import train
from edgead.config.families import FAMILIES, ModelFamily, Refused
from edgead.config.file import load_config
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.flows.flow import FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import ParallelFlow
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector
from edgead.models.level import Level
from edgead.models.scoring import ScoreHead
from edgead.models.zoo import BUILDERS, load_model, register_family
from edgead.progress import Silent

from ..tiny import BACKBONE, SIDE, write_parts_and_weights

GAUSSIAN = ModelFamily(
    "gaussian",
    "One Gaussian per position",
    model={"levels": ("8+16:12",), "couplings": "always", "blocks": 0},
    train={"epochs": 1},
    refused=(Refused("base", "altub", "it has no base of its own"), Refused("blocks"), Refused("couplings", "auto")),
)


def gaussian_detector(
    backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]
) -> Detector:
    """Nothing but the closed-form start, then a scale and offset per channel."""
    channels = [level.channels for level in levels]
    return Detector(
        backbone,
        levels,
        ParallelFlow([FlowSequence([ActNorm(c)]) for c in channels], channels),
        [FlowSequence([]) for _ in levels],
        ScoreHead([level.size for level in levels], [1.0] * len(levels), settings.top_fraction),
    )


@pytest.fixture
def registered() -> Iterator[None]:
    """The toy family, known for the length of a test."""
    register_family(GAUSSIAN, gaussian_detector)
    yield
    del FAMILIES["gaussian"], BUILDERS["gaussian"]


def settings_of(place: Path, **overrides: object) -> Config:
    values: dict[str, object] = {
        "data.root": str(place / "data"), "model.name": "gaussian", "model.backbone": BACKBONE,
        "model.weights": str(place / "w.safetensors"), "model.image_size": SIDE, "train.device": "cpu",
        "train.shrinkage": [0.2],
    }  # fmt: skip
    return load_config(None, values | {name.replace("__", "."): value for name, value in overrides.items()})


@pytest.mark.usefixtures("registered")
def test_a_new_family_trains_exports_and_streams(tmp_path: Path) -> None:
    """One description and one builder suffice: the bundle, its graph and the stream need to know nothing of the family."""
    place = write_parts_and_weights(tmp_path / "place", n_train=30)
    config = settings_of(place)
    assert (config.train.epochs, config.model.levels, config.model.mix) == (1, ("8+16:12",), "lu")
    trained = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert trained.bundle.manifest.model == "gaussian"
    assert isinstance(load_model(trained.bundle), Detector)
    reference = trained.bundle.reference()
    bundle = export(tmp_path / "run", Silent()).bundle
    np.testing.assert_array_equal(bundle.reference()["anomaly_map"], reference["anomaly_map"])

    frames = tmp_path / "frames"
    frames.mkdir()
    images = [path for path in sorted((place / "data").rglob("*.png")) if "ground_truth" not in path.parts]
    defective = [path for path in images if "test" in path.parts and "good" not in path.parts]
    assert defective
    for index, path in enumerate([*images[:6], *defective]):
        shutil.copy(path, frames / f"{index:03}.png")
    camera = CameraConfig.model_validate({"name": "line", "source": str(frames)})
    with open_engine(bundle, "reference", threads=1) as runner:
        summary = stream(bundle, runner, [camera], StreamOutputs(tmp_path / "alerts"), config=config)
    assert summary.n_processed == 6 + len(defective)
    assert summary.n_anomalous >= 1


@pytest.mark.usefixtures("registered")
def test_a_new_family_refuses_what_it_does_not_read(tmp_path: Path) -> None:
    """Errors give the reason for each refused setting and list the new family's name among the known ones."""
    with pytest.raises(ConfigError, match=r"gaussian has no use for base=altub \(it has no base of its own\), blocks"):
        settings_of(tmp_path, model__base="altub", model__blocks=2)
    with pytest.raises(ConfigError, match=r"'vae-usf' or 'gaussian' \(got 'gauss'\)"):
        settings_of(tmp_path, model__name="gauss")


@pytest.mark.usefixtures("registered")
def test_a_family_name_is_given_once() -> None:
    """A second family of the same name would silently replace the first."""
    with pytest.raises(ValueError, match="'gaussian' exists already"):
        register_family(GAUSSIAN, gaussian_detector)


def test_every_family_has_a_builder_and_every_builder_a_family() -> None:
    """The description and the builder of a model are entered under the same name."""
    assert BUILDERS.keys() == FAMILIES.keys()
    assert all(family.name == name for name, family in FAMILIES.items())
