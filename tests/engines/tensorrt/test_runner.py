"""A runner on fakes: right numbers in the right order, everything freed, whatever fails."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgead.engines.tensorrt.options import BuildOptions
from edgead.engines.tensorrt.runner import TensorRTRunner
from edgead.errors import EngineError, EngineMismatchError, MissingDependencyError, ShapeError
from edgead.runner import Outputs, Runner

from .conftest import SIDE, VERSIONS, World, make_images
from .fake_engine import expected_outputs

ALL = pytest.mark.parametrize("version", VERSIONS)


def assert_right(outputs: Outputs, images: Any, bias: Any = None) -> None:
    for name, expected in expected_outputs(images, bias).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-5)
        assert outputs[name].dtype == np.float32


@ALL
def test_it_keeps_the_contract_of_a_runner(world: World) -> None:
    """Specs, name and numbers; the arrays stay the caller's when the buffers are used again and freed."""
    images, others = make_images(2), make_images(2, seed=1)
    with world.runner() as runner:
        assert isinstance(runner, Runner)
        assert (runner.input_spec.shape, runner.input_spec.dtype) == ((None, SIDE, SIDE, 3), "uint8")
        assert {s.name: s.shape for s in runner.output_specs} == {"anomaly_map": (None, 4, 4), "pred_score": (None,)}
        assert (runner.engine_name, runner.batch_range, runner.gpu_ms) == ("tensorrt-fp32", (1, 4), None)
        first = runner.infer(images)
        for _ in range(4):
            assert_right(runner.infer(others), others)
        assert runner.gpu_ms is not None
        assert runner.gpu_ms > 0
    assert_right(first, images)


