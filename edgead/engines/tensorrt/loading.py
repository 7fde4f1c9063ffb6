"""Loading a serialized engine, and its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.engines.tensorrt.messages import quoted, shared_log, shared_logger
from edgead.errors import EngineError, EngineMismatchError

if TYPE_CHECKING:
    import tensorrt as trt

# by member name, because numbers change; `trt.nptype` of 8.x uses numpy names that no longer exist
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_REBUILD = "Rebuild it here: edgead build-engine"


class Refused(RuntimeError):
    """TensorRT refused without raising an exception; `quoting` adds its log."""


@dataclass(frozen=True)
class EngineTensor:
    """One input or output of an engine.

    Attributes:
        name: Tensor name in the graph.
        dtype: numpy type.
        shape: Tensor shape; -1 where the engine takes a range of sizes.
        is_input: Whether the tensor is an input; otherwise an output.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_input: bool


@dataclass
class LoadedEngine:
    """An engine, and the runtime that must outlive it.

    Attributes:
        tensors: Inputs and outputs in the engine's order.
        least, most: Smallest and largest number of images per call.
    """

    runtime: trt.Runtime | None
    engine: trt.ICudaEngine | None
    tensors: tuple[EngineTensor, ...] = ()
    least: int = 0
    most: int = 0

    @property
    def native(self) -> trt.ICudaEngine:
        """TensorRT's engine, for use within an expression only: a variable in a traceback would keep it alive."""
        if self.engine is None:
            raise EngineError("This engine was closed.")
        return self.engine

    @property
    def inputs(self) -> tuple[EngineTensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.is_input)

    @property
    def outputs(self) -> tuple[EngineTensor, ...]:
        return tuple(tensor for tensor in self.tensors if not tensor.is_input)

    def close(self) -> None:
        """Free the engine, then the runtime; no TensorRT object may still refer to them."""
        self.engine = None
        self.runtime = None


def load_engine(plan: bytes, *, dla_core: int | None, host_code_allowed: bool) -> LoadedEngine:
    """Deserialize an engine on the current context's GPU.

    A plan is executable code: the caller must have checked that this machine built it (`fingerprint.verify_engine`).

    Args:
        plan: Serialized engine.
        dla_core: DLA core the engine was built for; None = none.
        host_code_allowed: Whether the engine was built version compatible and therefore contains host code.

    Raises:
        EngineMismatchError: If TensorRT rejects the plan; quotes TensorRT's log.
        EngineError: If the engine was not built from a graph of edgead.
    """
    loaded = LoadedEngine(None, None)
    try:
        _deserialize(loaded, plan, dla_core=dla_core, host_code_allowed=host_code_allowed)
        loaded.tensors = tuple(_tensors(loaded))
        loaded.least, loaded.most = _batch_range(loaded)
    except BaseException:
        loaded.close()
        raise
    return loaded


@contextmanager
def quoting(doing: str) -> Iterator[None]:
    """Turn a refusal or an exception of the bindings within the block into an EngineError that quotes TensorRT's log."""
    with shared_log().recording() as lines:
        try:
            yield
        except Refused as error:
            raise EngineError(f"{error} {quoted(lines)}", hint=_REBUILD) from error
        except (TypeError, RuntimeError, MemoryError) as error:
            raise EngineError(f"TensorRT failed while {doing}: {error}. {quoted(lines)}", hint=_REBUILD) from error


def _deserialize(loaded: LoadedEngine, plan: bytes, *, dla_core: int | None, host_code_allowed: bool) -> None:
    import tensorrt as trt

    with shared_log().recording() as lines:
        try:
            loaded.runtime = trt.Runtime(shared_logger())
            if host_code_allowed:
                loaded.runtime.engine_host_code_allowed = True
            if dla_core is not None:
                loaded.runtime.DLA_core = dla_core
            loaded.engine = loaded.runtime.deserialize_cuda_engine(plan)
        except (TypeError, RuntimeError, MemoryError) as error:
            raise EngineMismatchError(
                f"TensorRT {trt.__version__} cannot load the engine: {error}. {quoted(lines)}", hint=_REBUILD
            ) from error
        if loaded.engine is None:
            raise EngineMismatchError(f"TensorRT {trt.__version__} rejected the engine. {quoted(lines)}", hint=_REBUILD)


def _tensors(loaded: LoadedEngine) -> Iterator[EngineTensor]:
    import tensorrt as trt

    for i in range(loaded.native.num_io_tensors):
        name = loaded.native.get_tensor_name(i)
        kind = loaded.native.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise EngineError(f"The engine's tensor {name!r} has the type {kind}, which edgead does not support.")
        yield EngineTensor(
            name=name,
            dtype=np.dtype(_DTYPES[kind]),
            shape=tuple(loaded.native.get_tensor_shape(name)),
            is_input=loaded.native.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
        )


def _batch_range(loaded: LoadedEngine) -> tuple[int, int]:
    images = next((tensor for tensor in loaded.inputs if len(tensor.shape) == 4), None)
    if images is None:
        raise EngineError("The engine has no image input (N, H, W, 3).", hint=_REBUILD)
    if images.shape[0] >= 0:
        return images.shape[0], images.shape[0]
    # profiles exist for inputs only: output shapes follow from them
    least, _, most = loaded.native.get_tensor_profile_shape(images.name, 0)
    return int(least[0]), int(most[0])
