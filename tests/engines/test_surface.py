"""The walk that holds our code against the bindings' names finds what it is for, and leaves right code alone."""

from __future__ import annotations

import textwrap

import pytest

from .surface import Program, uses_bindings

HEAD = """
from __future__ import annotations
from types import ModuleType
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import tensorrt as trt
    import pycuda.driver as drv
"""


def problems(code: str, head: str = HEAD) -> list[str]:
    """Texts of the problems in a module of this code."""
    return [problem.text for problem in Program({"m": head + textwrap.dedent(code)}).check().problems]


def test_a_whole_builder_in_the_wanted_style_passes() -> None:
    """Guards, inference through calls, own functions, a logger's subclass and a runtime: nothing to complain about."""
    code = """
    def build(trt: ModuleType, model: bytes, strong: bool) -> bytes:
        logger = _logger(trt)
        builder = trt.Builder(logger)
        flags = 0
        if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
            flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model):
            raise ValueError([parser.get_error(i).desc() for i in range(parser.num_errors)])
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 28)
        if has_flags(trt) and not strong:
            _weak(trt, config)
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, min=(1, 3), opt=(1, 3), max=(4, 3))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        with trt.Runtime(logger) as runtime:
            engine = runtime.deserialize_cuda_engine(plan)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        return bytes(plan)

    def has_flags(trt: ModuleType) -> bool:
        return hasattr(trt.BuilderFlag, "FP16")

    def _weak(trt: ModuleType, config: trt.IBuilderConfig) -> None:
        config.set_flag(trt.BuilderFlag.FP16)
        _pin(trt, config)

    def _pin(trt: ModuleType, config: trt.IBuilderConfig) -> None:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)

    def _logger(trt: ModuleType) -> trt.ILogger:
        class Log(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                if severity != trt.ILogger.VERBOSE:
                    print(msg)

        return Log()

    def copy(drv: ModuleType, engine: trt.ICudaEngine, size: int) -> None:
        stream = drv.Stream()
        host = drv.pagelocked_empty((size,), "u1", mem_flags=drv.host_alloc_flags.DEVICEMAP)
        device: drv.DeviceAllocation = drv.mem_alloc(size)
        drv.memcpy_htod_async(device, host, stream=stream)
        engine.create_execution_context().execute_async_v3(stream.handle)
    """
    report = Program({"m": HEAD + textwrap.dedent(code)}).check()
    assert report.problems == []
    assert report.uses["m"] > 60


