"""VAE-USFlow: the loss is the evidence bound, the score a likelihood, and training, resuming and export hold for it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from edgead.commands.evaluate import evaluate_bundle
from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.data.synthetic.make import write_dataset
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError
from edgead.evaluation.compare import compare_outputs
from edgead.export.onnx_graph import DeployedModel, graph_multiply_adds, onnx_from_model, operator_counts
from edgead.models.detector import TrainingBatch
from edgead.models.torch_runner import TorchRunner
from edgead.models.vae_usf import Decoder, VaeDetector, VaeHead
from edgead.models.zoo import load_weights
from edgead.progress import Silent
from edgead.train.batches import load_batch, share_batch
from edgead.train.checkpoint import save_tensors
from edgead.train.distributed import World
from edgead.train.health import latent_health
from edgead.train.loop import LoopSettings, TrainState, train_flow
from edgead.train.start import Indices, fit_start, whitened_arrays

from ..tiny import BACKBONE, CPU, SIDE, disturb, fit, make_images, make_model, store_of
from ..train.trainer import SETTINGS

VARIANTS = {
    "uniform": {},
    "affine": {"coupling": "affine"},
    "altub": {"base": "altub", "mix": "permutation"},
    "affine-altub-latent": {"coupling": "affine", "base": "altub", "vae_score": "latent"},
    "reconstruction": {"vae_score": "reconstruction", "decoded_size": 16},
}
LATENT, SIZE = 6, 32
PIXELS = 3 * SIZE * SIZE
N_FIT, N_HELD_OUT = 40, 8
LABELS = np.zeros(N_FIT + N_HELD_OUT, np.int64)
LOOP = replace(SETTINGS, epochs=2, batch_size=8, learning_rate=3e-3, noise=0.0, keep="last")


def make_vae(**settings: object) -> VaeDetector:
    values = {"levels": ("8+16:12",), "decoded_size": SIZE, "latent_size": LATENT, **settings}
    model = make_model(name="vae-usf", **values)
    assert isinstance(model, VaeDetector)
    return model


def whitened_vae(folder: Path, **settings: object) -> tuple[VaeDetector, list[NDArray[np.float16]]]:
    """After the closed-form start, with the arrays that it trains on."""
    model = make_vae(**settings)
    store = store_of(model, make_images(N_FIT + N_HELD_OUT))
    rows = tuple(range(N_FIT + N_HELD_OUT))
    fit_start(model, store, Indices(rows[:N_FIT], rows[N_FIT:], ()), amounts=(0.2,), ridge=0.01)
    return model, whitened_arrays(model, store, rows, memory_limit=10**9, folder=folder)


def learn(
    model: VaeDetector,
    arrays: list[NDArray[np.float16]],
    checkpoint: Path,
    settings: LoopSettings = LOOP,
    *,
    resume: bool = False,
    die_after: int = 1000,
) -> TrainState:
    def on_epoch(state: TrainState) -> None:
        if state.epoch == die_after:
            raise KeyboardInterrupt

    return train_flow(
        model, arrays, LABELS, range(N_FIT), range(N_FIT, N_FIT + N_HELD_OUT), settings, checkpoint,
        resume=resume, on_step=lambda *_: None, on_epoch=on_epoch,
    )  # fmt: skip


def batch_of(model: VaeDetector, arrays: list[NDArray[np.float16]], count: int = 5) -> TrainingBatch:
    return load_batch(model, arrays, LABELS, np.arange(count), 0.0, torch.Generator().manual_seed(3))


def log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of independent Gaussians, summed over everything."""
    return (-0.5 * ((x - mean) / std) ** 2 - torch.log(std) - 0.5 * math.log(2.0 * math.pi)).sum()