@ALL
@pytest.mark.parametrize("batch", [(4, 4, 4), (2, 2, 4), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_any_number_of_images_is_taken(world: World, batch: tuple[int, int, int], count: int) -> None:
    """Fewer than the engine's least are padded and cut, more than its most are run in parts, in order."""
    images = make_images(count)
    with world.runner(batch) as runner:
        runner.infer(255 - make_images(4))  # what padding must not leave behind in the result
        assert_right(runner.infer(images), images)


def test_padding_is_black(world: World) -> None:
    """Images that an earlier batch left in the buffer are overwritten with zeros."""
    with world.runner((4, 4, 4)) as runner:
        runner.infer(make_images(4))
        runner.infer(make_images(1))
    assert not world.scene.images[1:].any()
    assert world.scene.images[0].any()


@ALL
def test_the_class_bias_reaches_the_engine(world: World) -> None:
    """The bias is a separate input that is split along with the images; zeros by default."""
    images = make_images(6)
    bias = np.arange(12, dtype=np.float32).reshape(6, 2)
    with world.runner(classes=2) as runner:
        assert_right(runner.infer(images, bias), images, bias)
        assert_right(runner.infer(images), images)
        with pytest.raises(ShapeError, match="class_bias"):
            runner.infer(images, bias[:, :1])


def test_a_model_without_classes_ignores_the_bias(world: World) -> None:
    """A bias changes nothing, as the contract of a runner requires."""
    with world.runner() as runner:
        assert_right(runner.infer(make_images(1), np.full((1, 3), 9, np.float32)), make_images(1))


@pytest.mark.parametrize("shape", [(1, 8, SIDE, 3), (SIDE, SIDE, 3), (0, SIDE, SIDE, 3), (1, SIDE, SIDE, 4)])
def test_other_images_are_refused(world: World, shape: tuple[int, ...]) -> None:
    """Wrong sizes are a ShapeError, other types an EngineError, and the runner still works."""
    with world.runner() as runner:
        with pytest.raises(ShapeError):
            runner.infer(np.zeros(shape, np.uint8))
        with pytest.raises(EngineError, match="float32"):
            runner.infer(make_images(1).astype(np.float32))  # type: ignore[arg-type]
        assert_right(runner.infer(make_images(1)), make_images(1))


def test_copies_are_queued_around_the_computation(world: World) -> None:
    """Own memory: in, compute, out, for every input and output; shared memory: no copy at all."""
    with world.runner(classes=2, use_graph=False) as runner:
        runner.infer(make_images(2))
    expected = ["event", "compute", "event", "event"]
    if not world.gpu.integrated:
        expected = ["htod", "htod", "event", "compute", "event", "dtoh", "dtoh", "event"]
    assert world.gpu.trace == expected
    assert world.gpu.calls["mem_alloc"] == (0 if world.gpu.integrated else 4)


@ALL
def test_it_works_from_other_threads(world: World) -> None:
    """Created in one thread, called by two at once, closed by another: every batch gets its own numbers."""
    runner = world.runner()

    def infer(seeds: range) -> None:
        for seed in seeds:
            images = make_images(2, seed)
            assert_right(runner.infer(images), images)

    in_threads(lambda: infer(range(20)), lambda: infer(range(20, 40)))
    in_threads(runner.close)
    assert not any(world.gpu.live.values())


def test_closing_waits_for_a_running_batch(world: World) -> None:
    """Nothing is freed under running work, and a second close does nothing; afterwards every call is refused."""
    waiting, proceed = threading.Event(), threading.Event()
    runner = world.runner(use_graph=False)
    call = world.gpu.call

    def slow(name: str, *rest: Any) -> None:
        call(name, *rest)
        if name == "wait":
            waiting.set()
            assert proceed.wait(10)

    world.gpu.call = slow  # type: ignore[method-assign]

    def infer() -> None:
        assert_right(runner.infer(make_images(1)), make_images(1))

    def close() -> None:
        assert waiting.wait(10)
        closing = threading.Thread(target=runner.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        assert world.gpu.live["execution context"] == 1
        proceed.set()
        closing.join(10)
        assert not closing.is_alive()

    in_threads(infer, close)
    runner.close()
    assert world.gpu.trace.count("compute") == 1
    with pytest.raises(EngineError, match="closed"):
        runner.infer(make_images(1))


CONSTRUCTION = ("retain", "push", "Stream", "Event", "pagelocked_empty", "mem_alloc", "get_device_pointer")


@pytest.mark.parametrize("call", CONSTRUCTION)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_error_half_way_through_construction_leaves_nothing(world: World, call: str, number: int) -> None:
    """Whichever CUDA call fails, everything created before it is freed; the fixture checks."""
    if call == "push" and number > 1:
        pytest.skip("the second push is that of closing")
    plan = world.build().plan
    world.gpu.fail = {call: number}
    try:
        world.runner_of(plan).close()
    except EngineError:
        assert world.gpu.calls[call] == number
    else:
        assert world.gpu.calls[call] < number
    if call in ("pagelocked_empty", "mem_alloc") and world.gpu.calls[call] >= number:
        world.gpu.fail = {call: world.gpu.calls[call] + 1}
        with pytest.raises(EngineError, match="memory ran out"):
            world.runner_of(plan)


@ALL
@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("create_execution_context", 1),
        ("infer_shapes", 1),
        *(("set_input_shape", number) for number in (1, 2)),
        *(("set_tensor_address", number) for number in (1, 2, 3, 4)),
    ],
)
def test_a_refusal_of_tensorrt_while_loading_leaves_nothing(world: World, call: str, number: int) -> None:
    """The same for TensorRT's own refusals, which are no exceptions."""
    plan = world.build(classes=2).plan
    world.scene.fail = {call: number}
    with pytest.raises(EngineError):
        world.runner_of(plan)
    assert world.scene.calls[call] == number


@pytest.mark.parametrize("call", ["htod", "dtoh", "wait", "execute_async_v3", "set_input_shape", "infer_shapes"])
def test_a_failed_batch_does_not_block_the_next(world: World, call: str) -> None:
    """Later batches are taken, and their numbers are right."""
    if world.gpu.integrated and call in ("htod", "dtoh"):
        pytest.skip("shared memory is not copied")
    with world.runner(use_graph=False) as runner:
        assert_right(runner.infer(make_images(2)), make_images(2))
        world.gpu.fail = {call: world.gpu.calls[call] + 2}
        world.scene.fail = {call: world.scene.calls[call] + 2}
        failures = 0
        for seed in range(6):
            images = make_images(1 + seed % 2, seed)
            try:
                assert_right(runner.infer(images), images)
            except EngineError:
                failures += 1
        assert failures == 1
        assert_right(runner.infer(make_images(9)), make_images(9))


def test_a_batch_that_could_not_be_started_leaves_nothing_queued(world: World) -> None:
    """Copies that were queued before the refusal are waited for, since their buffers are used again."""
    with world.runner(use_graph=False) as runner:
        world.scene.fail = {"execute_async_v3": 1}
        with pytest.raises(EngineError, match="TensorRT failed"):
            runner.infer(make_images(2))
        assert not any(queue.waiting for queue in world.gpu.streams.values())


def test_an_error_in_one_part_does_not_block_the_next_batch(world: World) -> None:
    """After a large batch that fails in the middle, later numbers are right."""
    with world.runner(use_graph=False) as runner:
        world.scene.fail = {"execute_async_v3": 3}
        with pytest.raises(EngineError, match="TensorRT failed on a batch of 4"):
            runner.infer(make_images(16))
        for seed in range(2):
            assert_right(runner.infer(make_images(1, seed)), make_images(1, seed))


@ALL
def test_a_foreign_plan_is_a_mismatch_with_tensorrts_words(world: World, version: str) -> None:
    """A plan of another version, or bytes that are no plan, raise with TensorRT's message and a hint."""
    for plan in (world.build().plan.replace(version.encode(), b"9.9"), b"something else"):
        with pytest.raises(EngineMismatchError, match="Version tag does not match") as caught:
            world.runner_of(plan)
        assert "build-engine" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"FLOAT"', b'"FP8"', "type FP8"),
        (b'"UINT8"', b'"FLOAT"', "images of float32"),
        (b"16, 16, 3", b"3", "no image input"),
    ],
)
def test_an_engine_of_another_graph_is_refused(world: World, old: bytes, new: bytes, message: str) -> None:
    """An unknown type, images that are not uint8, no images at all; and it is freed."""
    plan = world.build().plan.replace(old, new)
    with pytest.raises(EngineError, match=message):
        world.runner_of(plan)


