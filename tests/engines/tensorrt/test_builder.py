"""Input of TensorRT's builder, and handling of its failures."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from edgead.engines.tensorrt.builder import LoggedBuildError
from edgead.engines.tensorrt.options import WORKSPACE_LIMIT_BYTES, BatchRange, BuildOptions, workspace_limit
from edgead.engines.tensorrt.timing_cache import cache_path
from edgead.errors import EngineBuildError

from .conftest import MACHINE, SIDE, VERSIONS, World

ALL = pytest.mark.parametrize("version", VERSIONS)
FLOW = ("flow/square", "flow/size", "flow/square_1")


@ALL
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_version_builds_every_precision(world: World, precision: str, version: str) -> None:
    """The result has plan, layers and log; progress is reported, or a note says that there is none."""
    world.scene.log = [("WARNING", "a warning"), ("VERBOSE", "chatter")]
    built = world.build(precision, kept=FLOW)
    assert built.plan.startswith(b"PLAN")
    assert [layer.name for layer in built.layers][:1] == ["backbone/cast"]
    assert {layer.precision for layer in built.layers} == {"fp16"}
    assert built.log == ("[WARNING] a warning",)
    config = world.scene.seen.config
    assert config._flags >= ({"FP16"} if version == "8.6.1" and precision != "fp32" else set())
    assert config.profiling_verbosity.name == "DETAILED"
    if version == "8.6.1":
        assert any("no progress" in note for note in world.progress.notes)
    else:
        assert [u[1:] for u in world.progress.updates][-1] == (3, 3, "Building")


@ALL
def test_layers_of_the_flow_are_pinned_only_where_types_do_not_bind(world: World, version: str) -> None:
    """8.x: every floating-point layer of the named nodes, and no shape computation; later: none."""
    built = world.build("fp16", kept=FLOW)
    pinned = {layer.name for layer in world.scene.seen.network._layers if getattr(layer, "precision", None) is not None}
    if version == "8.6.1":
        assert pinned == {"flow/square", "flow/square_1"}
        assert all(layer._output_types for layer in world.scene.seen.network._layers if layer.name in pinned)
        assert "2 layers are pinned to float32." in built.notes
    else:
        assert pinned == set()


@pytest.mark.parametrize("version", ["8.6.1"])
def test_a_node_that_looks_like_a_second_layer_is_not_pinned(world: World) -> None:
    """`flow/square_1` is a node of its own here: pinning `flow/square` leaves it alone."""
    world.build("fp16", kept=("flow/square",))
    layers = world.scene.seen.network._layers
    assert {layer.name for layer in layers if layer.precision is not None} == {"flow/square"}


@pytest.mark.parametrize("version", ["8.6.1"])
def test_pins_that_protect_nothing_are_an_error(world: World) -> None:
    """Names that the network does not know would leave the flow in float16."""
    with pytest.raises(EngineBuildError, match="float16"):
        world.build("fp16", kept=("renamed",))


@ALL
@pytest.mark.parametrize("batch", [(1, 1, 1), (4, 4, 4), (1, 2, 4)])
def test_the_batch_range_is_on_every_input(world: World, batch: tuple[int, int, int]) -> None:
    """Images and class bias get the same range in one profile."""
    world.build(options=BuildOptions(batch=BatchRange(*batch)), classes=2)
    (profile,) = world.scene.seen.config._profiles
    assert profile._shapes["image"] == tuple((n, SIDE, SIDE, 3) for n in batch)
    assert profile._shapes["class_bias"] == tuple((n, 2) for n in batch)


def test_a_batch_range_grows() -> None:
    """From 1, in order."""
    for wrong in ((0, 1, 1), (2, 1, 4), (1, 5, 4)):
        with pytest.raises(EngineBuildError, match="grow"):
            BatchRange(*wrong)


@ALL
@pytest.mark.parametrize("refused", ["Mul"])
def test_a_parser_error_names_node_operator_and_version(world: World, refused: str, version: str) -> None:
    """Also on 8.x, which reports only the node's number."""
    world.scene.refused = refused
    with pytest.raises(EngineBuildError) as caught:
        world.build()
    for part in ("flow/square", "Mul", "no importer for it", "UNSUPPORTED_NODE", version):
        assert part in caught.value.message


@ALL
def test_no_plan_is_an_error_with_tensorrts_own_words(world: World) -> None:
    """The last errors are quoted, the whole log is in the exception."""
    world.scene.log = [("INFO", "line")] * 50
    world.scene.no_plan = ["Could not find any implementation for node conv"]
    with pytest.raises(LoggedBuildError, match="any implementation for node conv") as caught:
        world.build()
    assert len(caught.value.log) == 51
    assert "build log" in caught.value.hint


def test_memory_that_runs_out_has_its_own_hint(world: World) -> None:
    """The hint names workspace and batch."""
    world.scene.no_plan = ["Error Code 2: OutOfMemory (no further information)"]
    with pytest.raises(EngineBuildError) as caught:
        world.build()
    assert "workspace" in caught.value.hint
    assert "batch" in caught.value.hint


@ALL
def test_a_crash_of_the_builder_is_translated(world: World) -> None:
    """Exceptions of the bindings do not reach the user unchanged."""
    world.scene.crash = True
    with pytest.raises(EngineBuildError, match="internal error"):
        world.build()


