"""Any backbone gets levels and an image size that leave out no part of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgead.config.file import load_config
from edgead.config.model import ModelConfig
from edgead.errors import ConfigError
from edgead.models.backbone import Backbone
from edgead.models.backbone_fit import fit_to_backbone
from edgead.models.zoo import assemble

DINO = "vit_small_patch14_dinov2.lvd142m"
FAMILY_NAMES = ("usf", "fastflow", "cflow", "uflow", "hgad", "vae-usf")
CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def fitted(**settings: Any) -> ModelConfig:
    return fit_to_backbone(ModelConfig.model_validate(settings))[0]


def covered(config: ModelConfig) -> dict[str, tuple[float, float]]:
    """Share of the image, down and across, that each feature map of the backbone covers."""
    with torch.device("meta"):
        model = assemble(config, ("part",), None)
    shares = {}
    for key, (height, width) in model.backbone.sizes.items():
        place, _, _ = key.partition("@")
        size, _, stride = place.rpartition("/")
        side = int(size.rpartition("*")[2] or config.image_size)
        shares[key] = (height * int(stride) / side, width * int(stride) / side)
    return shares


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        *((name, "test_vit") for name in FAMILY_NAMES),
        ("usf", DINO),
        ("usf", "test_efficientnet"),
        ("usf", "swin_tiny_patch4_window7_224"),
        ("hgad", "test_efficientnet"),
    ],
)
def test_every_family_sees_the_whole_image(name: str, backbone: str) -> None:
    """With nothing but a backbone chosen, each family is built and its feature maps cover the image exactly."""
    shares = covered(fitted(name=name, backbone=backbone))
    assert shares
    assert set(shares.values()) == {(1.0, 1.0)}


@pytest.mark.parametrize(("asked", "size"), [(320, 322), (518, 518), (64, 70), (100, 98), (2048, 2044)])
def test_dino_gets_multiples_of_14(asked: int, size: int) -> None:
    """The image size for patches of 14 px is the nearest multiple of 14; 518, at which DINOv2 was trained, stays."""
    config, notes = fit_to_backbone(ModelConfig(backbone=DINO, image_size=asked))
    assert config.image_size == size
    assert [note for note in notes if "Image size" in note] == (
        []
        if size == asked
        else [f"Image size: {size} px instead of {asked}, so that the strides of {DINO} divide it (multiples of 14)."]
    )


def test_default_levels_of_a_transformer() -> None:
    """The default model takes two blocks of a transformer, the published detectors one, and a note says so."""
    config, notes = fit_to_backbone(ModelConfig(backbone=DINO))
    assert config.levels == ("14@6:112+14@9:64",)
    assert notes[0] == f"Levels: 14@6:112+14@9:64, the default for the transformer {DINO}."
    assert fitted(name="fastflow", backbone="cait_s24_224").levels == ("16@14",)


def test_chosen_levels_stay() -> None:
    """Levels that were chosen are not replaced."""
    assert fitted(backbone=DINO, levels=("14@11",)).levels == ("14@11",)


def test_a_pyramid_keeps_its_shape() -> None:
    """The sizes of a pyramid remain the whole and the half of the image, and the strides divide both."""
    config = fitted(name="hgad", start="published", image_size=200)
    assert (config.image_size, config.pyramid) == (192, (192, 96))


def test_a_default_pyramid_is_left_out_for_transformers() -> None:
    """Hgad takes one image size of a network that has one; a pyramid that was chosen is left to the backbone's error."""
    config, notes = fit_to_backbone(ModelConfig(name="hgad", start="published", backbone=DINO))
    assert (config.image_size, config.pyramid, config.levels) == (322, (), ("14@7",))
    assert f"Image pyramid: none, because {DINO} takes images of one size." in notes
    assert fitted(name="hgad", backbone=DINO, image_size=448, pyramid=(448, 112)).pyramid == (448, 112)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_settings_fit_as_they_are(path: Path) -> None:
    """No shipped file of settings is changed."""
    model = load_config(path, {}).model
    assert fit_to_backbone(model) == (model, [])


def test_there_are_shipped_settings() -> None:
    """The list of shipped settings is not empty."""
    assert len(CONFIGS) > 10


def test_the_default_is_not_changed() -> None:
    """The default model and its image size are as they were."""
    config = ModelConfig()
    assert fit_to_backbone(config) == (config, [])


@given(st.integers(64, 2048), st.sampled_from([("16+32:64",), ("8", "16"), ("64/1",), ("128/16+16",), ("7",)]))
def test_any_size_becomes_a_near_multiple(size: int, levels: tuple[str, ...]) -> None:
    """The fitted size is a multiple of every stride, at most one step away, and fits a second time unchanged."""
    config = fitted(image_size=size, levels=levels)
    step = {"16+32:64": 32, "8": 16, "64/1": 64, "128/16+16": 128, "7": 7}[levels[0]]
    assert config.image_size % step == 0
    assert abs(config.image_size - size) <= step
    assert fit_to_backbone(config) == (config, [])


@pytest.mark.parametrize(
    ("levels", "message"), [(("100/16",), "stride 16 does not divide 100 px"), (("999/3+16",), "none from 64 to 2048")]
)
def test_levels_that_no_size_fits(levels: tuple[str, ...], message: str) -> None:
    """Sizes in keys that their stride does not divide, or that have no common multiple in range, are refused."""
    with pytest.raises(ConfigError, match=message):
        fitted(levels=levels)


def test_an_edge_of_the_image_is_seen() -> None:
    """A change of the last pixel row and column reaches the features of a transformer at the fitted size, and none of 14's remainder is cut."""
    config = fitted(backbone="vit_tiny_patch16_224", image_size=72, levels=("16@0",))
    torch.manual_seed(0)
    size = (config.image_size, config.image_size)
    backbone = Backbone(config.backbone, None, config.levels, size)
    images = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
    changed = images.clone()
    changed[:, -1, -1] = 255 - changed[:, -1, -1]
    before, after = backbone(images)["16@0"], backbone(changed)["16@0"]
    assert (before[..., -1, -1] - after[..., -1, -1]).abs().max() > 1e-4
