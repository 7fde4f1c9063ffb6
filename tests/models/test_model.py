"""Levels, scoring and the detector around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.errors import ConfigError
from edgead.flows.flow import per_sample
from edgead.models.level import LevelSpec, resample
from edgead.models.scoring import ScoreHead
from edgead.models.torch_runner import TorchRunner
from edgead.runner import Runner

from ..tiny import CPU, disturb, make_images, make_model


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("16", (("16", 0),)),
        ("16+32:100", (("16", 0), ("32", 100))),
        (" 8:4 + 16 ", (("8", 4), ("16", 0))),
        ("128/16:8", (("128/16", 8),)),
    ],
)
def test_level_specs_are_read(text: str, sources: tuple[tuple[str, int], ...]) -> None:
    """The written form gives keys and channels in order."""
    assert LevelSpec.parse(text).sources == sources


@pytest.mark.parametrize("text", ["", "16+", "a", "16:x", "16;32", "-8", "16:", "1.5"])
def test_other_level_specs_are_refused(text: str) -> None:
    """Anything else is a ConfigError that shows the right form."""
    with pytest.raises(ConfigError, match="STRIDE"):
        LevelSpec.parse(text)


def test_more_channels_than_there_are_is_refused() -> None:
    """A level cannot ask a stride for more principal channels than it has."""
    with pytest.raises(ConfigError, match="requests 1000 channels of 8, which has 32"):
        make_model(("8:1000",))


def test_a_level_joins_strides_on_the_first_ones_grid() -> None:
    """`8+16` lies on stride 8 with all channels of both; `16+8` on stride 16."""
    images = torch.from_numpy(make_images(2))
    for text, size in (("8+16", (8, 8)), ("16+8", (4, 4))):
        model = make_model((text,))
        (level,) = model.levels
        x = level.inputs(model.features(images))
        assert x.shape == (2, 32 + 48, *size)
        assert level.size == model.head.size == size


def test_resampling_is_torchs() -> None:
    """Growing is bilinear with half-pixel centres, shrinking averages, the same size is untouched."""
    x = torch.randn(2, 3, 4, 6)
    expected = F.interpolate(x, size=(8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(x, (4, 6), (8, 12)), expected)
    torch.testing.assert_close(resample(x, (4, 6), (2, 3)), F.avg_pool2d(x, 2))
    assert resample(x, (4, 6), (4, 6)) is x


def test_the_score_is_the_mean_of_the_largest_values() -> None:
    """Two levels are standardised, weighted, brought to the finer grid and added; the score pools the top share."""
    head = ScoreHead([(4, 4), (2, 2)], [1.0, 2.0], top_fraction=0.2)
    head.set_level(0, torch.full((4, 4), 1.0), torch.full((4, 4), 2.0))
    head.set_level(1, torch.full((2, 2), 3.0), torch.full((2, 2), 0.5))
    fine, coarse = torch.rand(3, 4, 4), torch.rand(3, 2, 2)
    anomaly_map, score = head([fine, coarse])
    up = F.interpolate(((coarse - 3.0) * 2.0 / 0.5)[:, None], size=(4, 4), mode="bilinear", align_corners=False)[:, 0]
    expected = (fine - 1.0) / 2.0 + up
    torch.testing.assert_close(anomaly_map, expected)
    top = np.sort(expected.reshape(3, -1).numpy(), axis=1)[:, -3:]
    np.testing.assert_allclose(score.numpy(), top.mean(axis=1), rtol=1e-5)


def test_at_least_one_position_is_pooled() -> None:
    """A tiny share takes the maximum; the whole map, the mean."""
    x = torch.rand(2, 4, 4)
    torch.testing.assert_close(ScoreHead([(4, 4)], [1.0], 1e-9)([x])[1], x.flatten(1).max(dim=1).values)
    torch.testing.assert_close(ScoreHead([(4, 4)], [1.0], 1.0)([x])[1], x.flatten(1).mean(dim=1))


@pytest.mark.parametrize("name", ["usf", "fastflow", "cflow", "uflow"])
def test_the_norm_ranks_as_the_likelihood_does(name: str) -> None:
    """NLL and half the squared latent norm differ by one constant in a uniform flow, but not in an affine one."""
    images = torch.from_numpy(make_images(5))
    for coupling, alike in (("uniform", True), ("affine", False)):
        model = make_model(("8:8", "16:12"), name=name, coupling=coupling, mix="lu").double()
        disturb(model, 0.3)
        with torch.no_grad():
            model.backbone.float()
            features = {key: f.double() for key, f in model.features(images).items()}
            latents = model.transform(model.inputs(features))
        norm = torch.stack([0.5 * per_sample(z.square().sum(dim=1)) for z, _ in latents]).sum(dim=0)
        log_det = torch.stack([per_sample(d) for _, d in latents]).sum(dim=0)
        difference = (norm - log_det) - norm
        assert (float(difference.max() - difference.min()) < 1e-8) is alike
        if alike:
            assert torch.equal(torch.argsort(norm - log_det), torch.argsort(norm))


def test_forward_is_batch_independent() -> None:
    """An image's map and score do not depend on what else is in the batch."""
    model = make_model(("8+16:12",), mix="permutation").eval()
    images = torch.from_numpy(make_images(4))
    with torch.no_grad():
        maps, scores = model(images)
        one_map, one_score = model(images[2:3])
    torch.testing.assert_close(maps[2:3], one_map, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[2:3], one_score, rtol=1e-4, atol=1e-4)