def log_prior(model: VaeDetector, z: Tensor) -> Tensor:
    """Log-density of a latent vector `(d,)`, the log-determinant from the Jacobian."""

    def whole(vector: Tensor) -> Tensor:
        u, _ = model.flow.stages()[0](vector[None, :, None, None])
        return model.bases[0](u)[0].flatten()  # type: ignore[no-any-return]

    u, jacobian = whole(z), torch.autograd.functional.jacobian(whole, z)
    return log_normal(u, torch.zeros(()), torch.ones(())) + torch.linalg.slogdet(jacobian).logabsdet


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
def test_the_loss_is_the_negative_evidence_bound(coupling: str, tmp_path: Path) -> None:
    """The loss is that of the formula in float64: images in 0..1 with deviation 0.1, one sample, the Jacobian's volume."""
    model, arrays = whitened_vae(tmp_path, coupling=coupling, base="altub")
    disturb(model.double(), 0.1)
    batch = batch_of(model, arrays)
    batch = replace(batch, whitened=[x.double() for x in batch.whitened], draws=batch.draws.double())  # type: ignore[union-attr]
    found = model.loss_terms(batch)[0].detach()
    start, total = model.levels[1].start, torch.zeros((), dtype=torch.float64)
    for features, standardised, noise in zip(*batch.whitened, batch.draws, strict=True):  # type: ignore[arg-type]
        pooled = features.flatten(1).mean(dim=1)
        mean, log_variance = (
            conv.weight[:, :, 0, 0] @ pooled + conv.bias for conv in (model.encoder.mean, model.encoder.log_variance)
        )
        std = torch.exp(0.5 * log_variance)
        z = mean + std * noise.flatten()
        image = (standardised - start.offset[:, None, None]) / torch.exp(start.log_scale)[:, None, None]  # type: ignore[operator]
        decoded = model.decode(z[None, :, None, None])[0]
        sigma = torch.tensor(0.1, dtype=torch.float64)
        total += log_normal(z, mean, std) - log_normal(image, decoded, sigma) - log_prior(model, z)
    assert float(found) == pytest.approx(float(total.detach()) / len(batch.whitened[0]) / PIXELS, rel=1e-9)


def test_the_pictures_are_those_of_the_camera_between_zero_and_one(tmp_path: Path) -> None:
    """The reconstructed target is the shrunk image in 0..1, both from images and from the training arrays."""
    model, arrays = whitened_vae(tmp_path)
    images = torch.from_numpy(make_images(N_FIT + N_HELD_OUT)[:5])
    expected = torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2).float() / 255, SIDE // SIZE)
    kept = model.levels[1].start.inverse(torch.from_numpy(arrays[1][:5]).float())
    torch.testing.assert_close(kept, expected, atol=2e-3, rtol=0)
    z, residual = model.inputs(model.features(images))
    torch.testing.assert_close(residual * 0.1 + model.decode(z), expected)
    fresh, cached = model.transform([z, residual]), model.latents([torch.from_numpy(a[:5]).float() for a in arrays])
    for (a, _), (b, _) in zip(fresh, cached, strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=1e-2)


def test_what_holds_for_flows_of_features_is_not_claimed(tmp_path: Path) -> None:
    """The reported loss has no volume of a start added, and no standard normal latent is promised."""
    model, arrays = whitened_vae(tmp_path)
    assert model.start_constant() == 0.0
    assert latent_health(model, arrays, LABELS, range(4), 0.0, 0) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradient_reaches_every_part(variant: str, tmp_path: Path) -> None:
    """Encoder, prior, base and decoder all learn, by the loss's true slope; the frozen parts do not."""
    model, arrays = whitened_vae(tmp_path, **VARIANTS[variant])
    disturb(model)
    model.double()
    batch = batch_of(model, arrays)
    batch = replace(batch, whitened=[x.double() for x in batch.whitened], draws=batch.draws.double())  # type: ignore[union-attr]
    model.loss_terms(batch)[0].backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not missing
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"encoder", "decoder", "flow"} | ({"bases"} if "altub" in variant else set())
    parts = [p for p in model.parameters() if p.requires_grad]
    direction = [torch.randn_like(p) for p in parts]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parts, direction, strict=True))  # type: ignore[operator]
    values = []
    for step in (1e-8, -2e-8):
        with torch.no_grad():
            for p, d in zip(parts, direction, strict=True):
                p.add_(step * d)
            values.append(float(model.loss_terms(batch)[0]))
    assert (values[0] - values[1]) / 2e-8 == pytest.approx(slope, rel=1e-3)


