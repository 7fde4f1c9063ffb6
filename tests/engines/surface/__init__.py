"""Hold code that uses TensorRT, pycuda or cuda-bindings against the tables of their names, without importing them.

`check_modules` walks a module's syntax tree and follows what each expression is. Every attribute, argument name, argument
count and enum member on such an object must exist in every version that may reach the line; all versions in the tables
may, unless a test says otherwise. What the code has to look like:

**Modules.** The name `trt` is TensorRT, `drv` is `pycuda.driver`, `cudart` is `cuda.bindings.runtime`, wherever they
come from: an import, a parameter (`def build(trt: ModuleType, ...)`), an attribute (`self._trt`). Other names are
modules after `import tensorrt as x`, `from cuda.bindings import runtime` or `importlib.import_module("tensorrt")`.

**Types.** Parameters, and fields that no visible call fills, are annotated with the real name, under
`from __future__ import annotations` and, if need be, with `if TYPE_CHECKING: import tensorrt as trt`:
`engine: trt.ICudaEngine`, `context: trt.IExecutionContext | None`, `buffers: dict[str, drv.DeviceAllocation]`,
`def parse(...) -> trt.INetworkDefinition`. Locals and `self.x = ...` follow from what is assigned: constructors and
methods have their result's type from the tables, our own functions from their annotations. `Any` says nothing: a name of
TensorRT's on an object of unknown type is a problem, too. `typing.cast("trt.ITensor", x)` helps where nothing else does.

**Versions.** Ask for names, not for version numbers. Understood are `hasattr(trt.BuilderFlag, "FP16")`,
`"FP16" in trt.BuilderFlag.__members__` and `x = getattr(trt, "Y", None)` with `x is not None`; with `not`, `and`, `or`,
`assert`, conditional expressions, early `return`, `raise` or `continue`; kept in a variable or `self.x`; or as the only
`return` of a function or property of our own. A function whose name begins with an underscore is claimed for the
versions of the places that call it; every other one for all versions.

**Also a problem**: a bare number where an enum member or flags are expected (numbers move between versions), an enum
member for flags without `1 << int(...)`, `**arguments`, names that are not written out (`getattr(trt, name)`), a guard on
a name that no version has, code that no version reaches, a subclass of TensorRT's without the base's `__init__`.
"""

from __future__ import annotations

from .program import Program, Report, uses_bindings
from .values import Problem

__all__ = ["Problem", "Program", "Report", "uses_bindings"]