WRONG = {
    "misspelt method": ("config.set_flags(x)", "IBuilderConfig.set_flags does not exist"),
    "wrong keyword": ("config.set_memory_pool_limit(pool=x, size=1)", "takes no keyword 'size'"),
    "too many arguments": ("builder.create_builder_config(1)", "takes 0 arguments, got 1"),
    "missing argument": ("config.set_memory_pool_limit(x)", "lacks ['pool_size']"),
    "keyword for an argument without a name": (
        "trt.get_builder_plugin_registry(capability=x)",
        "takes no keyword 'capability'",
    ),
    "method removed in 10": ("engine.get_binding_name(0)", "does not exist in tensorrt 10.3.0, 10.13.3.9"),
    "method added in 10": (
        "engine.create_execution_context(trt.ExecutionContextAllocationStrategy.STATIC)",
        "does not exist in tensorrt 8.6.1",
    ),
    "member gone in 11": ("config.set_flag(trt.BuilderFlag.FP16)", "BuilderFlag.FP16 does not exist in tensorrt 11.4"),
    "member of another enum": ("config.set_flag(trt.DataType.INT8)", "wants BuilderFlag for 'flag', not DataType"),
    "number for a member": ("config.set_flag(0)", "wants a member of BuilderFlag for 'flag', not 0"),
    "member from a number that moves": ("trt.BuilderFlag(4)", "is not the same member in all versions"),
    "number for flags": ("builder.create_network(1)", "a bare number for 'flags'"),
    "shifted number for flags": ("builder.create_network(1 << 0)", "a bare number for 'flags'"),
    "member for flags": (
        "builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)",
        "write 1 << int(member)",
    ),
    "number into flags": ("config.flags = 3", "a bare number for 'flags'"),
    "read-only property": ("engine.name = 'x'", "ICudaEngine.name cannot be written"),
    "misspelt property": ("config.profiling_verbosty = x", "profiling_verbosty does not exist"),
    "wrong object": ("builder.build_serialized_network(config, network)", "wants INetworkDefinition for 'network'"),
    "what a method returns": ("engine.create_execution_context().execute_v3(0)", "IExecutionContext.execute_v3"),
    "element of a list": ("[c.execute_async_v3() for c in contexts]", "lacks ['stream_handle']"),
    "value of a dict": ("buffers['a'].release()", "DeviceAllocation.release does not exist in pycuda"),
    "misspelt class": ("trt.OnnxParsr(network, logger)", "tensorrt.OnnxParsr does not exist"),
    "misspelt annotation": ("e: trt.ICudaEngin = x", "no version of tensorrt has the type ICudaEngin"),
    "misspelt exception": ("try:\n        pass\n    except drv.Eror:\n        pass", "pycuda.Eror does not exist"),
    "hidden keywords": ("builder.create_network(**settings)", "hidden"),
    "dynamic name": ("getattr(trt.BuilderFlag, name)", "not written out"),
    "guard on a name that never was": ("hasattr(trt.BuilderFlag, 'FP61')", "no version has BuilderFlag.FP61"),
    "unknown receiver": ("x.execute_async_v3(0)", "unresolved: .execute_async_v3"),
    "unknown receiver, written": ("x.profiling_verbosity = 1", "unresolved: .profiling_verbosity"),
    "pycuda keyword": ("drv.memcpy_htod_async(x, x, strm=x)", "takes no keyword 'strm'"),
    "cuda keyword": ("cudart.cudaStreamBeginCapture(x, capture_mode=x)", "takes no keyword 'capture_mode'"),
    "cuda member": ("cudart.cudaStreamCaptureMode.ThreadLocal", "does not exist in cuda.bindings"),
    "gone from cuda 13": ("cudart.cudaEventElapsedTime_v2(x, x)", "does not exist in cuda.bindings 13.5.0"),
    "a part without facts": ("from cuda.bindings import driver", "no facts about cuda.bindings.driver"),
}
FRAME = """
def f(
    trt, drv, cudart, x, name, settings,
    builder: trt.Builder, config: trt.IBuilderConfig, network: trt.INetworkDefinition, engine: trt.ICudaEngine | None,
    logger: trt.ILogger, contexts: list[trt.IExecutionContext], buffers: dict[str, drv.DeviceAllocation],
) -> None:
    {}
"""


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_found(case: str) -> None:
    """One wrong line each, and the message that says so."""
    code, message = WRONG[case]
    found = problems(FRAME.format(code))
    assert any(message in text for text in found), found


RIGHT_GUARDS = (
    "if hasattr(trt.BuilderFlag, 'FP16'):\n        {}",
    "if not hasattr(trt.BuilderFlag, 'FP16'):\n        return\n    {}",
    "if not hasattr(trt.BuilderFlag, 'FP16'):\n        pass\n    else:\n        {}",
    "if name and hasattr(trt.BuilderFlag, 'FP16'):\n        {}",
    "if not (name or not hasattr(trt.BuilderFlag, 'FP16')):\n        {}",
    "if not hasattr(trt.BuilderFlag, 'FP16') or name:\n        raise ValueError\n    {}",
    "hasattr(trt.BuilderFlag, 'FP16') and {}",
    "has = hasattr(trt.BuilderFlag, 'FP16')\n    if has:\n        {}",
    "assert hasattr(trt.BuilderFlag, 'FP16')\n    {}",
    "for i in x:\n        if not hasattr(trt.BuilderFlag, 'FP16'):\n            continue\n        {}",
    "y = {} if hasattr(trt.BuilderFlag, 'FP16') else None",
    "if 'FP16' in trt.BuilderFlag.__members__:\n        {}",
    "if hasattr(trt, 'IInt8EntropyCalibrator2'):\n        {}",
)
WRONG_GUARDS = (
    "if not hasattr(trt.BuilderFlag, 'FP16'):\n        {}",
    "if hasattr(trt.BuilderFlag, 'FP16'):\n        return\n    {}",
    "if hasattr(trt.BuilderFlag, 'FP16'):\n        pass\n    else:\n        {}",
    "if name or hasattr(trt.BuilderFlag, 'FP16'):\n        {}",
    "if not (name and not hasattr(trt.BuilderFlag, 'FP16')):\n        {}",
    "if not hasattr(trt.BuilderFlag, 'FP16') and name:\n        raise ValueError\n    {}",
    "hasattr(trt.BuilderFlag, 'FP16') or {}",
    "if hasattr(trt.BuilderFlag, 'FP16'):\n        pass\n    {}",
    "if hasattr(trt.BuilderFlag, 'TF32'):\n        {}",
    "y = None if hasattr(trt.BuilderFlag, 'FP16') else {}",
    "if 'FP16' not in trt.BuilderFlag.__members__:\n        {}",
    "if trt.__version__ < '11':\n        {}",
    "try:\n        {}\n    except AttributeError:\n        pass",
)