@torch.no_grad()
def test_a_uniform_prior_ranks_by_the_latents_norm(tmp_path: Path) -> None:
    """With a uniform prior the NLL is half the squared norm but for one constant; with an affine one it is not."""
    images = torch.from_numpy(make_images(6, seed=5))
    spread = {}
    for coupling in ("uniform", "affine"):
        model, _ = whitened_vae(tmp_path, coupling=coupling)
        disturb(model, 0.2)
        u, log_det = model.latents([level.whitened(model.features(images)) for level in model.levels])[0]
        assert float(torch.std(0.5 * u.square().sum(dim=1))) > 0.01
        nll = model.nll(images)
        # the sums over all pixels round
        torch.testing.assert_close(
            nll - model.nll_and_norm(images)[1], -log_det.flatten(), atol=1e-6 * float(nll.max()), rtol=0
        )
        spread[coupling] = float(log_det.max() - log_det.min())
    assert spread["uniform"] < 1e-5
    assert spread["affine"] > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("coupling", ["uniform", "affine"])
def test_the_score_is_reconstruction_plus_latent_likelihood(coupling: str, tmp_path: Path) -> None:
    """Score differences are those of -log p(x|z) - log p(z) at the posterior mean, per pixel and colour; modes take a part."""
    images = torch.from_numpy(make_images(4, seed=5))
    scores, parts = {}, {}
    for mode in ("both", "reconstruction", "latent"):
        model = fit(make_vae(coupling=coupling, vae_score=mode), tmp_path)
        scores[mode] = model(images)[1].double()
        (u, log_det), (residual, _) = model.transform(model.inputs(model.features(images)))
        latent = 0.5 * u.square().sum(dim=(1, 2, 3)) - log_det.flatten()
        error = 0.5 * residual.square().sum(dim=(1, 2, 3))
        parts[mode] = {"both": (latent + error) / PIXELS, "reconstruction": error / PIXELS, "latent": latent / LATENT}[
            mode
        ]
        difference = scores[mode] - parts[mode].double()
        torch.testing.assert_close(difference, difference[:1].expand(4), atol=1e-5, rtol=0)
        assert float(scores[mode].std()) > 1e-4
    assert not torch.allclose(scores["both"], scores["reconstruction"], atol=1e-6)


