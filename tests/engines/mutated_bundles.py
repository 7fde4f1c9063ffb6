"""Judge mutated bundles one after another, and print a line of JSON for each: run as a process, so that a crash is seen.

Arguments: the folder of a bundle, an empty folder, the first seed and the number of bundles.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgead.bundle import open_bundle
from edgead.bundle_files import MANIFEST, MODEL, REFERENCE, file_digest
from edgead.commands.bundle import verify_bundle
from edgead.engines.opening import open_with_thresholds
from edgead.errors import EdgeadError

from ..resealing import rewrite
from .hostile_graphs import REFUSED, WRONG, changed

ODD: tuple[Any, ...] = (0, -1, 1, 7, 1e300, -1e300, 2**70, "", "x", None, True, [], {}, [1], 0.5, 65)


def mutate_manifest(folder: Path, draw: random.Random) -> str:
    """Replace, remove or copy one value somewhere in the manifest."""
    told = ""

    def change(content: dict[str, Any]) -> None:
        nonlocal told
        places: list[tuple[Any, Any, str]] = []

        def collect(value: Any, path: str) -> None:
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in list(items):
                if path != ".provenance" and path != ".sha256":
                    places.append((value, key, f"{path}.{key}"))
                    collect(inner, f"{path}.{key}")

        collect(content, "")
        parent, key, path = draw.choice(places)
        kind = draw.choice(("odd", "odd", "scaled", "removed"))
        told = f"{kind} {path}"
        if kind == "removed":
            del parent[key]
        elif kind == "scaled" and isinstance(parent[key], (int, float)):
            parent[key] *= draw.choice((-1, 0, 2, 1000))
        else:
            parent[key] = draw.choice(ODD)

    rewrite(folder / MANIFEST, change)
    return told


def mutate_graph(folder: Path, draw: random.Random) -> str:
    """One of the named hostile changes, or a small random one."""
    model = onnx.load(str(folder / MODEL))
    kind = draw.choice(("named", "node", "attribute", "weight", "wires", "shape", "bytes"))
    if kind == "named":
        kind = draw.choice([*REFUSED, *WRONG])
        model = changed(model, {**REFUSED, **WRONG}[kind][0])
    elif kind == "node":
        del model.graph.node[draw.randrange(len(model.graph.node))]
    elif kind == "attribute":
        node = draw.choice([node for node in model.graph.node if node.attribute])
        one = draw.choice(list(node.attribute))
        one.i = draw.choice((-1, 0, 1, 2**40))
        one.ints[:] = [draw.choice((-1, 0, 1, 3, 2**40)) for _ in one.ints]
    elif kind == "weight":
        tensor = draw.choice([tensor for tensor in model.graph.initializer if tensor.raw_data])
        raw = bytearray(tensor.raw_data)
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        tensor.raw_data = bytes(raw)
    elif kind == "wires":
        node = draw.choice(list(model.graph.node))
        node.input[draw.randrange(len(node.input))] = draw.choice(list(draw.choice(list(model.graph.node)).output))
    elif kind == "shape":
        tensor = draw.choice(list(model.graph.initializer))
        tensor.dims[:] = [draw.choice((0, 1, 3, 2**40, -1)) for _ in tensor.dims]
    content = bytearray(model.SerializeToString())
    if kind == "bytes":
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
    _replace(folder, MODEL, bytes(content))
    return f"graph {kind}"


def mutate_arrays(folder: Path, draw: random.Random) -> str:
    """Cut, overwrite or edit an array file."""
    name = REFERENCE
    content = bytearray((folder / name).read_bytes())
    kind = draw.choice(("cut", "bytes", "edited"))
    if kind == "cut":
        content = content[: draw.randrange(len(content))]
    elif kind == "bytes":
        for _ in range(draw.randrange(1, 9)):
            content[draw.randrange(len(content))] = draw.randrange(256)
    else:
        with np.load(folder / name) as arrays:
            values = {key: arrays[key] for key in arrays}
        key = draw.choice(sorted(values))
        kind = draw.choice(("gone", "reversed type", "nan", "short", "flat"))
        if kind == "gone":
            del values[key]
        else:
            values[key] = {
                "reversed type": values[key].astype(np.float64),
                "nan": np.full_like(values[key].astype(np.float32), np.nan),
                "short": values[key][:0],
                "flat": values[key].reshape(-1),
            }[kind]
        np.savez_compressed(folder / name, **values)
        content = bytearray((folder / name).read_bytes())
    _replace(folder, name, bytes(content))
    return f"arrays {kind}"


def _replace(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    digest = file_digest(folder / name)
    rewrite(folder / MANIFEST, lambda manifest: manifest["sha256"].update({name: digest}))


def judge(folder: Path, images: np.ndarray) -> dict[str, Any]:
    """Verify, open and judge as every command does; the exit code that the command would have."""
    try:
        verify_bundle(folder)
        runner, own = open_with_thresholds(open_bundle(folder), None, threads=1)
        with runner:
            scores = runner.infer(images)["pred_score"]
        return {"code": 0, "scores": scores.tolist(), "threshold": own.thresholds().threshold.value}
    except EdgeadError as error:
        return {"code": error.exit_code, "message": error.message}
    except Exception as error:
        return {"code": 3, "message": repr(error)}


def main() -> None:
    source, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    first, count = int(sys.argv[3]), int(sys.argv[4])
    images = open_bundle(source).reference()["images"]
    mutations: tuple[Callable[[Path, random.Random], str], ...] = (mutate_manifest, mutate_graph, mutate_arrays)
    for seed in range(first, first + count):
        draw = random.Random(seed)
        folder = scratch / str(seed)
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("engines"))
        told = mutations[seed % len(mutations)](folder, draw)
        print(json.dumps({"seed": seed, "mutation": told}), flush=True)
        print(json.dumps(judge(folder, images)), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
