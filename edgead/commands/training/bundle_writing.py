"""A trained model as a bundle: graph, parity check, thresholds, reference and calibration images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.arrays import save_arrays
from edgead.builder.thresholds import HeldOutBatch, summarise, thresholds_from_runner
from edgead.bundle import Bundle, class_bias
from edgead.bundle_files import ALIGNMENT, CALIBRATION, MODEL, REFERENCE, THRESHOLD_IMAGES, WEIGHTS
from edgead.bundle_writer import write_bundle
from edgead.commands.training.alignment import write_alignment
from edgead.commands.training.class_addition import joined_arrays, old_summaries
from edgead.commands.training.defect_sizes import measure_defect_sizes
from edgead.commands.training.mask_rule import fit_mask_rules
from edgead.commands.training.parity_failure import parity_failure
from edgead.commands.training.promise import rate_of
from edgead.commands.training.threshold_images import QUALITY, draw_sheet
from edgead.config import defaults
from edgead.data.dataset import evenly_spaced
from edgead.evaluation.compare import PARITY_LIMIT, compare_outputs, merge
from edgead.evaluation.threshold import class_thresholds, images_to_certify
from edgead.imaging import jpeg_from_rgb
from edgead.manifest import (
    MIN_IMAGES,
    POOLED,
    ClassThresholds,
    Cost,
    GraphIO,
    Manifest,
    NfaRecord,
    Parity,
    Provenance,
)
from edgead.progress import Progress, aside
from edgead.storage import scratch_folder, write_bytes
from edgead.stored_once import header, places_in_graph
from edgead.tiled_runner import TiledRunner

if TYPE_CHECKING:
    from edgead.commands.training.best_form import LeftOut
    from edgead.commands.training.data import TrainingData
    from edgead.config.root import Config
    from edgead.export.onnx_graph import DeployedModel
    from edgead.models.detector import Detector
    from edgead.runner import Outputs

GRAPH_TASK, PARITY_TASK = "Writing the graph", "Comparing the graph with the model"
BATCH = 8
# Tiles of held-out frames that a bundle stores at most: 630 MB at 320 px before compression.
HELD_OUT_INPUTS = 2048
# A prime: the reference images are of different tiles.
STRIDE = 7
MIN_STORED = 24


def write_trained_bundle(
    path: Path,
    model: Detector,
    data: TrainingData,
    config: Config,
    provenance: Provenance,
    progress: Progress,
    left_out: LeftOut | None = None,
    base: Bundle | None = None,
) -> Bundle:
    """Export, check, set the thresholds from held-out good images, and write the bundle.

    The scores of held-out images come from the exported graph itself, not from the cached features it was trained on.
    Those of a closed form are left-out scores, which no graph can give.

    Args:
        path: Folder of the bundle.
        model: Trained model, on the CPU.
        data: Images of the training.
        config: Settings of the training.
        provenance: Record of the model's origin.
        progress: Receiver of notes and progress.
        left_out: Left-out scores of the threshold images, for a model that was fitted on them.
        base: Bundle that got more classes: `data` and `left_out` are those of the new ones, and its own records stay.

    Raises:
        ExportError: If the model cannot be exported.
        CheckFailed: If torch, folded torch and ONNX Runtime disagree.
        StorageError: If the disk is full; an older bundle is unchanged.
    """
    from edgead.engines.onnx_runner import OnnxRunner
    from edgead.export.onnx_graph import DeployedModel

    model.eval()
    with scratch_folder(path.parent, "export") as folder:
        files = {name: folder / name for name in (MODEL, WEIGHTS, CALIBRATION, REFERENCE)}
        progress.update(GRAPH_TASK, 0, 1)
        deployed = DeployedModel(model)
        cost = write_graph(files[MODEL], deployed, data.image_size)
        write_weights(files[WEIGHTS], model, files[MODEL])
        progress.update(GRAPH_TASK, 1, 1)
        if left_out is not None:
            thresholds, nfa = _left_out_thresholds(left_out, data, config, progress, base), None
        else:
            thresholds, nfa = _held_out_thresholds(files[MODEL], model, data, config, progress)
        with OnnxRunner(files[MODEL], threads=0, engine_name="reference") as engine:
            sizes = measure_defect_sizes(engine, data, thresholds[POOLED].threshold.value, progress)
            runner = engine if data.grid is None else TiledRunner(engine, data.grid)
            rules = None
            if nfa is None:
                before = None if base is None else base.manifest
                knows_classes = model.n_classes > 0
                rules = fit_mask_rules(runner, data, thresholds, progress, knows_classes=knows_classes, base=before)
        if sizes is not None:
            progress.note(sizes.describe())
            metrics = {**provenance.metrics, **sizes.metrics()}
            provenance = provenance.model_copy(update={"metrics": metrics})
        images = _reference_images(data, config)
        if base is not None:
            images = np.concatenate([base.reference()["images"], images])
        progress.update(PARITY_TASK, 0, 1)
        parity, outputs = check_parity(model, deployed, files[MODEL], images, thresholds[POOLED].threshold.value)
        progress.update(PARITY_TASK, 1, 1)
        aside(progress, parity_text(parity))
        save_reference(files[REFERENCE], images, outputs)
        _save_good_images(files[CALIBRATION], data, config, left_out, base)
        if data.aligner is not None:
            files[ALIGNMENT] = folder / ALIGNMENT
            write_alignment(files[ALIGNMENT], data.aligner)
        if left_out is not None and base is None:
            files[THRESHOLD_IMAGES] = folder / THRESHOLD_IMAGES
            write_bytes(files[THRESHOLD_IMAGES], _threshold_images(data, left_out, thresholds[POOLED]))
        manifest = Manifest(
            model=config.model.name,
            classes=data.classes,
            preprocessing=data.preprocessing,
            graph=GraphIO(
                map_size=model.head.size,
                class_bias="class_bias" if model.n_classes else None,
                top_positions=None if data.grid is None and left_out is None else model.head.top_k,
            ),
            thresholds=thresholds,
            nfa=nfa,
            mask_rule=None if rules is None else rules.pooled,
            class_mask_rules={} if rules is None else dict(rules.by_class),
            parity=parity,
            cost=cost,
            provenance=provenance,
            sha256={},
        )
        return write_bundle(path, manifest, files)


def _threshold_images(data: TrainingData, left_out: LeftOut, thresholds: ClassThresholds) -> bytes:
    """Picture of the good images that set the threshold, as JPEG."""
    samples = data.split.threshold
    names = [sample.name for sample in samples]
    scale = thresholds.heatmap_scale
    sheet = draw_sheet(names, thresholds.scores, left_out.maps, scale, lambda index: data.overview(samples[index]))
    return jpeg_from_rgb(sheet, QUALITY)


def _held_out_thresholds(
    graph: Path, model: Detector, data: TrainingData, config: Config, progress: Progress
) -> tuple[dict[str, ClassThresholds], NfaRecord | None]:
    from edgead.engines.onnx_runner import OnnxRunner

    names = model.norm_names
    engine = OnnxRunner(graph, threads=0, engine_name="reference")
    with engine if data.grid is None else TiledRunner(engine, data.grid) as runner:
        return thresholds_from_runner(
            runner,
            _batches(data),
            len(data.split.threshold),
            classes=data.classes,
            knows_classes=model.n_classes > 0,
            norms=list(zip(names, model.flow.latent_channels, strict=True)) if names else [],
            false_alarm_rate=config.train.promised_rate,
            confidence=config.train.confidence,
            progress=progress,
        )


def _left_out_thresholds(
    left_out: LeftOut, data: TrainingData, config: Config, progress: Progress, base: Bundle | None
) -> dict[str, ClassThresholds]:
    """Thresholds at the promised rate, or at the smallest that the images certify if none was asked for."""
    names = np.array([sample.class_name for sample in data.split.threshold])
    summaries = known = np.stack(summarise(left_out.scores, left_out.maps, left_out.covered), axis=1)
    if left_out.known_scores is not None and left_out.known_maps is not None:
        known = np.stack(summarise(left_out.known_scores, left_out.known_maps), axis=1)
    confidence = config.train.confidence
    thresholds = {} if base is None else dict(base.manifest.thresholds)
    if base is not None:
        summaries = np.concatenate([old_summaries(base.manifest.thresholds[POOLED]), summaries])
    for name in (POOLED, *(name for name in data.classes if name not in thresholds)):
        values = summaries if name == POOLED else known[names == name]
        usual = config.train.promised_rate
        rate = rate_of(config, len(values))
        if rate > usual and name == POOLED:
            progress.note(
                f"{len(values)} good images certify a false-alarm rate of {rate:.2%}, which is promised instead of "
                f"{usual:.1%}; {images_to_certify(usual, confidence)} certify that."
            )
        thresholds[name] = class_thresholds(
            values[:, 0], values[:, 1], float(np.median(values[:, 2])), rate, confidence
        )
    return thresholds


def parity_text(parity: Parity) -> str:
    """Summary of a parity check, one sentence."""
    return (
        f"Parity on {parity.n_images} reference images, relative to unfolded torch: scores differ by up to "
        f"{parity.scores:.1e} and maps by up to {parity.peaks:.1e} of their peaks (allowed {PARITY_LIMIT:.0e} each), "
        f"{parity.verdict_flips} verdicts flip; of ordinary map values, folded {parity.folded_vs_unfolded:.1e}, ONNX Runtime "
        f"{parity.onnx_vs_unfolded:.1e}."
    )


def write_graph(path: Path, deployed: DeployedModel, image_size: tuple[int, int]) -> Cost:
    """Write the ONNX graph of a model, and return its cost."""
    import onnx

    from edgead.export.maxima import split_maxima
    from edgead.export.onnx_graph import graph_multiply_adds, graph_parameters, onnx_from_model

    proto = onnx_from_model(deployed, image_size)
    # not in a base bundle, whose number of centres the device decides
    split_maxima(proto)
    onnx.save(proto, str(path))
    before, after = deployed.flow_cost()
    return Cost(
        multiply_adds=graph_multiply_adds(proto),
        flow_multiply_adds_unfolded=before,
        flow_multiply_adds_folded=after,
        parameters=graph_parameters(proto),
    )


def write_weights(path: Path, model: Detector, graph: Path) -> None:
    """Write the weights of a model, but for those that its ONNX graph holds; see `stored_once`."""
    import onnx

    from edgead.train.checkpoint import save_tensors

    state = model.state_dict()
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    places = places_in_graph(tensors, onnx.load(str(graph)))
    save_tensors(path, {name: tensor for name, tensor in state.items() if name not in places}, header(places))


def check_parity(
    model: Detector, deployed: DeployedModel, graph: Path, images: NDArray[np.uint8], threshold: float
) -> tuple[Parity, Outputs]:
    """Compare torch, folded torch and ONNX Runtime on the same images.

    Args:
        model: Trained model, not folded.
        deployed: Same model, folded.
        graph: ONNX file of the model.
        images: Images `(N, H, W, 3)`, uint8 RGB.
        threshold: Image threshold, to count the verdicts that flip.

    Returns:
        The record for the manifest, and the outputs of the ONNX graph.

    Raises:
        CheckFailed: If they disagree; the error says why, as far as it can be told.
    """
    import torch

    from edgead.engines.onnx_runner import OnnxRunner
    from edgead.models.torch_runner import TorchRunner

    place = (model, (images.shape[1], images.shape[2]), torch.device("cpu"))
    unfolded, folded = TorchRunner(model, *place), TorchRunner(deployed, *place)
    against_folded, against_onnx, outputs = [], [], []
    with OnnxRunner(graph, threads=0, engine_name="reference") as runner:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            for bias in (None, *_given_classes(model.n_classes, len(batch))):
                truth, exported = unfolded.infer(batch, bias), runner.infer(batch, bias)
                against_folded.append(compare_outputs(truth, folded.infer(batch, bias), threshold))
                against_onnx.append(compare_outputs(truth, exported, threshold))
                if bias is None:
                    outputs.append(exported)
    one, two = merge(against_folded), merge(against_onnx)
    if not (one.is_parity and two.is_parity):
        raise parity_failure(model, one, two)
    parity = Parity(
        folded_vs_unfolded=one.max_relative_difference,
        onnx_vs_unfolded=two.max_relative_difference,
        n_images=one.n_images,
        verdict_flips=one.verdict_flips + two.verdict_flips,
        scores=max(one.score_relative_difference, two.score_relative_difference),
        peaks=max(one.peak_relative_difference, two.peak_relative_difference),
    )
    names = ("anomaly_map", "pred_score", *model.norm_names)
    return parity, {name: np.concatenate([part[name] for part in outputs]) for name in names}


def _given_classes(n_classes: int, n_images: int) -> list[NDArray[np.float32]]:
    """Class bias that assigns the classes to the images in turn, in a list; empty for a single class."""
    if n_classes < 2:
        return []
    names = [str(index) for index in range(n_classes)]
    return [class_bias(names, [names[i % n_classes] for i in range(n_images)])]


def save_reference(path: Path, images: NDArray[np.uint8], outputs: Outputs) -> None:
    """Write reference images and the graph's outputs for them, which every engine is compared to."""
    save_arrays(path, {"images": images, **outputs})


