"""Closed-form model of a bundle, opened with numpy and ONNX Runtime so that it can be changed on the device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.errors import BundleError, ConfigError
from edgead.graph_file import constants_of
from edgead.stored_once import KEY
from edgead.teach import centres as centre_fits
from edgead.teach.form import Floats
from edgead.teach.maps import Maps, TriangularMaps, WholeMaps
from edgead.teach.scoring import pooled, resample, top_count

_BLOCK = 25


@dataclass
class Level:
    """Level of a model, with what was changed of it.

    Attributes:
        index: Number of the level.
        maps: Linear maps of the positions, as stored; None for centres.
        centres: Centres `(K, C)` of whitened features; None for a map per position.
        mean, gain: Constants `(h, w)` that standardise the energies.
        rows: Changed maps `(C, C)` by position.
        in_graph: Names of the graph's constants that hold the maps, where the file of weights leaves them out: triangular ones
            in blocks.
    """

    index: int
    maps: Maps | None
    centres: Floats | None
    mean: Floats
    gain: Floats
    rows: dict[int, Floats] = field(default_factory=dict)
    in_graph: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels C."""
        if self.centres is not None:
            return int(self.centres.shape[1])
        assert self.maps is not None
        return self.maps.channels

    def row(self, position: int) -> Floats:
        """Linear map `(C, C)` of a position as it is now."""
        assert self.maps is not None
        changed = self.rows.get(position)
        return self.maps.row(position) if changed is None else changed

    def energies(self, inputs: NDArray[Any], positions: Sequence[int] | NDArray[np.int64] | None = None) -> Floats:
        """Energies `(N, p)` of inputs `(N, p, C)` at some positions; None = at all P, in their order."""
        if self.centres is not None:
            rows = inputs.astype(np.float32, copy=False).reshape(-1, self.channels)
            return np.asarray(
                centre_fits.nearest(rows, self.centres)[1].reshape(len(inputs), -1) / self.channels, np.float32
            )
        assert self.maps is not None
        places = np.arange(inputs.shape[1]) if positions is None else np.asarray(positions, np.int64)
        found = np.empty((len(inputs), len(places)), np.float32)
        for start in range(0, len(places), _BLOCK):
            part = places[start : start + _BLOCK]
            x = inputs[:, start : start + _BLOCK].astype(np.float32, copy=False).transpose(1, 0, 2)
            # a slice of the stored maps is no copy
            norms = self.maps.norms(x, slice(start, start + len(part)) if positions is None else part)
            for own, position in enumerate(part.tolist()):
                if position in self.rows:
                    norms[own] = np.square(x[own] @ self.rows[position].T).sum(axis=1)
            found[:, start : start + _BLOCK] = norms.T / self.channels
        return found


@dataclass
class ClosedForm:
    """A model whose maps are squared norms after one linear map, or distances to centres.

    Attributes:
        levels: Its levels.
        map_size: Size `(h, w)` of the anomaly map.
        top: Number of map values behind a score.
    """

    levels: list[Level]
    map_size: tuple[int, int]
    top: int

    def energies(self, inputs: Sequence[NDArray[Any]]) -> list[Floats]:
        """Energies `(N, P)` of each level, from its inputs `(N, P, C)`."""
        return [level.energies(x) for level, x in zip(self.levels, inputs, strict=True)]

    def maps(self, energies: Sequence[Floats]) -> Floats:
        """Anomaly maps `(N, h, w)` from the energies `(N, P)` of each level."""
        total = np.zeros((len(energies[0]), *self.map_size), np.float32)
        for level, own in zip(self.levels, energies, strict=True):
            total += resample((own.reshape(-1, *level.mean.shape) - level.mean) * level.gain, self.map_size)
        return total

    def scores(self, energies: Sequence[Floats]) -> NDArray[np.float64]:
        """Scores `(N,)` from the energies `(N, P)` of each level."""
        return pooled(self.maps(energies), self.top / (self.map_size[0] * self.map_size[1]))


def open_closed_form(bundle: Bundle) -> ClosedForm:
    """Constants of a bundle's model, from its weights.

    Raises:
        ConfigError: If the model has no closed form, judges a frame in tiles, or parts of several classes.
    """
    manifest = bundle.manifest
    model = manifest.provenance.config.get("model", {})
    reason = None
    if len(manifest.classes) > 1:
        reason = "it judges parts of several classes"
    elif manifest.model != "usf" or model.get("blocks") or manifest.nfa is not None or model.get("likelihood_map"):
        reason = f"it is {manifest.model} with trained couplings or another score"
    elif manifest.preprocessing.views is not None:
        reason = "it judges crops or tiles of a frame"
    elif model.get("composition"):
        reason = "it judges how much of each kind of thing an image shows"
    stored, in_graph = _read(bundle) if reason is None else ({}, {})
    levels: list[Level] = []
    while reason is None and f"head.mean_{len(levels)}" in stored:
        index = len(levels)
        name = f"_levels.{index}.start.weight"
        centres, weight = stored.get(f"_levels.{index}.centres"), stored.get(name)
        maps: Maps | None = None
        held = in_graph.get(name, [])
        if centres is None and len(held) > 1:
            maps = TriangularMaps([value for _, value in held])
        elif centres is None and weight is not None and weight.ndim == 3:
            maps = WholeMaps(weight)
        elif centres is None:
            reason = "it has a scale per channel in place of a closed form"
            break
        levels.append(
            Level(
                index, maps, None if centres is None else np.array(centres),
                np.array(stored[f"head.mean_{index}"]), np.array(stored[f"head.gain_{index}"]),
                in_graph=() if centres is not None else tuple(constant for constant, _ in held),
            )
        )  # fmt: skip
    if reason is not None or not levels:
        raise ConfigError(
            f"The model of {bundle.path} cannot learn from a picture: {reason or 'its weights have no closed form'}.",
            hint="Models of one class that `edgead train` makes with model.couplings=never and without tiles can, and those of "
            "`edgead teach`. "
            "Train this one again with the picture: edgead train --from-dataset SET",
        )
    size = manifest.graph.map_size
    return ClosedForm(levels, size, manifest.graph.top_positions or top_count(size, float(model["top_fraction"])))


def _read(
    bundle: Bundle,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, list[tuple[str, NDArray[np.float32]]]]]:
    """Arrays of the levels and the head by name, and those that the graph holds, by the names of the constants there.

    See `stored_once`. Large arrays stay on disk until they are used.
    """
    path = bundle.weights_path
    header, start = read_header(path)
    found: dict[str, NDArray[np.float32]] = {
        name: np.memmap(path, "<f4", "r", start + entry["data_offsets"][0], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32" and int(np.prod(entry["shape"])) > 0
    }
    stated = json.loads(header.get("__metadata__", {}).get(KEY, "{}"))
    places = {name: names for name, names in stated.items() if name.startswith(("_levels.", "head."))}
    in_graph: dict[str, list[tuple[str, NDArray[np.float32]]]] = {}
    if places:
        try:
            constants = constants_of(bundle.model_path)
            for name, names in places.items():
                read = [(one, constants[one].read(bundle.model_path)) for one in names]
                in_graph[name] = read
                if len(read) == 1:
                    found[name] = read[0][1]
        except (KeyError, ValueError) as error:
            raise BundleError(
                f"{bundle.model_path} does not hold the constants that {path.name} names: {error}.",
                hint="Copy the bundle again from where it was trained, or train it again.",
            ) from error
    return found, in_graph


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Header of a file in the format of safetensors, and where its data begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return header, 8 + length