@pytest.mark.parametrize("guard", RIGHT_GUARDS)
def test_a_guard_in_the_right_direction_is_understood(guard: str) -> None:
    """The flag that 11 has not is used only where the test says that it is there."""
    assert problems(FRAME.format(guard.format("config.set_flag(trt.BuilderFlag.FP16)"))) == []


@pytest.mark.parametrize("guard", WRONG_GUARDS)
def test_a_guard_in_the_wrong_direction_is_found(guard: str) -> None:
    """The same tests the other way round, or about something else, leave 11 without its flag."""
    found = problems(FRAME.format(guard.format("config.set_flag(trt.BuilderFlag.FP16)")))
    assert any("BuilderFlag.FP16 does not exist in tensorrt 11.4.0.106" in text for text in found), found


def test_a_guard_is_no_licence_for_what_it_does_not_say() -> None:
    """Both exist in 10.x, only one of them in 8.6: a guard on the older does not cover the younger."""
    code = "if hasattr(trt.BuilderFlag, 'FP16'):\n        config.set_flag(trt.BuilderFlag.BF16)"
    assert problems(FRAME.format(code)) == ["BuilderFlag.BF16 does not exist in tensorrt 8.6.1"]


def test_code_that_no_version_reaches_is_found() -> None:
    """Code that cannot be checked is reported: here two guards contradict each other."""
    code = (
        "if not hasattr(trt.BuilderFlag, 'FP16'):\n        if hasattr(trt.BuilderFlag, 'INT8'):\n"
        "            config.set_flag(trt.BuilderFlag.INT8)"
    )
    assert any("no version of tensorrt reaches this line" in text for text in problems(FRAME.format(code)))


def test_getattr_with_a_default_wants_its_test() -> None:
    """The name must exist somewhere; its result is used where it was compared with None."""
    right = "y = getattr(trt.BuilderFlag, 'FP16', None)\n    if y is not None:\n        config.set_flag(y)"
    assert problems(FRAME.format(right)) == []
    typo = "y = getattr(trt.BuilderFlag, 'FP61', None)"
    assert any("no version has BuilderFlag.FP61" in text for text in problems(FRAME.format(typo)))
    untested = "y = getattr(trt, 'IInt8EntropyCalibrator2', None)\n    y.get_batch_size()"
    assert any("test it against None" in text for text in problems(FRAME.format(untested)))


def test_private_functions_are_claimed_for_their_callers() -> None:
    """A second caller without the guard, or none at all, brings the missing version back."""
    code = """
    def build(trt: ModuleType, config: trt.IBuilderConfig) -> None:
        if hasattr(trt.BuilderFlag, "FP16"):
            _weak(trt, config)

    def _weak(trt: ModuleType, config: trt.IBuilderConfig) -> None:
        config.set_flag(trt.BuilderFlag.FP16)
    """
    assert problems(code) == []
    second = (
        code + "\n    def other(trt: ModuleType, config: trt.IBuilderConfig) -> None:\n        _weak(trt, config)\n"
    )
    passed_on = code + "\n    handler = _weak\n"
    public = code.replace("_weak", "weak")
    uncalled = code.replace("            _weak(trt, config)", "            pass")
    for wrong in (second, passed_on, public, uncalled):
        assert problems(wrong) == ["BuilderFlag.FP16 does not exist in tensorrt 11.4.0.106"], wrong


