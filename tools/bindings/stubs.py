"""Stub libraries with only the names that TensorRT's Python bindings load, so that the bindings import.

Each function takes anything and returns a null pointer: names and signatures can be read, nothing can be built or run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

LIBRARIES = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRuntime_INTERNAL",
        "createInferRefitter_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}
PARSERS_OF_8 = (
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)


class NoCompilerError(Exception):
    """Neither `$CC` nor a C compiler of the usual names is there."""


def compiler() -> str:
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        raise NoCompilerError("no C compiler found; install gcc or set CC")
    return found


def build_stubs(major: int, folder: Path) -> Path:
    """Compile the libraries of one major version of TensorRT into `folder`, and give it."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = LIBRARIES | ({"nvparsers": PARSERS_OF_8} if major == 8 else {})
    for name, symbols in wanted.items():
        library = f"lib{name}.so.{major}"
        source = folder / f"{name}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols), encoding="utf-8")
        options = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library)]
        subprocess.run([compiler(), *options, str(source)], check=True)
    return folder