@torch.no_grad()
def test_the_map_shows_where_the_reconstruction_fails() -> None:
    """Each position is compared with good images there: usual errors are 0 on average, a larger one stands out."""
    head = VaeHead((16, 16), 4, "both")
    usual = torch.linspace(1.0, 50.0, 256).reshape(16, 16)
    good = usual * (1.0 + 0.1 * torch.randn(64, 16, 16))
    head.fit([torch.ones(32, 1, 1), 0.5 * good[:32]], [torch.ones(32, 1, 1), good[32:]])
    image = usual[None].clone()
    image[0, 2, 3] *= 2.0
    anomaly_map, score = head([torch.ones(1, 1, 1), image])
    assert int(anomaly_map.argmax()) == 2 * 16 + 3
    assert float(anomaly_map.mean().abs()) < 0.5
    assert float(score) == pytest.approx(0.5 * float(image.mean()) + 4 / (3 * 256) * 0.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_exported_graph_is_the_model(variant: str, tmp_path: Path) -> None:
    """Torch, folded torch and ONNX Runtime agree within 1e-4; a uniform prior leaves neither exp nor tanh; costs are the layers'."""
    model = fit(make_vae(**VARIANTS[variant]), tmp_path)
    deployed = DeployedModel(model)
    proto = onnx_from_model(deployed, (SIDE, SIDE))
    onnx.save(proto, str(tmp_path / "m.onnx"))
    images = make_images(3, seed=7)
    images[0, 10:20, 10:20] = 255
    truth = TorchRunner(model, model, (SIDE, SIDE), CPU).infer(images)
    folded = TorchRunner(deployed, model, (SIDE, SIDE), CPU).infer(images)
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        exported = runner.infer(images)
    threshold = float(np.sort(truth["pred_score"])[:2].mean())
    for candidate in (folded, exported):
        comparison = compare_outputs(truth, candidate, threshold)
        assert comparison.is_parity
        assert comparison.score_relative_difference < 1e-4
    counts = operator_counts(proto)
    affine = VARIANTS[variant].get("coupling") == "affine"
    assert {"Exp", "Tanh"} & set(counts) == ({"Exp", "Tanh"} if affine else set())
    assert not {"Pad", "Shape", "Gather", "TopK", "Log", "RandomNormalLike", "Constant", "Identity"} & set(counts)
    assert counts["ConvTranspose"] == (3 if "decoded_size" in VARIANTS[variant] else 4)
    counted = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        places = given[0] if isinstance(module, nn.ConvTranspose2d) else output
        counted += module.weight.numel() * places.shape[2] * places.shape[3]  # type: ignore[operator,union-attr]

    for module in deployed.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module is not model.encoder.log_variance:
            module.register_forward_hook(count)
    with torch.no_grad():
        deployed(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8))
    # the reconstruction alone needs no prior, so the graph holds none
    assert graph_multiply_adds(proto) == counted - (variant == "reconstruction") * deployed.flow_cost()[1]