def test_objects_are_followed_through_attributes_and_own_functions() -> None:
    """Other methods know what `__init__` assigns, a property returns and an own function returns."""
    code = """
    class Runner:
        def __init__(self, trt: ModuleType, plan: bytes) -> None:
            self._trt = trt
            self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
            self._engine = self._load(plan)
            self._context = None
            self._is_old = hasattr(trt.BuilderFlag, "FP16")

        def _load(self, plan: bytes) -> trt.ICudaEngine:
            return self._runtime.deserialize_cuda_engine(plan)

        @property
        def shape(self) -> tuple[int, ...]:
            return tuple(self._engine.get_tensor_shape("image"))

        def run(self, stream: drv.Stream) -> None:
            if self._context is None:
                self._context = self._engine.create_execution_context()
            self._context.execute_async_v3(stream.handle)
            if self._is_old:
                self._trt.BuilderFlag.FP16
    """
    assert problems(code) == []
    for right, wrong, message in (
        ("stream.handle", "stream.pointer", "Stream.pointer does not exist in pycuda"),
        ("get_tensor_shape", "get_binding_shape", "ICudaEngine.get_binding_shape"),
        ("execute_async_v3(", "execute_async_v2(", "IExecutionContext.execute_async_v2"),
        ("if self._is_old", "if not self._is_old", "BuilderFlag.FP16"),
        ("deserialize_cuda_engine", "deserialize_engine", "Runtime.deserialize_engine"),
    ):
        found = problems(code.replace(right, wrong))
        assert any(message in text for text in found), (wrong, found)


def test_types_cross_from_one_module_into_another() -> None:
    """A function that another module defines brings its annotation along, and gets its callers' versions."""
    one = HEAD + (
        "def make(trt: ModuleType) -> trt.IBuilderConfig: ...\n"
        "def _weak(trt: ModuleType) -> None:\n    trt.BuilderFlag.FP16\n"
    )
    two = HEAD + (
        "from p.one import _weak, make\n"
        "def f(trt: ModuleType) -> None:\n    config = make(trt)\n    config.{}(trt.BuilderFlag.TF32)\n"
        "    if hasattr(trt.BuilderFlag, 'FP16'):\n        _weak(trt)\n"
    )
    assert Program({"p.one": one, "p.two": two.format("set_flag")}).check().problems == []
    (problem,) = Program({"p.one": one, "p.two": two.format("put_flag")}).check().problems
    assert str(problem).startswith("p.two:11: IBuilderConfig.put_flag does not exist")


SUBCLASS = """
def make(trt: ModuleType) -> trt.ILogger:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            {start}

        def {method}(self, {arguments}) -> None:
            print(self)

    return Log()
"""


def test_subclasses_start_their_base_and_take_what_arrives() -> None:
    """The bindings refuse an object whose base was not started, and call what it overrides by position."""
    right = {"start": "super().__init__()", "method": "log", "arguments": "severity, msg"}
    assert problems(SUBCLASS.format(**right)) == []
    for change, message in (
        ({"start": "pass"}, "does not call ILogger.__init__"),
        ({"method": "lgo"}, "overrides nothing of ILogger"),
        ({"arguments": "msg"}, "takes 1 arguments"),
    ):
        found = problems(SUBCLASS.format(**right | change))
        assert any(message in text for text in found), found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import tensorrt", True),
        ("def f():\n    import tensorrt as trt", True),
        ("import pycuda.driver as drv", True),
        ("from cuda.bindings import runtime", True),
        ("importlib.import_module('tensorrt')", True),
        ("import onnxruntime", False),
        ("'tensorrt'", False),
    ],
)
def test_modules_that_use_the_bindings_are_recognised(line: str, expected: bool) -> None:
    """By their imports, wherever they stand."""
    assert uses_bindings(line) is expected


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("import tensorrt", "tensorrt.Bilder"),
        ("import tensorrt as rt", "rt.Bilder"),
        ("from tensorrt import Bilder", ""),
        ("from pycuda import driver as cuda", "cuda.Strem()"),
        ("import pycuda.driver", "pycuda.driver.Strem()"),
        ("from cuda.bindings import runtime", "runtime.cudaStreamMake()"),
        ("import cuda.bindings.runtime as rt", "rt.cudaStreamMake()"),
        ("from cuda import cudart", "cudart.cudaStreamMake()"),
        ("import importlib\nengine = importlib.import_module('tensorrt')", "engine.Bilder"),
    ],
)
def test_every_way_of_importing_is_followed(line: str, wrong: str) -> None:
    """The name that it binds is the module, so that a misspelt name of it is found."""
    assert any("does not exist" in text for text in problems(f"{line}\n{wrong}\n", head=""))
