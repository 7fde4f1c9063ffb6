"""Real but tiny detectors and data, so that a whole path runs in a second without any downloaded weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from edgead.bundle import Bundle
from edgead.bundle_files import CALIBRATION, MODEL, REFERENCE, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.config.model import ModelConfig
from edgead.data.synthetic.make import write_dataset
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import (
    POOLED,
    ClassThresholds,
    Cost,
    GraphIO,
    Manifest,
    Parity,
    Preprocessing,
    Provenance,
)
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector
from edgead.models.zoo import assemble
from edgead.train.features import FeatureStore
from edgead.train.start import Indices, fit_head, fit_start, whitened_arrays

SIDE = 64
BACKBONE = "test_efficientnet"
CPU = torch.device("cpu")


def make_images(count: int, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """Smooth random pictures `(count, side, side, 3)` that share a pattern, as parts of one kind do."""
    random = np.random.default_rng(seed)
    pattern = cv2.GaussianBlur(random.normal(size=(side, side, 3)), (0, 0), 4) * 8
    pictures = [pattern + cv2.GaussianBlur(random.normal(size=(side, side, 3)), (0, 0), 2) for _ in range(count)]
    return np.clip(np.stack(pictures) * 60 + 128, 0, 255).astype(np.uint8)


def make_backbone(keys: Sequence[str] = ("8", "16"), size: tuple[int, int] = (SIDE, SIDE)) -> Backbone:
    """Timm's own test network, 80 thousand random weights, always the same."""
    torch.manual_seed(1)
    return Backbone(BACKBONE, None, keys, size)


def make_config(**settings: Any) -> ModelConfig:
    """Settings of a small detector on `make_backbone`; `settings` override those of a small uniform flow."""
    name = settings.get("name", "usf")
    values: dict[str, Any] = {"name": name, "levels": ("8+16:12",), "hidden_ratio": 1.0, "top_fraction": 0.05}
    if name == "usf":
        values |= {"mix": "rotation", "kernels": ((3, 1),)}
    blocks = {} if name == "usf" else {"blocks": 2}
    return ModelConfig.model_validate({**values, **blocks, **settings, "backbone": BACKBONE, "image_size": SIDE})


def make_model(levels: Sequence[str] = ("8+16:12",), classes: Sequence[str] = ("part",), **settings: Any) -> Detector:
    """An untrained detector of `make_config`."""
    config = make_config(levels=tuple(levels), **settings)
    torch.manual_seed(1)
    return assemble(config, tuple(classes), None)


def store_of(model: Detector, images: NDArray[np.uint8]) -> FeatureStore:
    """Features of images, in memory."""
    with torch.no_grad():
        features = model.features(torch.from_numpy(images))
    return FeatureStore({key: f.half().numpy() for key, f in features.items()}, CPU)


def fit(model: Detector, tmp: Path, count: int = 60) -> Detector:
    """Fit everything in closed form on `make_images`, and give the couplings random weights in place of training."""
    images = make_images(count + 8)
    store = store_of(model, images)
    rows = tuple(range(count))
    indices = Indices(rows, tuple(range(count, count + 4)), tuple(range(count + 4, count + 8)))
    fit_start(model, store, indices, amounts=(0.2,), ridge=0.01)
    disturb(model)
    arrays = whitened_arrays(model, store, rows, memory_limit=10**9, folder=tmp)
    labels = np.arange(count) % max(1, model.n_classes)
    fit_head(model, arrays, labels, Indices(rows[:-10], rows[-10:], ()))
    return model.eval()


@torch.no_grad()
def disturb(model: Detector, spread: float = 0.05) -> None:
    """Random changes of everything that trains: what starts at zero would hide a mistake."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(spread * torch.randn_like(parameter))


def write_parts_and_weights(folder: Path, n_train: int) -> Path:
    """Good parts in `folder/data` and random weights of `BACKBONE` in `folder/w.safetensors`; gives `folder`."""
    write_dataset(
        folder / "data", "disc", n_train=n_train, n_test_good=1, n_test_per_defect=1, seed=1, size=(SIDE, SIDE)
    )
    torch.manual_seed(0)
    save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), folder / "w.safetensors")
    return folder


def make_thresholds(threshold: float, pixel_threshold: float) -> ClassThresholds:
    """Thresholds certified at 1 %, with scores of 99 good images that lead up to them."""
    share = np.arange(1, 100) / 99
    return class_thresholds(share * threshold, share * pixel_threshold, pixel_threshold / 4, 0.01)


def make_manifest(map_size: tuple[int, int] = (4, 4), config: dict[str, Any] | None = None) -> Manifest:
    """A manifest with small, valid values."""
    thresholds = make_thresholds(1.0, 2.0)
    return Manifest(
        model="usf",
        classes=("part",),
        preprocessing=Preprocessing.current((SIDE, SIDE)),
        graph=GraphIO(map_size=map_size),
        thresholds={POOLED: thresholds, "part": thresholds},
        parity=Parity(folded_vs_unfolded=1e-7, onnx_vs_unfolded=1e-6, n_images=2, verdict_flips=0),
        cost=Cost(multiply_adds=1, flow_multiply_adds_unfolded=1, flow_multiply_adds_folded=1, parameters=1),
        provenance=Provenance(
            created_at="2026-01-01T00:00:00+00:00",
            data_root="data",
            data_digest="0" * 16,
            n_images={"fit": 8},
            seed=0,
            versions={},
            config=config or {},
            metrics={},
        ),
        sha256={},
    )


def make_files(
    folder: Path, model: bytes = b"graph", outputs: dict[str, NDArray[Any]] | None = None
) -> dict[str, Path]:
    """Source files of a bundle; the graph and the weights may be any bytes, a bundle does not look into them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in (MODEL, WEIGHTS, CALIBRATION, REFERENCE)}
    files[MODEL].write_bytes(model)
    files[WEIGHTS].write_bytes(b"weights")
    images = make_images(2)
    np.savez_compressed(files[CALIBRATION], images=images)
    outputs = outputs or {"anomaly_map": np.zeros((2, 4, 4), np.float32), "pred_score": np.zeros(2, np.float32)}
    np.savez_compressed(files[REFERENCE], images=images, **outputs)
    return files


def make_bundle(folder: Path) -> Bundle:
    """A bundle `folder` with placeholder files."""
    return write_bundle(folder, make_manifest(), make_files(folder.with_name(f"{folder.name}-sources")))
