"""The device fits what the workstation fits: scores of the same pictures are equal to 1e-4."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.commands.export_base import form_settings
from edgead.commands.teach import TeachResult
from edgead.config.root import Config
from edgead.engines.onnx_runner import OnnxRunner
from edgead.models.detector import Detector
from edgead.models.torch_runner import TorchRunner
from edgead.models.zoo import build_model, load_model
from edgead.teach import centres, positions
from edgead.teach.base import Base, FormName
from edgead.teach.features import FeatureNet, Features, LevelInputs, fit_projections
from edgead.teach.form import LevelEnergies
from edgead.teach.scoring import pooled, standardise
from edgead.train.centre_fits import fit_centres
from edgead.train.features import FeatureStore
from edgead.train.left_out import Energies, Rows, fit_positions, fitted_energies, gather_positions
from edgead.train.left_out import standardise as torch_standardise
from edgead.train.start import fit_projections as torch_projections

TOLERANCE = 1e-4
FRACTION = 0.05
COPIES = 4


@pytest.fixture(scope="module")
def features(base: Base, pictures: NDArray[np.uint8]) -> list[Features]:
    """Features of ten good pictures and of four others, which stand for their pseudo-defective copies."""
    net = FeatureNet(base, 1)
    return [net(picture) for picture in pictures[:14]]


@pytest.fixture(scope="module")
def store(base_config: Config, features: list[Features]) -> FeatureStore:
    """The same features for the workstation."""
    keys = _model(base_config, "positions").backbone.keys
    arrays = {key: np.stack([picture[index] for picture in features]) for index, key in enumerate(keys)}
    return FeatureStore(arrays, torch.device("cpu"))


ROWS = Rows(tuple(range(10)), tuple(range(10, 14)), (0, 3, 3, 9), tuple(range(10)))


def _model(config: Config, form: FormName) -> Detector:
    settings = form_settings(config, form)
    model = build_model(config.model.model_copy(update=settings), ("part",))
    model.drop_couplings()
    return model.eval()


def _level_inputs(base: Base, features: list[Features]) -> tuple[list[list[NDArray[np.float32]]], ...]:
    inputs = LevelInputs(base, fit_projections(base, features[:10]))
    per_picture = [inputs(picture) for picture in features]
    levels = [list(level) for level in zip(*per_picture, strict=True)]
    return [level[:10] for level in levels], [level[10:] for level in levels]


def _assert_equal(
    base: Base, found: list[LevelEnergies], model: Detector, energies: list[Energies], store: FeatureStore
) -> None:
    expected = torch_standardise(model.head, energies, [FRACTION])
    head = standardise(base.manifest, found)
    for own, theirs in ((head.maps, expected.scores), (head.pseudo_maps, expected.pseudo)):
        np.testing.assert_allclose(pooled(own, FRACTION), theirs[FRACTION], rtol=TOLERANCE, atol=TOLERANCE)
    fitted = [fitted_energies(level, store, range(10)) for level in model.levels]
    total = sum(model.head.standardised(i, level) for i, level in enumerate(fitted))
    np.testing.assert_allclose(head.fitted_maps, total.numpy(), rtol=TOLERANCE, atol=TOLERANCE)  # type: ignore[union-attr]


@pytest.mark.parametrize("amount", [0.2, 0.8])
def test_gaussians_are_those_of_the_workstation(
    base: Base, base_config: Config, features: list[Features], store: FeatureStore, amount: float
) -> None:
    """Left-out scores, those of pseudo-defects, and maps of the finished model are equal."""
    model = _model(base_config, "positions")
    energies = []
    for level in model.levels:
        torch_projections(level, store, range(10))
        energies.append(
            fit_positions(level, store, ROWS, gather_positions(level, store, ROWS), amount=amount, ridge=1e-3)
        )
    good, copies = _level_inputs(base, features)
    moments = [positions.gather(level) for level in good]
    found = [
        positions.energies(level, own, ROWS.origin, amount=amount, ridge=1e-3)
        for level, own in zip(moments, copies, strict=True)
    ]
    _assert_equal(base, found, model, energies, store)


def test_maps_per_position_whiten_like_those_of_the_workstation(base: Base, features: list[Features]) -> None:
    """The constants of the graph give the energies of the finished model."""
    good, _ = _level_inputs(base, features)
    for level in good:
        moments = positions.gather(level)
        constants = positions.constants(moments, amount=0.2, ridge=1e-3).graph
        expected = positions.energies(moments, (), (), amount=0.2, ridge=1e-3).fitted
        for x, energy in zip(level, expected, strict=True):
            z = np.matmul((x - constants["mean"][:, 0])[:, None, :], constants["weight_t"])[:, 0]
            np.testing.assert_allclose(np.square(z).mean(axis=1), energy, rtol=TOLERANCE)


def test_centres_are_those_of_the_workstation(
    base: Base, base_config: Config, features: list[Features], store: FeatureStore
) -> None:
    """With the same first centres, which are drawn at random, all scores are equal."""
    model = _model(base_config, "centres")
    energies, found = [], []
    good, copies = _level_inputs(base, features)
    for level, own, of_copies in zip(model.levels, good, copies, strict=True):
        torch_projections(level, store, range(10))
        energies.append(fit_centres(level, store, ROWS, ridge=0.01, seed=0))
        count = 10 * level.size[0] * level.size[1]
        first = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:40].numpy()
        fit = centres.fit(own, 40, ridge=0.01, seed=0, first=first)
        found.append(centres.energies(fit, own, of_copies, ROWS.origin))
    _assert_equal(base, found, model, energies, store)


def test_the_bundle_is_a_model_of_torch_too(taught: TeachResult) -> None:
    """The weights of a taught bundle, loaded on a workstation, give the scores of its graph."""
    bundle: Bundle = taught.bundle
    images = bundle.reference()["images"]
    with OnnxRunner(bundle.model_path, threads=1, engine_name="reference") as runner:
        found = runner.infer(images)
    model = load_model(bundle)
    expected = TorchRunner(model, model, bundle.image_size, torch.device("cpu")).infer(images)
    for name in ("anomaly_map", "pred_score"):
        np.testing.assert_allclose(found[name], expected[name], rtol=TOLERANCE, atol=TOLERANCE)
