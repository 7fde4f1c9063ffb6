"""Calibration of a float32 graph on good images: its INT8 forms and the sensitivity of its layers."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgead.engines.onnx_session import feed_of, open_session
from edgead.precision.bias_correction import bias_errors
from edgead.precision.centre import centre, centred_tensors
from edgead.precision.channels_last import keep_channels_last
from edgead.precision.cost import node_multiply_adds
from edgead.precision.equalise import equalise
from edgead.precision.image_input import read_integers
from edgead.precision.int8 import (
    OUTLIERS,
    Int8Options,
    position_products,
    quantisable_nodes,
    tensors_to_calibrate,
    to_int8,
)
from edgead.precision.ranges import TensorStatistics, choose_range, collect_statistics
from edgead.precision.recipe import Recipe
from edgead.precision.scalars import use_scalars
from edgead.precision.second_order import second_order_weights
from edgead.triangles import join_triangles

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LayerError:
    """Effect of INT8 in one layer alone on the anomaly maps.

    Attributes:
        name: Name of the graph's node.
        error: 1 - correlation of all map values with the float32 ones, in the mean of the groups of images.
    """

    name: str
    error: float


@dataclass(frozen=True)
class _Rounding:
    """Integer weights of convolutions by node, the nearest ones of those left out, and the mean errors to correct."""

    weights: Mapping[str, NDArray[np.int8]]
    bias_errors: Mapping[str, NDArray[np.float32]]


class Quantiser:
    """A calibrated graph with its INT8 form for any choice of layers.

    Args:
        model: Float32 model from a bundle.
        images: Good images `(N, H, W, 3)` uint8 RGB, of which the recipe's number is used, spread evenly.
        recipe: Calibration recipe.
        options: Integer layout of the backend.
        report: Called with the task name, the number of steps done and the total.
        threads: Number of CPU threads of ONNX Runtime; 0 = one per core.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        images: NDArray[np.uint8],
        recipe: Recipe,
        options: Int8Options,
        report: OnProgress,
        *,
        threads: int = 0,
    ) -> None:
        self.recipe = recipe
        self.options = options
        self.threads = threads
        self.report = report
        if options.layout == "onnxruntime":
            # integer products of whole matrices: the blocks of `triangles` cost more operators than they save
            whole = onnx.ModelProto()
            whole.CopyFrom(model)
            join_triangles(whole)
            model = whole
        self.costs = node_multiply_adds(model)
        # scalars and rescaled weights do not change node names: costs and choices are valid for every form
        self.model = use_scalars(model)
        if options.layout == "onnxruntime":
            self.model = keep_channels_last(read_integers(self.model))
        chosen = images[np.linspace(0, len(images) - 1, min(recipe.images, len(images))).round().astype(int)]
        statistics = self._collect(chosen)
        if recipe.equalise != "none":
            margin = recipe.margin if recipe.equalise == "all" else float("inf")
            self.model = equalise(self.model, statistics, margin=margin, balance=recipe.balance)
            statistics = self._collect(chosen)
        symmetric = options.layout == "tensorrt"
        to_move = centred_tensors(self.model) if symmetric and recipe.centre else []
        self.ranges = {
            name: choose_range(
                found, recipe.method, percentile=recipe.percentile, symmetric=symmetric and name not in to_move
            )
            for name, found in statistics.items()
        }
        self.model, moved = centre(self.model, {name: self.ranges[name] for name in to_move})
        self.ranges |= moved
        self.n_images = len(chosen)
        self.products = {} if symmetric else position_products(model)
        self.channel_reach = {
            name: np.maximum(-statistics[name].channel_low, statistics[name].channel_high)
            for name in self.products.values()
        }
        self.candidates = [
            name
            for name in [*quantisable_nodes(model), *self.products]
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in recipe.keep_float)
        ]
        self._roundings = self._ways_to_round(chosen)
        self._rounding = self._roundings[0]

    def _ways_to_round(self, images: NDArray[np.uint8]) -> list[_Rounding]:
        nodes = [name for name in self.candidates if name not in self.products]
        weights: list[Mapping[str, NDArray[np.int8]]] = [{}]
        if self.recipe.rounding == "second_order":
            weights.insert(
                0,
                second_order_weights(
                    self.model, self.ranges, nodes, self.options, images, centred=self.recipe.bias_correction,
                    threads=self.threads, on_image=self._steps("Rounding", len(images)),
                ),
            )  # fmt: skip
        if not self.recipe.bias_correction:
            return [_Rounding(rounded, {}) for rounded in weights]
        step = self._steps("Bias correction", len(weights) * len(images))
        return [
            _Rounding(
                rounded,
                bias_errors(
                    self.model, self.ranges, nodes, self.options, images, rounded=rounded, threads=self.threads,
                    on_image=step,
                ),
            )
            for rounded in weights
        ]  # fmt: skip

    def graph(self, kept: Collection[str] = ()) -> onnx.ModelProto:
        """INT8 form of the graph in which the layers `kept` stay in float32."""
        return self._lowered([name for name in self.candidates if name not in set(kept)])

    def coverage(self, kept: Collection[str] = ()) -> float:
        """Share of the graph's multiply-adds computed in integers."""
        covered = sum(self.costs.get(name, 0) for name in self.candidates if name not in set(kept))
        return covered / max(sum(self.costs.values()), 1)

    def sensitivity(self, *groups: NDArray[np.uint8]) -> list[LayerError]:
        """Effect of each layer alone on the anomaly maps of groups of images `(N, H, W, 3)`, worst first.

        Groups count alike: the maps of defects differ by so much that those of good images, which set the threshold, would not
        count among them.
        """
        references = [self._maps(self.model, images) for images in groups]
        errors = []
        for done, name in enumerate(self.candidates, start=1):
            errors.append(LayerError(name, self._effect(self._lowered([name]), groups, references)))
            self.report("Sensitivity of layers", done, len(self.candidates))
        return sorted(errors, key=lambda layer: -layer.error)

    def choose_rounding(self, kept: Collection[str], *groups: NDArray[np.uint8]) -> bool:
        """Keep the rounding of weights with which the graph changes the maps of these groups of images less.

        Args:
            kept: Layers that stay in float32.
            groups: Images `(N, H, W, 3)`, see `sensitivity`.

        Returns:
            Whether weights are rounded to second order.
        """
        references = [self._maps(self.model, images) for images in groups]
        names = [name for name in self.candidates if name not in set(kept)]
        effects = [self._effect(self._lowered(names, one), groups, references) for one in self._roundings]
        self._rounding = self._roundings[int(np.argmin(effects))]
        return self._rounding is not self._roundings[-1]

    def _effect(
        self, model: onnx.ModelProto, groups: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.float32]]
    ) -> float:
        maps = [self._maps(model, images) for images in groups]
        return float(np.mean([_map_error(*both) for both in zip(references, maps, strict=True)]))

    def outliers(self, errors: Sequence[LayerError]) -> list[str]:
        """Layers with a far larger error than the others, worst first, as far as the minimum coverage allows."""
        medians = self.recipe.outlier or OUTLIERS[self.options.layout]
        limit = medians * float(np.median([layer.error for layer in errors])) if errors else 0.0
        kept: list[str] = []
        for layer in errors:
            if layer.error > limit and self.coverage([*kept, layer.name]) >= self.recipe.min_coverage:
                kept.append(layer.name)
        return kept

    def _lowered(self, names: Sequence[str], rounding: _Rounding | None = None) -> onnx.ModelProto:
        chosen = rounding or self._rounding
        return to_int8(
            self.model, self.ranges, names, self.options, self.channel_reach, chosen.bias_errors, chosen.weights
        )

    def _steps(self, task: str, total: int) -> Callable[[], None]:
        """A function that reports one more step of a task each time."""
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self.report(task, done, total)

        return step

    def _collect(self, images: NDArray[np.uint8]) -> dict[str, TensorStatistics]:
        return collect_statistics(
            self.model,
            tensors_to_calibrate(self.model),
            images,
            channels_last=set(position_products(self.model).values()),
            threads=self.threads,
            on_image=self._steps("Calibration", 2 * len(images)),
        )

    def _maps(self, model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        session = open_session(model.SerializeToString(), self.threads)
        maps = [session.run(["anomaly_map"], feed_of(session, images[i : i + 1]))[0] for i in range(len(images))]
        return np.concatenate(maps)


def _map_error(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if not np.isfinite(other).all():
        return 1.0
    correlation = float(np.corrcoef(reference.ravel(), other.ravel())[0, 1])
    return 1.0 - correlation if np.isfinite(correlation) else 1.0