def test_weights_make_the_same_model_again(tmp_path: Path) -> None:
    """Saved and loaded into a new model, the weights give the same scores and maps, bit for bit."""
    model = fit(make_vae(base="altub"), tmp_path)
    save_tensors(tmp_path / "w.safetensors", model.state_dict(), {})
    other = make_vae(base="altub")
    disturb(other)
    load_weights(other, tmp_path / "w.safetensors")
    images = torch.from_numpy(make_images(2))
    with torch.no_grad():
        for a, b in zip(model(images), other.eval()(images), strict=True):
            assert torch.equal(a, b)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Two epochs at once, and two with a death between and other random numbers before, end in the same bits."""
    model, arrays = whitened_vae(tmp_path, base="altub")
    whole = learn(model, arrays, tmp_path / "a.safetensors")
    second, _ = whitened_vae(tmp_path, base="altub")
    with pytest.raises(KeyboardInterrupt):
        learn(second, arrays, tmp_path / "b.safetensors", die_after=1)
    third = make_vae(base="altub")
    disturb(third)
    resumed = learn(third, arrays, tmp_path / "b.safetensors", resume=True)
    assert resumed == whole
    assert len(set(whole.fit_loss)) == 3
    for (name, a), b in zip(model.named_parameters(), third.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_every_image_of_every_step_has_draws_of_its_own(tmp_path: Path) -> None:
    """The noise is standard normal, differs between images and batches, and is the same for the same generator."""
    model, arrays = whitened_vae(tmp_path, latent_size=64)
    random = torch.Generator().manual_seed(0)
    one, two = (load_batch(model, arrays, LABELS, np.arange(40), 0.0, random).draws for _ in range(2))
    again = load_batch(model, arrays, LABELS, np.arange(40), 0.0, torch.Generator().manual_seed(0)).draws
    assert one is not None
    assert two is not None
    assert one.shape == (40, 64, 1, 1)
    assert torch.equal(one, again)  # type: ignore[arg-type]
    assert float((one * two).mean().abs()) < 0.1
    assert float(torch.corrcoef(one.flatten(1)).fill_diagonal_(0.0).abs().max()) < 0.6
    assert abs(float(one.mean())) < 0.1
    assert float(one.std()) == pytest.approx(1.0, abs=0.1)


@torch.no_grad()
def test_several_processes_share_one_loss(tmp_path: Path) -> None:
    """The parts of a batch that three processes see, weighted by their shares, add up to the loss of the whole."""
    model, arrays = whitened_vae(tmp_path)
    disturb(model)
    batch = batch_of(model, arrays, 8)
    (whole,) = model.loss_terms(batch)
    total = torch.zeros(())
    for rank in range(3):
        part, shares = share_batch(batch, World(rank, 3))
        total += model.loss_terms(part)[0] * shares[0]
    assert float(total) == pytest.approx(float(whole), rel=1e-5)


def test_training_lowers_the_reconstruction_error_and_the_bound(tmp_path: Path) -> None:
    """Training lowers both for held-out images, too."""
    model, arrays = whitened_vae(tmp_path)
    held_out = [torch.from_numpy(array[N_FIT:]).float() for array in arrays]

    @torch.no_grad()
    def error() -> float:
        return float(model.latents(held_out)[1].z.square().mean())

    before = error()
    state = learn(model, arrays, tmp_path / "c.safetensors", replace(LOOP, epochs=12))
    assert error() < 0.8 * before
    assert state.held_out_loss[-1] < state.held_out_loss[0] - 0.1


@pytest.mark.parametrize("size", [16, 48, 80, 128])
def test_the_decoder_makes_pictures_of_the_asked_size(size: int) -> None:
    """Any multiple of 16 is reached by doubling a first grid that is no larger than it must be."""
    decoder = Decoder(5, (size, size))
    assert decoder(torch.zeros(2, 5, 1, 1)).shape == (2, 3, size, size)
    assert decoder.first.kernel_size[0] < 8
    widths = [decoder.first.out_channels, *(layer.out_channels for layer in decoder.doublings)]  # type: ignore[misc]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.levels": ["8", "16"]}, "one encoder"),
        ({"model.pyramid": [64, 32]}, "one encoder"),
        ({"model.decoded_size": 48}, "must divide image_size 64"),
        ({"model.decoded_size": 40}, "multiple of 16"),
        ({"model.positions": True}, "no use for positions"),
        ({"model.couplings": "auto", "model.loss": "log_sigmoid"}, "no use for couplings=auto, loss=log_sigmoid"),
        ({"model.level_weights": [2.0]}, "no use for level_weights"),
        ({"model.position_channels": 8}, "no use for position_channels"),
        ({"train.fibers": 64}, "whole images"),
    ],
)
def test_settings_without_meaning_are_refused(overrides: dict[str, object], message: str) -> None:
    """A setting that this model would ignore is an error that names it."""
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"model.name": "vae-usf", "model.image_size": 64, **overrides})


def test_from_images_to_an_evaluated_bundle(tmp_path: Path) -> None:
    """Training, bundle, engine and evaluation work on it as on any detector."""
    write_dataset(tmp_path / "data", "disc", n_train=30, n_test_good=3, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    torch.manual_seed(0)
    save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), tmp_path / "w.safetensors")
    values = {
        "data.root": str(tmp_path / "data"), "model.name": "vae-usf", "model.backbone": BACKBONE,
        "model.weights": str(tmp_path / "w.safetensors"), "model.image_size": SIDE, "model.decoded_size": SIZE,
        "model.latent_size": 8, "model.blocks": 2, "train.epochs": 2, "train.device": "cpu",
    }  # fmt: skip
    result = train(load_config(None, values), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert result.bundle.manifest.graph.map_size == (SIZE, SIZE)
    with open_engine(result.bundle, "reference", threads=1) as runner:
        found = evaluate_bundle(
            result.bundle, runner, tmp_path / "data", Silent(), false_alarm_rate=None, report=tmp_path / "report"
        )
    assert found.report is not None
    assert found.report.is_file()
    assert not found.broken
