"""Build options of a TensorRT engine, besides its precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.errors import EngineBuildError

WORKSPACE_LIMIT_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class BatchRange:
    """Images per call: smallest number, number to tune for, largest number."""

    least: int = 1
    tuned: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.tuned <= self.most:
            raise EngineBuildError(
                f"A batch range must grow from 1 (got {self.least}, {self.tuned}, {self.most}).",
                hint="Give the smallest, the usual and the largest number of images per call, for example 1, 2, 4.",
            )

    @property
    def is_fixed(self) -> bool:
        return self.least == self.most


@dataclass(frozen=True)
class BuildOptions:
    """Everything that changes the engine except its precision.

    Attributes:
        batch: Images per call; a fixed number gives the best kernels and lets one CUDA graph serve every call.
        workspace_bytes: Scratch memory a kernel may use; None = a quarter of the memory, at most 2 GiB. TensorRT's own
            default is all memory, which a Jetson shares with its CPU.
        dla_core: DLA core for the layers before the flow; None = all layers on the GPU.
        optimization_level: 0 (fast build) to 5; None = TensorRT's default, 3.
        version_compatible: Whether a newer TensorRT can load the plan (see `compatible`); can be slower.
        hardware_compatible: Whether newer GPUs can load the plan; slower.
        timing_cache: Folder that keeps measured kernel times between builds; None = measure again every time.
    """

    batch: BatchRange = BatchRange()
    workspace_bytes: int | None = None
    dla_core: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    timing_cache: Path | None = None


def workspace_limit(wanted: int | None, total_bytes: int) -> int:
    """Workspace limit in bytes.

    Args:
        wanted: Requested size; None = a quarter of the memory, at most `WORKSPACE_LIMIT_BYTES`.
        total_bytes: GPU memory; on a Jetson, the machine's memory.

    Raises:
        EngineBuildError: If `wanted` is not positive, or not less than all memory.
    """
    if wanted is None:
        return min(total_bytes // 4, WORKSPACE_LIMIT_BYTES)
    if not 0 < wanted < total_bytes:
        raise EngineBuildError(
            f"The workspace must be more than 0 and less than all memory (got {wanted / 1e6:.0f} MB of "
            f"{total_bytes / 1e6:.0f} MB).",
            hint=f"Leave it out to use {min(total_bytes // 4, WORKSPACE_LIMIT_BYTES) / 1e6:.0f} MB.",
        )
    return wanted
