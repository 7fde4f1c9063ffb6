"""What a runner, a source or a sink is that has nothing to free."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self


class OwnsNothing:
    """A context manager that ends without doing anything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
