"""No-op context manager for runners, sources and sinks without resources."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self


class OwnsNothing:
    """Context manager that frees nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
