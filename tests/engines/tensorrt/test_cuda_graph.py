"""A captured engine gives the same numbers, is captured again after any change, and is optional."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from edgead.errors import EngineError

from .conftest import World, make_images
from .test_runner import ALL, assert_right

CAPTURE = ("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate")


@ALL
def test_the_second_batch_is_captured_and_the_rest_replayed(world: World) -> None:
    """The first runs plainly, for TensorRT allocates on it; later ones are one launch each, with fresh numbers."""
    with world.runner() as runner:
        for seed in range(5):
            images = make_images(2, seed)
            assert_right(runner.infer(images), images)
            assert runner.uses_graph == (seed > 0)
        assert runner.graph_note == ""
    assert world.gpu.calls["cudaStreamBeginCapture"] == 1
    assert world.gpu.calls["cudaGraphLaunch"] == 4
    assert world.gpu.trace.count("graph") == 4


def test_another_batch_size_needs_another_graph(world: World) -> None:
    """A graph belongs to its shapes: a change drops it, and the new size is captured on its second batch."""
    with world.runner() as runner:
        for count in (2, 2, 3, 2, 2, 2, 3, 3):
            images = make_images(count, count)
            assert_right(runner.infer(images), images)
    assert world.gpu.calls["cudaGraphInstantiate"] == 3
    assert world.gpu.calls["cudaGraphLaunch"] == 4


@pytest.mark.parametrize("call", CAPTURE)
def test_a_capture_that_fails_is_a_note(world: World, call: str) -> None:
    """The engine continues without a graph, gives the reason, and does not try again."""
    world.gpu.fail = {call: 1}
    with world.runner() as runner:
        for seed in range(3):
            assert_right(runner.infer(make_images(2, seed)), make_images(2, seed))
        assert not runner.uses_graph
        assert call in runner.graph_note
    assert world.gpu.calls["cudaStreamBeginCapture"] == 1


def test_an_engine_that_cannot_be_captured_runs_plainly(world: World) -> None:
    """TensorRT refuses to run within a capture: the capture is ended, its graph freed, the stream usable."""
    with world.runner() as runner:
        runner.infer(make_images(2))
        world.scene.fail = {"execute_async_v3": world.scene.calls["execute_async_v3"] + 1}
        assert_right(runner.infer(make_images(2, 1)), make_images(2, 1))
        assert "captured" in runner.graph_note


def test_a_launch_that_fails_is_an_error_of_that_batch(world: World) -> None:
    """It is no reason to give up: the next batch runs."""
    with world.runner() as runner:
        for _ in range(2):
            runner.infer(make_images(2))
        world.gpu.fail = {"cudaGraphLaunch": 2}
        with pytest.raises(EngineError, match="cudaGraphLaunch failed: cudaErrorInvalidValue"):
            runner.infer(make_images(2))
        assert_right(runner.infer(make_images(2, 3)), make_images(2, 3))


def test_without_the_package_there_is_no_graph(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cuda-bindings the note gives the pip command; the module's old name works too."""
    runtime = sys.modules["cuda.bindings.runtime"]
    for name in ("cuda.bindings.runtime", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    package = ModuleType("cuda")
    monkeypatch.setitem(sys.modules, "cuda", package)
    with world.runner() as runner:
        for seed in range(3):
            assert_right(runner.infer(make_images(2, seed)), make_images(2, seed))
        assert "pip install" in runner.graph_note
    package.cudart = runtime  # type: ignore[attr-defined]
    with world.runner() as runner:
        for seed in range(3):
            runner.infer(make_images(2, seed))
        assert runner.uses_graph


def test_graphs_can_be_switched_off(world: World) -> None:
    """With `use_graph=False` nothing is captured, and the note says why."""
    with world.runner(use_graph=False) as runner:
        for _ in range(3):
            runner.infer(make_images(1))
        assert (runner.uses_graph, runner.graph_note) == (False, "switched off")
    assert world.gpu.calls["cudaStreamBeginCapture"] == 0
