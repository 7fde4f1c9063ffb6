"""An engine in a process of its own: the same results, the lowest priority, and an end of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.commands.train import TrainResult
from edgead.engines.detached import LOWEST, DetachedRunner, open_detached
from edgead.engines.opening import open_with_thresholds
from edgead.errors import EngineError
from edgead.runner import REFERENCE


@pytest.fixture(scope="module")
def detached(tiny_result: TrainResult) -> Iterator[DetachedRunner]:
    with DetachedRunner(tiny_result.bundle, REFERENCE, nice=1) as runner:
        yield runner


def test_it_gives_the_results_of_an_engine_of_this_process(tiny_result: TrainResult, detached: DetachedRunner) -> None:
    """Specs and outputs are those of the engine itself, for one image and for a batch."""
    bundle = tiny_result.bundle
    images = np.asarray(bundle.reference()["images"])[:2]
    own, _ = open_with_thresholds(bundle, REFERENCE, threads=1)
    with own:
        assert (detached.input_spec, detached.output_specs) == (own.input_spec, own.output_specs)
        for batch in (images[:1], images):
            expected, found = own.infer(batch), detached.infer(batch)
            assert expected.keys() == found.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(values, found[name])


def test_its_process_has_a_lower_priority_and_says_what_it_uses(detached: DetachedRunner) -> None:
    """Its nice value is raised, this one's is not; processor time and memory are counted."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, detached.pid) == max(1, own)
    seconds, memory_mb = detached.usage()
    assert seconds > 0.1
    assert 20 < memory_mb < 2000


def test_an_error_of_the_engine_is_an_error_here(detached: DetachedRunner) -> None:
    """A batch of the wrong size is refused, and the next one is judged."""
    with pytest.raises(EngineError, match="ShapeError"):
        detached.infer(np.zeros((1, 3, 3, 3), np.uint8))
    _, height, width, _ = detached.input_spec.shape
    assert detached.infer(np.zeros((1, height or 0, width or 0, 3), np.uint8))["pred_score"].shape == (1,)


@pytest.mark.slow
def test_engines_that_cannot_be_opened_are_named(bundle_copy: Callable[[], Bundle]) -> None:
    """The message is that of the opening: an engine that is not there, and a bundle that was changed since."""
    bundle = bundle_copy()
    with pytest.raises(EngineError, match="has no engine 'tensorrt-int8'"):
        open_detached(bundle, "tensorrt-int8")
    with pytest.raises(EngineError) as refused:
        open_with_thresholds(bundle, "onnxruntime-int8", threads=1)
    assert f"edgead build-engine {bundle.path} --int8" in refused.value.hint, "without it another engine would be built"
    bundle.model_path.write_bytes(b"something else")
    with pytest.raises(EngineError, match=r"changed|digest|hash"):
        open_detached(bundle, REFERENCE)


@pytest.mark.slow
def test_a_process_that_stands_still_is_ended(tiny_result: TrainResult) -> None:
    """Also with a batch that no buffer takes, which it never reads; what was killed leaves nothing behind."""
    runner = DetachedRunner(tiny_result.bundle, REFERENCE, nice=0, call_s=1.5)
    _, height, width, _ = runner.input_spec.shape
    os.kill(runner.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match=r"did not answer within 1\.5 s, and was ended"):
        runner.infer(np.zeros((2000, height or 0, width or 0, 3), np.uint8))
    with pytest.raises(EngineError, match="by signal 9"):
        runner.infer(np.zeros((1, height or 0, width or 0, 3), np.uint8))
    assert runner.usage() == (0.0, 0.0)
    with pytest.raises(ProcessLookupError):
        os.kill(runner.pid, 0)


@pytest.mark.slow
def test_a_killed_process_and_a_closed_runner(tiny_result: TrainResult) -> None:
    """At the lowest priority. A kill, as by the kernel without memory, is an error with its signal; closing ends the process."""
    _, height, width, _ = (runner := DetachedRunner(tiny_result.bundle, REFERENCE)).input_spec.shape
    batch = np.zeros((1, height or 0, width or 0, 3), np.uint8)
    assert os.getpriority(os.PRIO_PROCESS, runner.pid) == LOWEST
    os.kill(runner.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="by signal 9"):
        runner.infer(batch)
    runner.__exit__(None, None, None)
    assert runner.usage() == (0.0, 0.0)