def test_the_torch_runner_keeps_the_contract() -> None:
    """It is a Runner whose outputs have the announced names, shapes and types."""
    model = make_model(("8+16:12",))
    with TorchRunner(model, model, (64, 64), CPU) as runner:
        assert isinstance(runner, Runner)
        outputs = runner.infer(make_images(3))
        assert runner.input_spec.shape == (None, 64, 64, 3)
        for spec in runner.output_specs:
            assert outputs[spec.name].dtype == spec.dtype
            assert outputs[spec.name].shape == (3, *spec.shape[1:])


def test_standardised_maps_have_the_moments_of_standard_normal_latents() -> None:
    """At every position, for any spread of good images, the map has mean 1 and deviation sqrt(2 / C)."""
    torch.manual_seed(0)
    spread = torch.linspace(0.5, 4.0, 8)[None, :, None].expand(1, 8, 8)
    good = [3.0 + spread * torch.randn(4000, 8, 8)]
    head = ScoreHead([(8, 8)], [2.0], 0.1)
    head.fit(good, good)
    (found,) = head.as_if_normal(good, [32])
    torch.testing.assert_close(found.mean(dim=0), torch.ones(8, 8), atol=0.05, rtol=0.0)
    torch.testing.assert_close(found.std(dim=0)[2:-2], torch.full((4, 8), (2 / 32) ** 0.5), atol=0.01, rtol=0.0)


def test_likelihood_maps_of_two_levels_weigh_the_same_wherever_their_zero_is() -> None:
    """A likelihood has no zero: shifting a level, by which its mean may even become 0, changes no score."""
    torch.manual_seed(0)
    known = [0.7 * torch.randn(200, 8, 8), 0.1 * torch.randn(200, 4, 4)]
    new = [torch.randn(100, 8, 8) + 0.3, 0.2 * torch.randn(100, 4, 4) + 0.3]
    seen = [torch.randn(5, 8, 8), 0.2 * torch.randn(5, 4, 4)]
    scores = []
    for shift in (0.0, -float(known[1].mean()), -0.2, 5.0):
        head = ScoreHead([(8, 8), (4, 4)], [1.0, 1.0], 0.1)
        head.fit([known[0], known[1] + shift], [new[0], new[1] + shift], are_norms=False)
        scores.append(head([seen[0], seen[1] + shift])[1])
        gains = [float(head.get_buffer(f"gain_{index}").mean()) for index in (0, 1)]
        assert gains[1] / gains[0] == pytest.approx(5.0, rel=0.15)
    for score in scores[1:]:
        torch.testing.assert_close(score, scores[0], atol=1e-3, rtol=1e-3)


def test_a_likelihood_map_is_matched_to_a_single_unseen_image() -> None:
    head = ScoreHead([(4, 4)], [1.0], 0.1)
    head.fit([torch.randn(30, 4, 4)], [torch.randn(1, 4, 4)], are_norms=False)
    assert torch.isfinite(head([torch.randn(2, 4, 4)])[1]).all()