@ALL
def test_an_interrupt_stops_the_build(world: World, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 10 on TensorRT is asked to stop and waited for; 8.x cannot be, and is left alone at once."""
    entered, leave, stopped = threading.Event(), threading.Event(), []

    def step() -> None:
        entered.set()
        leave.wait(10)
        stopped.append(threading.current_thread())

    world.scene.steps = step
    join = threading.Thread.join

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name == "tensorrt-build" and timeout is not None:
            assert entered.wait(10)
            leave.set()
            if version == "8.6.1":
                join(self, 10)  # so that the test leaves no thread behind
            raise KeyboardInterrupt
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.build()
    if version != "8.6.1":
        assert len(stopped) == 1, "TensorRT went on after it was told to stop"


def test_a_broken_display_does_not_break_the_build(world: World) -> None:
    """Nothing may be raised into TensorRT's threads."""

    def broken(task: str, done: int, total: int, detail: str = "") -> None:
        if detail:
            raise ValueError("no terminal")

    world.progress.update = broken  # type: ignore[method-assign]
    assert world.build().plan


@ALL
def test_options_are_off_until_asked_for(world: World) -> None:
    """Compatibility costs speed; a workspace is always limited."""
    world.build()
    config = world.scene.seen.config
    assert config._pools == {"WORKSPACE": 1024**3}, "a quarter of the GPU's memory"
    assert "VERSION_COMPATIBLE" not in config._flags
    assert config.hardware_compatibility_level is None
    options = BuildOptions(
        version_compatible=True, hardware_compatible=True, optimization_level=2, workspace_bytes=10_000_000
    )
    world.build(options=options)
    config = world.scene.seen.config
    assert config._pools == {"WORKSPACE": 10_000_000}
    assert "VERSION_COMPATIBLE" in config._flags
    assert config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert config.builder_optimization_level == 2


def test_the_workspace_is_never_all_memory() -> None:
    """A quarter, at most 2 GiB; asking for all of it is refused."""
    assert workspace_limit(None, 4 * 1024**3) == 1024**3
    assert workspace_limit(None, 64 * 1024**3) == WORKSPACE_LIMIT_BYTES
    for wanted in (0, 8 * 1024**3):
        with pytest.raises(EngineBuildError, match="all memory"):
            workspace_limit(wanted, 8 * 1024**3)


def test_the_backbone_goes_to_the_dla(world: World) -> None:
    """Layers before the flow that can run there, with the GPU for the rest; the flow stays on the GPU."""
    world.scene.dla_cores, world.scene.on_dla = 2, ("Conv", "Mul")
    built = world.build("fp16", BuildOptions(dla_core=1), kept=FLOW, for_dla=True)
    config = world.scene.seen.config
    assert config._devices == {"backbone/conv": "DLA"}
    assert config.DLA_core == 1
    assert "GPU_FALLBACK" in config._flags
    assert "1 of the 2 layers before the flow run on DLA core 1." in built.notes
    assert json.loads(built.plan[4:])["dla"] == 1


@pytest.mark.parametrize(
    ("cores", "on_dla", "precision", "batch", "message"),
    [
        (0, ("Conv",), "fp16", (1, 1, 1), "no deep-learning accelerator"),
        (1, ("Conv",), "fp16", (1, 1, 1), "cores 0 to 0"),
        (2, ("Conv",), "int8", (1, 1, 1), "calibration cache"),
        (2, ("Conv",), "fp32", (1, 1, 1), "float16"),
        (2, ("Conv",), "fp16", (1, 1, 2), "fixed number"),
        (2, ("Mul",), "fp16", (1, 1, 1), "None of the 2 layers"),
    ],
)
def test_what_the_dla_cannot_do_is_refused(
    world: World, cores: int, on_dla: tuple[str, ...], precision: str, batch: Any, message: str
) -> None:
    """No core, a wrong core, a wrong precision, a range of batches, or no layer for it: each with its reason."""
    world.scene.dla_cores, world.scene.on_dla = cores, on_dla
    with pytest.raises(EngineBuildError, match=message):
        world.build(precision, BuildOptions(dla_core=1, batch=BatchRange(*batch)), kept=FLOW, for_dla=True)


@ALL
def test_timings_are_reused(world: World, tmp_path: Path) -> None:
    """The second build gets what the first one measured; a damaged or foreign file is ignored with a note."""
    options = BuildOptions(timing_cache=tmp_path)
    assert not [note for note in world.build(options=options).notes if "cache" in note]
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert content.endswith(b"CACHEtimings")
    assert not [note for note in world.build(options=options).notes if "cache" in note]
    assert world.scene.seen.config._cache._content == b"CACHEtimings"
    for damaged in (content[:-1], b"", b"{}\nx", b"[1]\nx", content.replace(b'"gpu": "a"', b'"gpu": "z"')):
        file.write_bytes(damaged)
        assert any("was ignored" in note for note in world.build(options=options).notes)
        assert file.read_bytes() == content


def test_a_cache_that_tensorrt_refuses_or_that_cannot_be_kept_is_a_note(world: World, tmp_path: Path) -> None:
    """A build does not fail over its cache."""
    path = cache_path(tmp_path, MACHINE)
    header = {"format": 1, "machine": MACHINE, "sha256": hashlib.sha256(b"other").hexdigest()}
    path.write_bytes(json.dumps(header).encode() + b"\nother")
    assert any(
        "TensorRT rejected it" in note for note in world.build(options=BuildOptions(timing_cache=tmp_path)).notes
    )
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    assert any("was not stored" in note for note in world.build(options=BuildOptions(timing_cache=blocked)).notes)


def test_another_power_mode_has_another_cache(tmp_path: Path) -> None:
    """The file's name follows from everything that timings depend on."""
    names = {cache_path(tmp_path, {"gpu": "a", "power_mode": mode}).name for mode in ("0", "1", "0")}
    assert len(names) == 2
