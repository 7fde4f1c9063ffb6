"""Train and export one of anomalib's models, with the Python of the peers' environment: `peer_train.py JOB.json`.

Nothing of edgead is imported. After each stage the result file is written anew, so that a run that is ended early leaves what
it had reached.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
# the models' own choices for a ResNet: strides 4, 8 and 16; PatchCore 8 and 16; of PaDiM's features 100
STAGES = {"padim": ["blocks.1", "blocks.2", "blocks.4"], "patchcore": ["blocks.2", "blocks.4"]}
PADIM_FEATURES = 100
BACKBONE = "tf_efficientnet_lite0"


def main(file: str) -> None:
    """Do the job of a JSON file and write its result beside it."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    out = Path(job["out"])
    result: dict[str, Any] = {"stages": {}, "notes": []}

    def done(stage: str, since: float) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        result["stages"][stage] = {"seconds": time.monotonic() - since, "peak_mb": peak_mb}
        write()

    def write() -> None:
        temporary = out / "result.part"
        temporary.write_text(json.dumps(result), encoding="utf-8")
        temporary.replace(out / "result.json")

    _prepare(job)
    done("import", STARTED)
    since = time.monotonic()
    model, data = _train(job, out, result)
    result["thresholds"] = [float(model.post_processor.image_threshold), float(model.post_processor.pixel_threshold)]
    done("fit", since)
    since = time.monotonic()
    _score(model, job, out)
    done("score", since)
    for name, compression in (("fp32", None), ("int8", "int8_ptq")):
        since = time.monotonic()
        try:
            _export(model, data, job, out / name, compression)
        except Exception as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
            result["notes"].append(f"{name} export failed: {type(error).__name__}: {said[-1][:200]}")
            write()
            traceback.print_exc()
            continue
        done(f"export-{name}", since)


def _prepare(job: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(job["threads"])
    import anomalib.data
    import anomalib.engine
    import anomalib.models  # noqa: F401  (the import is what is measured)


def _train(job: dict[str, Any], out: Path, result: dict[str, Any]) -> tuple[Any, Any]:
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from lightning.pytorch import seed_everything
    from lightning.pytorch.callbacks import Callback

    class Epochs(Callback):  # type: ignore[misc]
        """Counts the epochs that were finished."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            result["epochs"] = int(trainer.current_epoch) + 1

    seed_everything(job["seed"], workers=True)
    is_efficient_ad = job["model"] == "efficientad"
    data = Folder(
        name="parts",
        root=job["data"],
        normal_dir="train/good",
        normal_test_dir="test/good",
        train_batch_size=1 if is_efficient_ad else job["batch"],
        eval_batch_size=job["batch"],
        num_workers=job["workers"],
        val_split_mode="from_train",
        val_split_ratio=job["held_out"],
        seed=job["seed"],
    )
    model = _model(job)
    limits = {} if job["epochs"] is None else {"max_epochs": job["epochs"]}
    if job["model"] == "fastflow" or is_efficient_ad:
        limits["max_time"] = {"minutes": job["train_minutes"]}
    engine = Engine(
        default_root_dir=out / "lightning",
        accelerator="cpu",
        devices=1,
        callbacks=[Epochs()],
        logger=False,
        enable_progress_bar=False,
        **limits,
    )
    engine.fit(model=model, datamodule=data)
    return model.eval(), data


def _model(job: dict[str, Any]) -> Any:
    from anomalib import models

    size = job["size"]
    if job["model"] == "efficientad":
        pre = models.EfficientAd.configure_pre_processor((size, size))
        return models.EfficientAd(imagenet_dir=job["imagenet"], pre_processor=pre, visualizer=False, evaluator=False)
    common = {"pre_processor": _pre_processor(size), "visualizer": False, "evaluator": False}
    if job["model"] == "fastflow":
        model = _with_backbone(lambda: models.Fastflow(backbone="resnet18", pre_trained=False, **common))
    elif job["model"] == "padim":
        model = models.Padim(
            backbone=BACKBONE, layers=STAGES["padim"], pre_trained=False, n_features=PADIM_FEATURES, **common
        )
    else:
        model = models.Patchcore(
            backbone=BACKBONE,
            layers=STAGES["patchcore"],
            pre_trained=False,
            coreset_sampling_ratio=job["coreset"],
            **common,
        )
    _load_weights(model, job["weights"])
    return model


def _with_backbone(build: Callable[[], Any]) -> Any:
    """Build a FastFlow, which takes four backbones by name, with ours in place of its ResNet-18, at the same strides."""
    import timm

    create = timm.create_model

    def ours(name: str, **options: Any) -> Any:
        return create(BACKBONE if name == "resnet18" else name, **options)

    timm.create_model = ours
    try:
        return build()
    finally:
        timm.create_model = create


def _load_weights(model: Any, file: str) -> None:
    """Copy the weights by name; every tensor of the backbone must be there."""
    import torch

    tensors = {name.replace(".", "_"): value for name, value in torch.load(file, weights_only=True).items()}
    extractor = model.model.feature_extractor
    network = getattr(extractor, "feature_extractor", extractor)
    own = network.state_dict()
    network.load_state_dict({name: tensors[name.replace(".", "_")] for name in own})


def _pre_processor(size: int) -> Any:
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    # the mean and deviation that these weights were trained with
    half = [0.5, 0.5, 0.5]
    return PreProcessor(transform=Compose([Resize((size, size), antialias=True), Normalize(half, half)]))


def _score(model: Any, job: dict[str, Any], out: Path) -> None:
    """Raw scores and maps of the test images, before anomalib clips them to 0..1."""
    import numpy as np
    import torch
    from anomalib.data.utils import read_image

    scores, maps = [], []
    with torch.no_grad():
        for path in job["test"]:
            image = read_image(path, as_tensor=True)[None]
            found = model.model(model.pre_processor.transform(image))
            scores.append(float(found.pred_score.reshape(-1)[0]))
            maps.append(found.anomaly_map.reshape(found.anomaly_map.shape[-2:]).numpy().astype(np.float32))
    np.savez(out / "raw.npz", scores=np.array(scores), maps=np.stack(maps))


def _export(model: Any, data: Any, job: dict[str, Any], folder: Path, compression: str | None) -> None:
    from anomalib.deploy import CompressionType

    size = (job["size"], job["size"])
    options = {} if compression is None else {"compression_type": CompressionType(compression), "datamodule": data}
    model.to_openvino(folder, input_size=size, **options)


if __name__ == "__main__":
    main(sys.argv[1])