def _reference_images(data: TrainingData, config: Config) -> NDArray[np.uint8]:
    """Read good images, every other one with a pseudo-defect, so that both verdicts are compared."""
    unseen = data.split.early_stop or data.split.threshold
    samples, donors = evenly_spaced(unseen, config.train.reference_images), data.split.fit
    images = []
    for i, sample in enumerate(samples):
        if i % 2:
            images.append(data.read_pseudo(sample, donors[i % len(donors)], (i,)))
        else:
            images.append(data.read_tile(sample, i * STRIDE % data.n_tiles))
    return np.stack(images)


def _save_good_images(
    path: Path, data: TrainingData, config: Config, left_out: LeftOut | None, base: Bundle | None
) -> None:
    """Write images for the device: those for INT8 ranges, held-out ones, and for tiles the whole frames.

    Of a larger input there are fewer, so that the file does not grow with it.
    """
    share = min(1.0, (defaults.IMAGE_SIZE / data.image_size[0]) ** 2)
    fit, count = (
        data.split.fit,
        max(min(MIN_STORED, config.train.calibration_images), round(share * config.train.calibration_images)),
    )
    # of each image another tile, and several of each where the images are few
    inputs = evenly_spaced([(sample, tile) for tile in range(data.n_tiles) for sample in fit], count)
    arrays: dict[str, NDArray[Any]] = {"images": np.stack([data.read_tile(sample, tile) for sample, tile in inputs])}
    if data.grid is not None:
        arrays["overviews"] = np.stack([data.overview(sample) for sample in evenly_spaced(fit, count)])
    wanted = max(min(MIN_STORED, config.train.held_out_images), round(share * config.train.held_out_images))
    kept = max(MIN_IMAGES, min(wanted, HELD_OUT_INPUTS // data.n_tiles))
    rows = evenly_spaced(range(len(data.split.threshold)), kept)
    if config.train.held_out_images and rows:
        held_out = [data.split.threshold[row] for row in rows]
        arrays["held_out"] = np.stack([data.read(sample) for sample in held_out])
        arrays["held_out_classes"] = np.array([data.classes.index(s.class_name) for s in held_out], np.int32)
        if left_out is not None:
            arrays["map_corrections"] = (left_out.maps - left_out.fitted_maps)[rows].astype(np.float16)
            arrays["score_corrections"] = (left_out.scores - left_out.fitted_scores)[rows].astype(np.float32)
    if base is not None:
        arrays = joined_arrays(base, arrays)
    save_arrays(path, arrays)


def _batches(data: TrainingData) -> Iterator[HeldOutBatch]:
    """Held-out images, with their classes."""
    samples = data.split.threshold
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        yield np.stack([data.read(sample) for sample in part]), [sample.class_name for sample in part]
