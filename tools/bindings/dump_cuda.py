"""Import one version of `cuda.bindings.runtime` and print the names that streams, graphs and memory need as JSON.

Usage: `python -m tools.bindings.dump_cuda FOLDER ...` with the folders of cuda-bindings and cuda-pathfinder.
It imports without a driver: its functions look for one when they are called.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from types import ModuleType
from typing import Any

WANTED = re.compile(
    r"cuda(Stream|Graph(Instantiate|Launch|Upload|Destroy|ExecDestroy|ExecUpdate)|Malloc|Free|Host|Memcpy(Async)?$|Memset|Event"
    r"|ThreadExchange|GetDevice|SetDevice|InitDevice|Device(Synchronize|GetAttribute|GetStreamPriorityRange)"
    r"|GetError|GetLast|PeekAt|PointerGetAttributes|MemGetInfo|RuntimeGetVersion|DriverGetVersion)"
)
TYPES = {
    "cudaError_t",
    "cudaStreamCaptureMode",
    "cudaStreamCaptureStatus",
    "cudaMemcpyKind",
    "cudaMemoryType",
    "cudaDeviceAttr",
    "cudaDeviceProp",
    "cudaStream_t",
    "cudaEvent_t",
    "cudaGraph_t",
    "cudaGraphExec_t",
}


def members_of(cls: type) -> dict[str, Any]:
    """An enum's members, or a structure's fields."""
    if hasattr(cls, "__members__"):
        return {"members": {name: int(value) for name, value in cls.__members__.items()}}
    names = [name for name, value in vars(cls).items() if not name.startswith("_") and not callable(value)]
    return {"properties": dict.fromkeys(names, "object, writable")} if names else {}


def module_facts(module: ModuleType) -> dict[str, Any]:
    """Functions with their argument names, the types above, and the flags among the numbers."""
    facts: dict[str, Any] = {"classes": {}, "functions": {}, "values": {}}
    for name, value in vars(module).items():
        if name in TYPES:
            facts["classes"][name] = members_of(value)
        elif isinstance(value, int) and not isinstance(value, bool) and WANTED.match(name):
            facts["values"][name] = value
        elif WANTED.match(name) and callable(value) and not isinstance(value, type):
            parameters = inspect.signature(value).parameters.values()
            shown = [p.name if p.default is p.empty else f"{p.name} = {p.default!r}" for p in parameters]
            facts["functions"][name] = [f"({', '.join(shown)}) -> tuple"]
    return facts


def main() -> None:
    """Dump what the folders given on the command line hold."""
    sys.path[:0] = sys.argv[1:]
    bindings = importlib.import_module("cuda.bindings")
    module = importlib.import_module("cuda.bindings.runtime")
    json.dump({"version": bindings.__version__, **module_facts(module)}, sys.stdout)


if __name__ == "__main__":
    main()
