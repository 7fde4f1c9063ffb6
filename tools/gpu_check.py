"""Check what an NVIDIA GPU without TensorRT can show: `python -m tools.gpu_check [--quick] [--json FILE]`.

Training on the GPU against the CPU's result; images per second of backbone and flows at float32, bfloat16 and float16;
ONNX Runtime's engines for the GPU with their parity and times; `edgead doctor`. Each step prints its figures and whether
it ran; without a GPU its CPU parts run and the others are named as not run. Takes under 8 minutes on a machine with a
GPU. TensorRT is not touched.

Exit codes: 0 = every step that could run held, 1 = one did not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgead.api import build_engine, evaluate, train_bundle
from edgead.builder.gate import time_in_turns
from edgead.bundle import Bundle
from edgead.commands.build_engine import EngineOptions
from edgead.commands.train import TrainResult
from edgead.data.synthetic.make import write_dataset
from edgead.errors import EdgeadError
from edgead.model import load

MODELS = ("usf", "fastflow")
# scores of two trainings whose sums differ in order; the couplings' gradient steps amplify it
AUROC_TOLERANCE = 0.01
THRESHOLD_TOLERANCE = 0.05


# exceptions whose text is a sentence
PLAIN = (AssertionError, EdgeadError, RuntimeError)


class NotRun(Exception):
    """Reason why a step cannot run on this machine."""


@dataclass
class Step:
    """A step and its outcome.

    Attributes:
        name: Name of the step.
        outcome: `ran`, `not run` or `failed`.
        reason: Reason for not running or failing; empty otherwise.
        seconds: Time it took.
        figures: Measured values by name.
    """

    name: str
    outcome: str = "ran"
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """Amount of work.

    Attributes:
        image_size: Side of the images in pixels.
        n_train: Number of good images.
        epochs: Passes over them.
        batches: Measured batches of the throughput steps.
    """

    image_size: int = 256
    n_train: int = 200
    epochs: int = 4
    batches: int = 20


QUICK = Size(image_size=64, n_train=30, epochs=1, batches=2)


class Check:
    """The steps, in a folder that holds what one leaves for the next.

    Args:
        folder: Empty folder.
        size: Amount of work.
    """

    def __init__(self, folder: Path, size: Size) -> None:
        self._folder = folder
        self._size = size
        self._trained: dict[tuple[str, str], TrainResult] = {}

    def steps(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Names and functions, in order."""
        yield "machine", self._machine
        yield "training on the CPU", lambda: self._train("cpu")
        yield "training on the GPU", lambda: self._train("cuda")
        yield "GPU against CPU", self._compare
        yield "throughput on the CPU", lambda: self._throughput("cpu")
        yield "throughput on the GPU", lambda: self._throughput("cuda")
        yield "engine on the CPU", lambda: self._engines("cpu", ("fp32",))
        yield "engines on the GPU", lambda: self._engines("cuda", ("fp32", "fp16"))
        yield "doctor", self._doctor

    def _machine(self) -> dict[str, Any]:
        import onnxruntime
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        providers = onnxruntime.get_available_providers()
        return {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "gpu": gpu, "providers": providers}

    def _train(self, device: str) -> dict[str, Any]:
        _require(device)
        data = self._folder / "data"
        side = self._size.image_size
        if not data.exists():
            write_dataset(
                data, "disc", n_train=self._size.n_train, n_test_good=20, n_test_per_defect=5, seed=0, size=(side, side)
            )
        figures: dict[str, Any] = {}
        for model in MODELS:
            settings = {"model.name": model, "model.image_size": side, "train.epochs": self._size.epochs}
            settings |= {"train.device": device, "train.ridge": 0.01}
            run = self._folder / f"{model}-{device}"
            result = self._trained[model, device] = train_bundle(data, settings=settings, out=run, runs=self._folder)
            figures |= {f"{model} {stage} s": seconds for stage, seconds in result.seconds.items()}
        return figures

    def _compare(self) -> dict[str, Any]:
        """Image AUROC and threshold of both trainings, evaluated with the reference on the CPU."""
        _require("cuda")
        figures: dict[str, Any] = {}
        for model in MODELS:
            found = {}
            for device in ("cpu", "cuda"):
                with load(self._bundle(model, device).path, engine="reference") as opened:
                    auroc = evaluate(opened, self._folder / "data").to_json()["mean"]["image_auroc"]
                    found[device] = (auroc, opened.thresholds().threshold.value)
            (auroc_cpu, threshold_cpu), (auroc_gpu, threshold_gpu) = found["cpu"], found["cuda"]
            figures[f"{model} image AUROC"] = f"{auroc_gpu:.4f} (CPU {auroc_cpu:.4f})"
            figures[f"{model} threshold"] = f"{threshold_gpu:.4f} (CPU {threshold_cpu:.4f})"
            assert abs(auroc_gpu - auroc_cpu) <= AUROC_TOLERANCE, f"{model}: AUROC {auroc_gpu} against {auroc_cpu}"
            assert abs(threshold_gpu / threshold_cpu - 1) <= THRESHOLD_TOLERANCE, f"{model}: thresholds differ"
        return figures

    def _throughput(self, device: str) -> dict[str, Any]:
        """Images per second of backbone and training step, and the largest difference to float32 as a share of the peak."""
        _require(device)
        import torch

        from edgead.models.detector import TrainingBatch
        from edgead.models.zoo import load_model

        model = load_model(self._bundle(MODELS[1], "cpu")).to(device).train()
        side, count = self._size.image_size, 16
        random = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=random).to(device)
        types = [torch.float32, torch.bfloat16, *([torch.float16] if device == "cuda" else [])]
        figures: dict[str, Any] = {}
        exact = None
        for dtype in types:
            name = str(dtype).removeprefix("torch.")
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):

                def features() -> dict[str, torch.Tensor]:
                    with torch.no_grad():
                        return model.features(images)

                found = {key: value.float() for key, value in features().items()}
                figures[f"backbone {name} images/s"] = round(count / _median_s(features, device, self._size.batches), 1)
                with torch.no_grad():
                    whitened = [level.whitened(found) for level in model.levels]
                classes = torch.zeros(count, dtype=torch.int64, device=device)
                batch = TrainingBatch(whitened, model.codes(), [classes] * len(whitened))

                def step(batch: TrainingBatch = batch) -> None:
                    model.zero_grad()
                    torch.stack(model.loss_terms(batch)).sum().backward()  # type: ignore[no-untyped-call]

                figures[f"flow step {name} images/s"] = round(count / _median_s(step, device, self._size.batches), 1)
            exact = exact or found
            difference = max(float((found[key] - exact[key]).abs().max() / exact[key].abs().max()) for key in exact)
            figures[f"features {name} difference"] = f"{difference:.1e} of the peak"
        return figures

    def _engines(self, device: str, precisions: Sequence[str]) -> dict[str, Any]:
        import onnxruntime

        if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise NotRun("ONNX Runtime has no CUDA provider here: pip install onnxruntime-gpu in place of onnxruntime")
        _require(device)
        bundle = self._bundle(MODELS[0], "cpu").path
        figures: dict[str, Any] = {}
        for precision in precisions:
            options = EngineOptions(device=device, rebuild=True)  # type: ignore[arg-type]
            built = build_engine(bundle, precision, backend="onnxruntime", options=options)  # type: ignore[arg-type]
            assert built.record.fingerprint.precision == precision, built.reason
            figures[f"{precision} largest relative difference"] = f"{built.record.max_relative_difference:.1e}"
            figures[f"{precision} verdict flips"] = built.record.verdict_flips
            with (
                load(bundle, engine="reference") as reference,
                load(bundle, engine=built.name, device=device) as engine,  # type: ignore[arg-type]
            ):
                image = reference.bundle.calibration_images()[0]
                runs = max(10, 5 * self._size.batches)
                cpu_ms, own_ms = time_in_turns(reference.runner, engine.runner, image, runs)
            figures[f"{precision} ms"] = f"{own_ms:.2f} on {engine.runner.device} (reference on the CPU {cpu_ms:.2f})"
        return figures

    def _bundle(self, model: str, device: str) -> Bundle:
        if (model, device) not in self._trained:
            raise NotRun(f"it needs the training of {model} on {device}, which failed")
        return self._trained[model, device].bundle

    def _doctor(self) -> dict[str, Any]:
        bundle = self._bundle(MODELS[0], "cpu").path
        command = [sys.executable, "-m", "edgead", "doctor", str(bundle)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
        return {"last line": done.stdout.strip().splitlines()[-1]}


def _require(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise NotRun("torch finds no GPU on this machine")


def _median_s(call: Callable[[], object], device: str, runs: int) -> float:
    """Median seconds of a call after a warm-up, with the GPU's queue empty before and after."""
    import torch

    times = []
    for _ in range(runs + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def run_steps(check: Check) -> list[Step]:
    """Run every step and print it as it ends; a step that fails does not stop the others."""
    done = []
    for name, function in check.steps():
        step = Step(name)
        started = time.monotonic()
        try:
            step.figures = function()
        except NotRun as error:
            step.outcome, step.reason = "not run", str(error)
        except Exception as error:  # a step that fails, for whatever reason, stops no other and is reported
            step.outcome, step.reason = "failed", str(error) if isinstance(error, PLAIN) else repr(error)
        step.seconds = round(time.monotonic() - started, 1)
        done.append(step)
        print(f"{step.outcome:8} {name} ({step.seconds:.0f} s){': ' if step.reason else ''}{step.reason}", flush=True)
        for key, value in step.figures.items():
            print(f"         {key}: {value}", flush=True)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny images, to try the tool itself")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        steps = run_steps(Check(Path(folder), QUICK if options.quick else Size()))
    if options.json:
        options.json.write_text(json.dumps([asdict(step) for step in steps], indent=1), encoding="utf-8")
    counts = {outcome: sum(step.outcome == outcome for step in steps) for outcome in ("ran", "not run", "failed")}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