def test_an_engine_for_the_dla_is_loaded_on_its_core(world: World) -> None:
    """The core and the permission for host code are set before the plan is read."""
    world.scene.dla_cores, world.scene.on_dla = 2, ("Conv",)
    plan = world.build("fp16", BuildOptions(dla_core=1, version_compatible=True), weakly_typed=True).plan
    with world.runner_of(plan, dla_core=1, host_code_allowed=True) as runner:
        assert_right(runner.infer(make_images(1)), make_images(1))


@pytest.mark.parametrize("version", ["8.6.1"])
def test_one_execution_context_is_enough(world: World) -> None:
    """TensorRT 8 gives one per optimization profile: the runner creates one and uses it for every batch."""
    with world.runner() as runner:
        for count in (1, 9):
            assert_right(runner.infer(make_images(count)), make_images(count))
    assert world.scene.calls["create_execution_context"] == 1


def test_without_pycuda_the_error_says_how_to_get_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, the command, and what it needs."""
    plan = world.build().plan
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.delitem(sys.modules, "pycuda")
    with pytest.raises(MissingDependencyError) as caught:
        world.runner_of(plan)
    assert "edgead[jetson]" in caught.value.hint
    broken = ModuleType("pycuda")
    monkeypatch.setitem(sys.modules, "pycuda", broken)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)  # type: ignore[arg-type]
    with pytest.raises((EngineError, MissingDependencyError)):
        world.runner_of(plan)


def test_a_runner_is_made_once(world: World) -> None:
    """The stream gets this type."""
    with world.runner() as runner:
        assert isinstance(runner, TensorRTRunner)


def in_threads(*functions: Callable[[], Any]) -> None:
    """Run each on a thread of its own; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            try:
                function()
            except BaseException as error:
                errors.append(error)

        return run

    threads = [threading.Thread(target=guarded(function)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
